"""Opening of data sets by ``kind:path``.

A reader is found by itself: a class in a module of this package that states its kinds.
"""

from __future__ import annotations

import logging
import re
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from ..samples import SegmentationData
from ..synthetic import SceneData
from .common import DataError, DataReader

logger = logging.getLogger(__name__)

SCENES = "scenes"
"""Kind of the synthetic scenes."""

SCENE_SEEDS = {"train": 20, "val": 1_000_003}
"""Seeds of the synthetic scenes, different for training and evaluation."""


@cache
def readers() -> dict[str, type[DataReader]]:
    """Return all readers by their kinds."""
    package = __name__.rpartition(".")[0]
    modules = (
        import_module(f"{package}.{module.name}")
        for module in iter_modules([str(Path(__file__).parent)])
    )
    classes = [cls for module in modules for cls in vars(module).values() if isinstance(cls, type)]
    found = {kind: cls for cls in classes if issubclass(cls, DataReader) for kind in cls.kinds}
    return {"folder": found.pop("folder"), **found}  # First what most people have.


def open_data(spec: str, part: str) -> SegmentationData:
    """Open one part of a data set.

    Args:
        spec: ``kind:path``, such as ``coco-panoptic:/data/coco``, of a folder or a zip; for scenes
            ``scenes:N``, ``scenes:N-unseen`` or ``scenes:N-camouflage``, N being their number.
        part: ``train``, ``val``, or the data set's own name of a part.

    Raises:
        DataError: no such kind or path, or an invalid data set.
    """
    kind, colon, path = spec.partition(":")
    if kind == SCENES and path:
        return _scenes(path, part)
    if not colon or not path or kind not in readers():
        kinds = ", ".join((*readers(), SCENES))
        raise DataError(f"Unknown data set {spec!r}. Use KIND:PATH, where KIND is one of {kinds}")
    root = Path(path).expanduser()
    if root.suffix.lower() == ".zip" and root.is_file():
        from ..unpacking import unpacked  # It raises the error of this package.

        root = unpacked(root)
    if not root.is_dir():
        raise DataError(f"The folder {root} of {spec} does not exist")
    data = readers()[kind].open(kind, root, part)
    for note in notes_of(data):
        logger.warning(note)
    return data


def notes_of(data: SegmentationData) -> tuple[str, ...]:
    """Return one sentence for each kind of labels of a data set that was left out."""
    return getattr(data, "notes", ())


def shows_single_objects(spec: str) -> bool:
    """Return whether each image of a data set shows at most one object, by its kind."""
    reader = readers().get(spec.partition(":")[0])
    return reader is not None and reader.single_object


def _scenes(text: str, part: str) -> SegmentationData:
    match = re.fullmatch(r"([1-9]\d*)(?:-(unseen|camouflage))?", text)
    if match is None:
        raise DataError(
            f"scenes:{text} is not valid, expected scenes:N, scenes:N-unseen or "
            "scenes:N-camouflage, where N is the number of scenes"
        )
    if part not in SCENE_SEEDS:
        raise DataError(
            f"scenes:{text} has no part {part}, expected one of {', '.join(SCENE_SEEDS)}"
        )
    count, variant = match.groups()
    return SceneData(
        int(count),
        seed=SCENE_SEEDS[part],
        pairs="unseen" if variant == "unseen" else "seen",
        mode="camouflage" if variant == "camouflage" else "plain",
    )
