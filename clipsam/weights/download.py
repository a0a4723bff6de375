"""Download of published files, and copies from a folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from huggingface_hub import constants

from .bundle import WeightsError
from .extra_networks import read_network
from .files import check_named_hash
from .hub import check_space, drop_if_damaged, fetch, look_up
from .local_files import (
    LocalFiles,
    accepted_names,
    find_in_cache,
    find_in_user_folder,
    locate,
    look_into,
    needed_files,
    user_folder,
)
from .presets import Preset
from .pretrained import read_clip, read_clip_tokenizer, read_sam
from .published import WEIGHTS, PublishedWeights


class Download:
    """A download of published networks.

    Attributes:
        size: total number of bytes to download.
    """

    def __init__(self, preset: Preset, networks: Sequence[PublishedWeights]) -> None:
        """Query the hub for the missing files.

        Existing files are compared with their checksums; damaged ones are downloaded again.

        Args:
            preset: preset whose SAM and CLIP are verified, if they are among the networks.
            networks: the networks.

        Raises:
            WeightsError: the hub does not respond or refuses, or the disk is too small.
        """
        self._preset, self._networks = preset, networks
        wanted = []
        for published in networks:
            for names in needed_files(published):
                if find_in_user_folder(published, names) is not None:
                    continue
                cached = find_in_cache(published, names)
                if cached is None or drop_if_damaged(cached):
                    wanted.append((published.repo, names))
        self._files = [look_up(repo, names) for repo, names in wanted]
        self.size = self.missing_bytes
        check_space(self.size, Path(constants.HF_HUB_CACHE))

    @property
    def missing_bytes(self) -> int:
        """Number of bytes to download; may be read from another thread during :meth:`run`."""
        return sum(file.missing_bytes for file in self._files)

    def run(self) -> None:
        """Download and verify everything.

        Raises:
            WeightsError: the download failed; no incomplete file is left.
        """
        for file in self._files:
            fetch(file)
        found = {published: locate(published) for published in self._networks}
        _check(self._preset, {one: files for one, files in found.items() if files is not None})


def download(preset: Preset, extra_networks: Sequence[PublishedWeights] = ()) -> None:
    """Download a preset's SAM and CLIP and other networks, see :class:`Download`."""
    Download(preset, (*preset.sources, *extra_networks)).run()


def copy_from_folder(
    preset: Preset, folder: Path, extra_networks: Sequence[PublishedWeights] = ()
) -> None:
    """Copy published files from a folder on this machine, after validation.

    Args:
        preset: preset of the SAM and CLIP.
        folder: holds each repository as ``owner/name/`` or ``name/``; instead of SAM's, it may
            contain Meta's own checkpoint. Files that already exist here may be missing.
        extra_networks: further networks.

    Raises:
        WeightsError: files are missing, damaged, or another network's; then nothing is copied.
    """
    sources = {}
    for published in (*preset.sources, *extra_networks):
        files = look_into(folder, published) or locate(published)
        if files is None:
            names = " or ".join(accepted_names(published, WEIGHTS))
            extras = "".join(f", {name}" for name in published.extras)
            raise WeightsError(f"{folder} must contain {published.repo}/ with {names}{extras}")
        if files.weights.name == published.checkpoint:
            check_named_hash(files.weights)
        sources[published] = files
    _check(preset, sources)
    copies = [
        (source, user_folder(published) / name)
        for published, files in sources.items()
        if files != locate(published)
        for name, source in ((files.weights.name, files.weights), *files.extras.items())
    ]
    home = Path(constants.HF_HOME)
    check_space(sum(source.stat().st_size for source, _ in copies), home)
    for source, target in copies:
        _copy(source, target)


def _copy(source: Path, target: Path) -> None:
    """Copy a file atomically."""
    partial = target.with_name(f"{target.name}.incomplete")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, partial)
        partial.replace(target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise WeightsError(f"{source} cannot be copied to {target} ({error.strerror})") from None


def _check(preset: Preset, files: Mapping[PublishedWeights, LocalFiles]) -> None:
    """Validate files.

    Raises:
        WeightsError: they do not fit the preset, or belong to another network.
    """
    for published, found in files.items():
        if published == preset.sam_source:
            read_sam(found, preset.sam)
        elif published == preset.clip_source:
            read_clip(found, preset.clip)
            read_clip_tokenizer(found, preset.clip)
        else:
            read_network(published, found)
