"""Opening a data set by what a person types: ``kind:path``."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..samples import SegmentationData
from ..scenes import SceneData
from .ade20k import Ade20kData
from .camouflage import CamouflageData
from .coco import CocoInstancesData, CocoPanopticData, CocoStuffData
from .common import DataError
from .folder import FolderData
from .open_vocabulary import TEST_SETS, OpenVocabularyData
from .voc import PascalContextData, VocData

COCO_PARTS = {"train": "train2017", "val": "val2017"}
ADE20K_PARTS = {"train": "training", "val": "validation"}
CAMOUFLAGE_PARTS = {"train": "Train", "val": "Test", "test": "Test"}
SCENE_SEEDS = {"train": 20, "val": 1_000_003}
"""Scenes trained on and scenes measured on never share a seed."""


def open_data(spec: str, part: str) -> SegmentationData:
    """Open one part of a data set.

    Args:
        spec: ``kind:path``, such as ``coco-panoptic:/data/coco``; for scenes ``scenes:N``,
            ``scenes:N-unseen`` or ``scenes:N-camouflage``, N being their number.
        part: ``train``, ``val``, or the data set's own name of a part.

    Raises:
        DataError: no such kind or path, or the data set is not what it should be.
    """
    kind, colon, path = spec.partition(":")
    if kind == "scenes" and path:
        return _scenes(path, part)
    if not colon or not path or kind not in KINDS:
        kinds = ", ".join((*KINDS, "scenes"))
        raise DataError(
            f"{spec!r} names no data set: write kind:path, the kind being one of {kinds}"
        )
    root = Path(path).expanduser()
    if not root.is_dir():
        raise DataError(f"{spec} names the folder {root}, which does not exist")
    return KINDS[kind](root, part)


def _folder(root: Path, part: str) -> SegmentationData:
    for folder in (root / part, root):
        if (folder / "images").is_dir():
            return FolderData(folder)
    raise DataError(f"there is neither a folder {root / part / 'images'} nor {root / 'images'}")


def _scenes(text: str, part: str) -> SegmentationData:
    match = re.fullmatch(r"([1-9]\d*)(?:-(unseen|camouflage))?", text)
    if match is None:
        raise DataError(
            f"scenes:{text} is not understood; write scenes:N, scenes:N-unseen or "
            "scenes:N-camouflage, N being the number of scenes"
        )
    if part not in SCENE_SEEDS:
        raise DataError(f"scenes:{text} has no part {part}: choose from {', '.join(SCENE_SEEDS)}")
    count, variant = match.groups()
    return SceneData(
        int(count),
        seed=SCENE_SEEDS[part],
        pairs="unseen" if variant == "unseen" else "seen",
        mode="camouflage" if variant == "camouflage" else "plain",
    )


KINDS: dict[str, Callable[[Path, str], SegmentationData]] = {
    "folder": _folder,
    "coco-panoptic": lambda root, part: CocoPanopticData(root, COCO_PARTS.get(part, part)),
    "coco-instances": lambda root, part: CocoInstancesData(root, COCO_PARTS.get(part, part)),
    "coco-stuff": lambda root, part: CocoStuffData(root, COCO_PARTS.get(part, part)),
    "voc": VocData,
    "pascal-context": PascalContextData,
    "ade20k": lambda root, part: Ade20kData(root, ADE20K_PARTS.get(part, part)),
    "camouflage": lambda root, part: CamouflageData(root, CAMOUFLAGE_PARTS.get(part, part)),
    **{kind: partial(OpenVocabularyData, kind) for kind in TEST_SETS},
}
