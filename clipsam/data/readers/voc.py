"""PASCAL VOC 2012, its augmentation by SBD, and PASCAL-Context."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..pairing import FileIndex
from ..samples import BACKGROUND, VOID
from .common import DataError, PairedData, read_lines, read_mask, read_mat

# fmt: off
VOC_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa",
    "train", "tv monitor",
)
# fmt: on


class VocData(PairedData):
    """PASCAL VOC 2012's 20 object classes; object borders are :data:`VOID`."""

    kinds = ("voc",)

    def __init__(self, root: str | Path, part: str) -> None:
        """Open the data set.

        Args:
            root: the folder ``VOC2012`` with ``JPEGImages/``, ``SegmentationClass/`` and
                ``ImageSets/Segmentation/{part}.txt``.
            part: ``train``, ``val`` or ``trainval``; or ``trainaug``, which is VOC's train images
                and SBD's without VOC's val. That needs ``SegmentationClassAug/`` with its
                ``trainaug.txt``, or SBD as published, ``benchmark_RELEASE/dataset/``.

        Raises:
            DataError: a list or a file in it is missing.
        """
        root = Path(root)
        aug, sbd = root / "SegmentationClassAug", root / "benchmark_RELEASE" / "dataset"
        if part != "trainaug":
            pairs = _listed_pairs(root, part, "SegmentationClass")
        elif aug.is_dir():
            pairs = _listed_pairs(root, part, aug.name)
        elif sbd.is_dir():
            pairs = _listed_pairs(root, "train", "SegmentationClass")
            taken = {image.stem for image, _ in pairs} | set(_stems(_voc_list(root, "val")))
            more = [s for p in ("train", "val") for s in _stems(sbd / f"{p}.txt")]
            pairs += [
                (sbd / "img" / f"{stem}.jpg", sbd / "cls" / f"{stem}.mat")
                for stem in dict.fromkeys(more)
                if stem not in taken
            ]
        else:
            raise DataError(f"the part trainaug needs {aug} or {sbd}, but neither exists")
        pairs = need_files(pairs)
        values = {0: BACKGROUND, 255: VOID} | {i + 1: i for i in range(len(VOC_NAMES))}
        super().__init__(VOC_NAMES, pairs, values, "VOC's ids are 0..20 and 255")

    def _ids(self, path: Path) -> np.ndarray:
        if path.suffix == ".mat":
            return read_mat(path, "GTcls.Segmentation")
        return read_mask(path).values


# fmt: off
CONTEXT_NAMES = (
    "aeroplane", "bag", "bed", "bedclothes", "bench", "bicycle", "bird", "boat", "book", "bottle",
    "building", "bus", "cabinet", "car", "cat", "ceiling", "chair", "cloth", "computer", "cow",
    "cup", "curtain", "dog", "door", "fence", "floor", "flower", "food", "grass", "ground",
    "horse", "keyboard", "light", "motorbike", "mountain", "mouse", "person", "plate", "platform",
    "potted plant", "road", "rock", "sheep", "shelves", "sidewalk", "sign", "sky", "snow", "sofa",
    "table", "track", "train", "tree", "truck", "tv monitor", "wall", "water", "window", "wood",
)
# fmt: on
"""The 59 most frequent of PASCAL-Context's 459 labels, scored in the papers."""


class PascalContextData(PairedData):
    """PASCAL-Context's 59 classes; pixels of its 400 rarer labels are :data:`VOID`."""

    kinds = ("pascal-context",)

    def __init__(self, root: str | Path, part: str) -> None:
        """Open the data set.

        Args:
            root: the folder ``VOC2010`` with ``JPEGImages/``, PASCAL-Context's ``trainval/*.mat``
                and ``labels.txt`` (lines ``id: name``), and the list of the part in
                ``ImageSets/SegmentationContext/`` or VOC's own in ``ImageSets/Main/``.
            part: ``train`` or ``val``.

        Raises:
            DataError: one of them, or a file in the list, is missing or damaged.
        """
        root = Path(root)
        listing = root / "labels.txt"
        values = {0: VOID}
        # Some copies of the list write "potted plant", others "pottedplant".
        index = {name.replace(" ", ""): i for i, name in enumerate(CONTEXT_NAMES)}
        for line in read_lines(listing, "PASCAL-Context's labels, as lines id: name"):
            number, colon, name = (text.strip() for text in line.partition(":"))
            if not colon or not number.isdecimal():
                raise DataError(f"{listing} has the line {line!r}, expected id: name")
            values[int(number)] = index.pop(name.replace(" ", ""), VOID)
        if index:
            raise DataError(f"{listing} lacks the label {next(iter(index))}, one of the 59 classes")
        lists = [root / "ImageSets" / f / f"{part}.txt" for f in ("SegmentationContext", "Main")]
        chosen = next((path for path in lists if path.is_file()), None)
        if chosen is None:
            raise DataError(f"neither {lists[0]} nor {lists[1]}, the list of the images, exists")
        pairs = [
            (root / "JPEGImages" / f"{stem}.jpg", root / "trainval" / f"{stem}.mat")
            for stem in _stems(chosen)
        ]
        pairs = need_files(pairs)
        super().__init__(CONTEXT_NAMES, pairs, values, f"{listing} does not list this id")

    def _ids(self, path: Path) -> np.ndarray:
        return read_mat(path, "LabelMap")


def need_files(pairs: list[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    """Find every file of a list.

    Returns:
        The files as they are written on disk, see :class:`..pairing.FileIndex`.

    Raises:
        DataError: the first one that does not exist.
    """
    folders = {path.parent: FileIndex(path.parent) for pair in pairs for path in pair}

    def find(path: Path) -> Path:
        found = folders[path.parent].find(path.name)
        if found is None:
            raise DataError(f"{path} does not exist, but the list of the images names it")
        return found

    return [(find(image), find(mask)) for image, mask in pairs]


def _voc_list(root: Path, part: str) -> Path:
    return root / "ImageSets" / "Segmentation" / f"{part}.txt"


def _listed_pairs(root: Path, part: str, masks: str) -> list[tuple[Path, Path]]:
    return [
        (root / "JPEGImages" / f"{stem}.jpg", root / masks / f"{stem}.png")
        for stem in _stems(_voc_list(root, part))
    ]


def _stems(path: Path) -> list[str]:
    """Read the image names of a list, whose lines may also be pairs of paths."""
    return [Path(line.split()[0]).stem for line in read_lines(path, "one image name per line")]
