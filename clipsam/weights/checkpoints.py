"""Location of checkpoints: the project's own, and those that the user trained or downloaded."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_data_path

ENVIRONMENT = "CLIPSAM_CHECKPOINTS"
"""Environment variable: a folder that is searched first, and written to."""

_PACKAGE = Path(__file__).resolve().parents[1]


def checkpoint_folders() -> tuple[Path, ...]:
    """Return the folders with checkpoints as ``PRESET/PART``, in search order.

    The folder of :data:`ENVIRONMENT`, if set; then the checkout's ``checkpoints/`` or, where the
    package is installed, the user's folder and the package's own. What is trained or pulled without
    another folder being given is written to the first.
    """
    given = os.environ.get(ENVIRONMENT)
    first = (Path(given).expanduser(),) if given else ()
    checkout = _PACKAGE.parent / "checkpoints"
    if checkout.is_dir():
        return *first, checkout
    return *first, user_data_path("clipsam") / "checkpoints", _PACKAGE / "checkpoints"


def find_checkpoint(preset: str, part: str) -> Path:
    """Return the file or folder of a part of a preset: a network, a method's bundle, the card.

    Returns:
        That in the first of :func:`checkpoint_folders` that has one; if none has, where it is to be
        written.
    """
    places = [folder / preset / part for folder in checkpoint_folders()]
    return next((place for place in places if place.exists()), places[0])
