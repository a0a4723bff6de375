"""Small networks of random weights that stand in for published ones, saved as those are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from clipsam.weights.published import (
    CLIPSEG,
    GROUNDING_DINO,
    OWLV2,
    SAM2_TINY,
    SAM3,
    SAM3_LITETEXT,
    PublishedWeights,
)

from . import clipseg, grounding_dino, owlv2, sam2, sam3, sam3_litetext

SAVE: dict[PublishedWeights, Callable[[Path], None]] = {
    CLIPSEG: clipseg.save,
    GROUNDING_DINO: grounding_dino.save,
    OWLV2: owlv2.save,
    SAM2_TINY: sam2.save,
    SAM3: sam3.save,
    SAM3_LITETEXT: sam3_litetext.save,
}
"""Who writes a repository's files into a folder."""


def save_all(home: Path) -> None:
    """Write all of them where files lie that a person brought to the hub's home."""
    for published, save in SAVE.items():
        save(home / "clipsam" / published.repo)
