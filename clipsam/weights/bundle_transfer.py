"""Atomic transfer of bundles to and from a repository of the hub or a folder."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError, safe_open

from .bundle import CONFIG, WEIGHTS, WeightsError, read_config
from .checkpoints import find_checkpoint
from .hub import check_space, drop_if_damaged, fetch, find_cached, find_remote, look_up, upload
from .model_card import WRITTEN, MethodSummary, model_card
from .presets import PRESETS

CARD = "README.md"
FILES = (CONFIG, WEIGHTS, CARD)
"""Transferred files; others in a bundle's folder are ignored."""


@dataclass(frozen=True)
class PullResult:
    """A pulled bundle.

    Attributes:
        folder: its folder.
        method, preset: its method and preset.
        is_new: whether it did not exist before.
    """

    folder: Path
    method: str
    preset: str
    is_new: bool


def push_bundle(
    bundle: Path, target: str, methods: Mapping[str, MethodSummary], private: bool = False
) -> str:
    """Upload a bundle with its model card to a repository of the hub, or copy it to a folder.

    The card is generated from the bundle's config, unless the user wrote one. The bundle itself is
    unchanged.

    Args:
        bundle: its folder.
        target: see :func:`parse_location`. In a folder, a bundle of the same method and preset is
            replaced.
        methods: those that have bundles, by id.
        private: make the repository private if it is created.

    Returns:
        Its URL or folder.

    Raises:
        WeightsError: the bundle is damaged or of an unknown method or preset, the target is in
            use, or the hub refuses; the target is then unchanged.
    """
    place = parse_location(target)
    config = check_bundle(bundle, methods)
    about = methods[config["method"]]
    source = place if isinstance(place, str) else f"path/to/{place.resolve().name}"
    card = _own_card(bundle) or model_card(bundle, config, about, source).encode()
    files: dict[str, Path | bytes] = {
        CONFIG: bundle / CONFIG,
        WEIGHTS: bundle / WEIGHTS,
        CARD: card,
    }
    if isinstance(place, str):
        message = f"{about.name} for the preset {config['preset']}"
        return upload(place, files, message, private)
    if private:
        raise WeightsError(f"{place} is a folder, but only a repository of the hub can be private")
    folder = place.resolve()
    if not _is_free(folder):
        _check_replaceable(folder, config, check_bundle(folder, methods))
    _write_folder(folder, files)
    return str(place)


def pull_bundle(source: str, methods: Collection[str], out: Path | None = None) -> PullResult:
    """Download a bundle from a repository of the hub, or copy it from a folder.

    The SAM and CLIP of its preset need not be on this machine.

    Args:
        source: see :func:`parse_location`.
        methods: ids of those that have bundles.
        out: target folder; ``None`` for the default one of its method.

    Raises:
        WeightsError: it is not a complete bundle of a known method and preset, the folder is in
            use, or the hub refuses; nothing is then written.
    """
    folder, config = fetch_bundle(source, methods)
    method, preset = config["method"], config["preset"]
    target = out or find_checkpoint(preset, method)
    if not _is_free(target):
        if all(_are_same(folder / name, target / name) for name in (CONFIG, WEIGHTS)):
            return PullResult(target, method, preset, is_new=False)
        raise WeightsError(
            f"{target} contains something else; choose another folder with --out, or move it away"
        )
    paths = {name: folder / name for name in FILES if (folder / name).is_file()}
    _write_folder(target.resolve(), paths)
    return PullResult(target, method, preset, is_new=True)


def fetch_bundle(source: str, methods: Collection[str]) -> tuple[Path, dict]:
    """Return a bundle's folder, that of a repository in the hub's cache, and its config.

    Args:
        source: see :func:`parse_location`.
        methods: ids of those that have bundles.

    Raises:
        WeightsError: it is no whole bundle of a known method and preset, or the hub refuses.
    """
    place = parse_location(source)
    folder = place if isinstance(place, Path) else _download(place)
    return folder, check_bundle(folder, methods)


def parse_location(text: str) -> Path | str:
    """Parse a folder or a repository ``owner/name`` of the hub.

    A folder exists already, starts with ``.``, ``/`` or ``~``, or has more than one slash.

    Raises:
        WeightsError: it is neither.
    """
    if "://" in text:
        raise WeightsError(f"“{text}” is a URL, expected OWNER/NAME for the hub")
    # The empty path would be the current folder.
    is_there = text != "" and Path(text).is_dir()
    if is_there or text.startswith((".", "/", "~")) or text.count("/") > 1:
        return Path(text).expanduser()
    try:
        validate_repo_id(text)
    except HFValidationError:
        pass
    else:
        if "/" in text:
            return text
    raise WeightsError(
        f"“{text}” is neither a folder nor OWNER/NAME on the hub (letters, digits, “-”, “_”, “.”). "
        f"For a new folder, write ./{text}"
    )


def check_bundle(folder: Path, methods: Collection[str]) -> dict:
    """Validate a bundle except for its weights, and return its config.

    Raises:
        WeightsError: something is missing or damaged, or its method or preset is unknown.
    """
    try:
        config = read_config(folder)
        with safe_open(folder / WEIGHTS, "pt"):
            pass
    except (SafetensorError, UnicodeDecodeError, OSError) as error:
        raise WeightsError(f"{folder} is damaged: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("network"), dict):
        raise WeightsError(
            f"{folder} is not a bundle of a method: its {CONFIG} describes no network"
        )
    for key, known in (("method", methods), ("preset", PRESETS)):
        if str(config.get(key)) not in known:
            raise WeightsError(
                f"{folder} was made for the {key} “{config.get(key)}”, expected one of "
                f"{', '.join(known)}"
            )
    return config


def _own_card(bundle: Path) -> bytes | None:
    """Return a bundle's card if the user wrote it: with front matter, without our line."""
    try:
        content = (bundle / CARD).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise WeightsError(f"{bundle / CARD} cannot be read ({error.strerror})") from None
    is_own = content.startswith(b"---") and WRITTEN.encode() not in content
    return content if is_own else None


def _download(repo: str) -> Path:
    """Download a repository's bundle to the hub's cache; offline, return the last one seen."""
    cached = find_cached(repo, CONFIG), find_cached(repo, WEIGHTS)
    if not constants.HF_HUB_OFFLINE or None in cached:
        files = [look_up(repo, (CONFIG,)), look_up(repo, (WEIGHTS,))]
        card = find_remote(repo, CARD)
        if card is not None:
            files.append(card)
        for file in files:
            path = find_cached(repo, file.name, file.commit)
            if path is not None:
                drop_if_damaged(path)
        check_space(sum(file.missing_bytes for file in files), Path(constants.HF_HUB_CACHE))
        for file in files:
            fetch(file)
        paths = [find_cached(repo, file.name, files[0].commit) for file in files]
        cached = (None, None) if None in paths else (paths[0], paths[1])
    config = cached[0]
    if config is None:
        raise WeightsError(f"{repo} was changed during the download; try again")
    return config.parent


def _is_free(folder: Path) -> bool:
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def _are_same(file: Path, other: Path) -> bool:
    return other.is_file() and filecmp.cmp(file, other, shallow=False)


def _check_replaceable(folder: Path, config: dict, there: dict) -> None:
    """Check that a bundle may replace a folder.

    Raises:
        WeightsError: it has another method or preset, or contains other files.
    """
    for key in ("method", "preset"):
        if there[key] != config[key]:
            raise WeightsError(
                f"{folder} contains a bundle for the {key} {there[key]}, but this one is for "
                f"{config[key]}; choose another folder"
            )
    others = sorted(path.name for path in folder.iterdir() if path.name not in FILES)
    if others:
        raise WeightsError(
            f"{folder} also contains other files ({others[0]}); choose another folder"
        )


def _write_folder(folder: Path, files: Mapping[str, Path | bytes]) -> None:
    """Write a folder atomically, replacing an existing one.

    Raises:
        WeightsError: it cannot be written, or a file cannot be read.
    """
    partial = folder.with_name(f".{folder.name}.incomplete")
    old = folder.with_name(f".{folder.name}.old")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, content in files.items():
            if isinstance(content, bytes):
                (partial / name).write_bytes(content)
            else:
                shutil.copyfile(content, partial / name)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        try:
            partial.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise WeightsError(f"{folder} cannot be written ({error.strerror or error})") from None
