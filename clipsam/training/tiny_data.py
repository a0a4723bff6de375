"""What the bundled models are trained on: photographs and procedural scenes, in their shares."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..data.readers import CachedData, CocoPanopticData, ConcatData, FolderData, NamedData
from ..data.samples import SegmentationData
from ..data.stream import Domain
from ..data.synthetic import SceneData

SCENES, CAMOUFLAGE, COCO = "scenes", "camouflage", "coco100"

MASKED = (
    "camvid",
    "ccp",
    "wildanimals",
    "feralcat",
    "weizmannhorse",
    "davis2016val",
    "graz_person",
    "labelmefacade",
    "buildingfacade",
    "carparts",
    "coco128",
)
"""Folders of photographs with masks, besides COCO's."""

NAMED = ("imagenet1k", "grocery", "clothing10", "flowers12", "oxfordcats")
"""Folders of photographs with a name each."""

SINGLE_OBJECT = ("wildanimals", "feralcat", "weizmannhorse")
"""Sets that show one animal before a background which holds no other."""

FINE_GRAINED = {"ccp": 1.6, COCO: 2.0, "camvid": 1.2, "davis2016val": 1.3, "coco128": 0.5}
"""Sets drawn more, or less, often than their size says: those with many or rare classes more."""

ENDLESS = 10**6
SIDE = 640
"""Longest side at which photographs are kept in memory, pixels."""


@dataclass(frozen=True)
class Shares:
    """How often each kind of picture is drawn.

    Attributes:
        scenes, camouflage: procedural, of seen pairs.
        named: photographs with a name alone, all sets together.
    """

    scenes: float = 0.10
    camouflage: float = 0.03
    named: float = 0.25


def training_domains(photographs: Path | None, seed: int, shares: Shares) -> dict[str, Domain]:
    """Everything that the bundled models see in training.

    Within its kind a set is drawn in proportion to the square root of its size.

    Args:
        photographs: folder of the sets named above, of which train parts alone are read; ``None``
            leaves procedural scenes.
        seed: first of the procedural scenes.
        shares: see :class:`Shares`.
    """
    domains = {
        SCENES: Domain(SceneData(ENDLESS, seed), shares.scenes, False),
        CAMOUFLAGE: Domain(SceneData(ENDLESS, seed, mode="camouflage"), shares.camouflage, False),
    }
    if photographs is None:
        return domains
    masked = {name: open_masked(photographs, name) for name in (COCO, *MASKED)}
    named = {name: NamedData(photographs / name / "train") for name in NAMED}
    left = 1 - shares.scenes - shares.camouflage - shares.named
    weights = {n: len(data) ** 0.5 * FINE_GRAINED.get(n, 1.0) for n, data in masked.items()}
    for name, data in masked.items():
        weight = left * weights[name] / sum(weights.values())
        domains[name] = Domain(CachedData(data, SIDE), weight, True)
    total = sum(len(data) ** 0.5 for data in named.values())
    for name, data in named.items():
        weight = shares.named * len(data) ** 0.5 / total
        domains[name] = Domain(CachedData(data, SIDE), weight, True, data.labels)
    return domains


def open_masked(photographs: Path, name: str) -> SegmentationData:
    """All photographs of a set with masks that may be trained on."""
    if name == COCO:
        return CocoPanopticData(photographs / COCO, "train2017")
    data = FolderData(photographs / name / "train")
    extra = photographs / name / "extra"
    if not extra.is_dir():
        return data
    more = FolderData(extra)
    return _SameNames(data, more)


class _SameNames(ConcatData):
    """Two parts of one set, whose classes are the same."""

    def __init__(self, first: SegmentationData, second: SegmentationData) -> None:
        super().__init__({"train": first, "extra": second})
        if first.names != second.names:
            raise ValueError("two parts of one set should have the same classes")
        self.names = first.names
        self._offsets = [0, 0]
