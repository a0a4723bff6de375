"""Published files on this machine: where they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import constants

from .hub import find_cached
from .published import WEIGHTS, PublishedWeights


@dataclass(frozen=True)
class LocalFiles:
    """One published network on this machine.

    Attributes:
        weights: safetensors or a PyTorch file.
        extras: its other files, by their published names.
    """

    weights: Path
    extras: Mapping[str, Path] = field(default_factory=dict)


def locate(published: PublishedWeights) -> LocalFiles | None:
    """Find the files of a network if all are on this machine, without network or reading.

    Files that the user provided come first, then the hub's cache.
    """
    weights, *found = (
        find_in_user_folder(published, names) or find_in_cache(published, names)
        for names in needed_files(published)
    )
    extras = {
        name: path for name, path in zip(published.extras, found, strict=True) if path is not None
    }
    if weights is None or len(extras) < len(found):
        return None
    return LocalFiles(weights, extras)


def needed_files(published: PublishedWeights) -> tuple[tuple[str, ...], ...]:
    """Return the accepted names of each file that a network needs, the weights first."""
    return WEIGHTS, *((name,) for name in published.extras)


def accepted_names(published: PublishedWeights, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the accepted names of a file that a user provides."""
    if names is not WEIGHTS or published.checkpoint is None:
        return names
    return published.checkpoint, *names


def user_folder(published: PublishedWeights) -> Path:
    """Return the folder of files that a user provided, next to the hub's cache."""
    return Path(constants.HF_HOME) / "clipsam" / published.repo


def find_in_user_folder(published: PublishedWeights, names: tuple[str, ...]) -> Path | None:
    """Find a file, under one of its accepted names, among those that a user provided."""
    paths = (user_folder(published) / name for name in accepted_names(published, names))
    return next((path for path in paths if path.is_file()), None)


def find_in_cache(published: PublishedWeights, names: tuple[str, ...]) -> Path | None:
    """Find a file, under one of its names, in the hub's cache."""
    found = (find_cached(published.repo, name) for name in names)
    return next((path for path in found if path is not None), None)


def look_into(folder: Path, published: PublishedWeights) -> LocalFiles | None:
    """Find the files of a network in a folder.

    Args:
        folder: holds each repository as ``owner/name/`` or ``name/``, or Meta's own checkpoint.
        published: the network.
    """
    places = (folder / published.repo, folder / Path(published.repo).name, folder)
    weights = [place / name for place in places for name in accepted_names(published, WEIGHTS)]
    # Directly in the folder only Meta's file tells by its name what it is.
    weights = [p for p in weights if p.parent != folder or p.name == published.checkpoint]
    found = next((path for path in weights if path.is_file()), None)
    if found is None:
        return None
    extras = {name: found.with_name(name) for name in published.extras}
    return LocalFiles(found, extras) if all(p.is_file() for p in extras.values()) else None
