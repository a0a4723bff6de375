"""COCO 2017: panoptic segments, instances, and stuff maps."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np
from pycocotools import mask as coco_mask

from ..pairing import FileIndex, stem_of
from ..samples import BACKGROUND, VOID, LabelledImage
from .coco_json import read_coco
from .common import (
    DataError,
    DataReader,
    PairedData,
    check_sizes,
    list_pairs,
    read_image,
    read_lines,
)

MOST_BITS = 60
"""Bits of a compressed run length."""

COCO_PARTS = {"train": "train2017", "val": "val2017"}


class CocoPanopticData(DataReader):
    """COCO's panoptic format: one JSON, and PNGs whose colours number the segments."""

    kinds = ("coco-panoptic",)
    parts = COCO_PARTS

    def __init__(self, root: str | Path, part: str) -> None:
        """Open the data set.

        Args:
            root: folder with ``annotations/panoptic_{part}.json``, the folder of PNGs of the same
                name, and the images in ``{part}/``.
            part: ``train2017`` or ``val2017``.

        Raises:
            DataError: the JSON is missing or is not COCO's.
        """
        root = Path(root)
        self._json = read_coco(
            root / "annotations" / f"panoptic_{part}.json", panoptic=True, rename=plain_coco_name
        )
        self.names, self.notes = self._json.names, self._json.notes
        files = {image["id"]: image["file_name"] for image in self._json.images}
        self._files = [files[one["image_id"]] for one in self._json.annotations]
        self._images = FileIndex(root / part)
        self._masks = FileIndex(root / "annotations" / f"panoptic_{part}")
        self.keys = tuple(stem_of(PurePosixPath(name)) for name in self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> LabelledImage:
        """Return a labelled image.

        Raises:
            DataError: unreadable, different sizes, or an unknown category.
        """
        annotation = self._json.annotations[index]
        mask_path = self._masks.locate(annotation["file_name"])
        colours = read_image(mask_path).values.astype(np.int32)
        ids = colours @ np.array([1, 256, 256**2], np.int32)
        classes = np.full(ids.shape, VOID, np.int16)
        segments = np.zeros(ids.shape, np.int32)
        for number, segment in enumerate(annotation["segments_info"], start=1):
            inside = ids == segment["id"]
            classes[inside] = self._json.class_value(segment, annotation)
            segments[inside] = number
        image_path = self._images.locate(self._files[index])
        image = read_image(image_path)
        check_sizes(image.values, image_path, ids, mask_path)
        return LabelledImage(
            self.keys[index], image.values, classes, segments, self.names, note=image.note
        )


class CocoInstancesData(DataReader):
    """COCO's 80 object classes; where objects overlap, the smaller one is on top.

    Regions of a crowd are :data:`VOID`, and so are the boxes of objects without a shape; all else
    without an object is :data:`BACKGROUND`.
    """

    kinds = ("coco-instances",)
    parts = COCO_PARTS

    def __init__(self, root: str | Path, part: str) -> None:
        """Open the data set.

        Args:
            root: folder with ``annotations/instances_{part}.json`` and the images in ``{part}/``.
            part: ``train2017`` or ``val2017``.

        Raises:
            DataError: the JSON is missing or is not COCO's.
        """
        self._json = read_coco(Path(root) / "annotations" / f"instances_{part}.json")
        self.names, self.notes = self._json.names, self._json.notes
        # Images without any object count too: the papers' splits are drawn from all of them.
        self.keys = tuple(stem_of(PurePosixPath(one["file_name"])) for one in self._json.images)
        self._files = FileIndex(Path(root) / part)
        self._annotations: dict[object, list[dict]] = defaultdict(list)
        for annotation in self._json.annotations:
            self._annotations[annotation["image_id"]].append(annotation)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> LabelledImage:
        """Return a labelled image.

        Raises:
            DataError: unreadable, different sizes, or a damaged annotation.
        """
        listed = self._json.images[index]
        size = (listed["height"], listed["width"])
        path = self._files.locate(listed["file_name"])
        image = read_image(path)
        check_sizes(image.values, path, np.empty((*size, 0)), self._json.path)
        classes = np.full(size, BACKGROUND, np.int16)
        segments = np.zeros(size, np.int32)
        objects = []
        for annotation in self._annotations.get(listed["id"], ()):
            if annotation["segmentation"] is None:
                classes[box_area(annotation.get("bbox"))] = VOID
                continue
            where = f"{self._json.path}: the segmentation of annotation {annotation['id']}"
            inside = draw_shape(annotation["segmentation"], size, where)
            if annotation.get("iscrowd"):
                classes[inside] = VOID
            else:
                objects.append((inside, self._json.class_value(annotation, annotation)))
        objects.sort(key=lambda pair: pair[0].sum(), reverse=True)
        for number, (inside, value) in enumerate(objects, start=1):
            classes[inside] = value
            segments[inside] = number if value >= 0 else 0
        return LabelledImage(
            self.keys[index],
            image.values,
            classes,
            segments,
            self.names,
            note=image.note,
            tells_objects=True,
        )


def check_shape(shape: list | dict, size: tuple[int, int], where: str) -> None:
    """Check what can be seen of a shape without drawing it.

    Args:
        shape, size, where: see :func:`draw_shape`.

    Raises:
        DataError: run lengths of another size, or polygons that are none or have no end.
    """
    if not isinstance(shape, dict):
        _polygons(shape, size, where)
        return
    try:
        height, width = (int(value) for value in shape["size"])
    except (TypeError, ValueError, KeyError, OverflowError):
        raise DataError(f"{where} is neither polygons nor run lengths") from None
    if (height, width) != size:
        raise DataError(
            f"{where} is {width} × {height} pixels, but its image is {size[1]} × {size[0]}"
        )


def _polygons(shape: list, size: tuple[int, int], where: str) -> list[list[float]]:
    """Return the polygons of a shape, each a flat list of coordinates."""
    try:
        polygons = [np.array(polygon, np.float64) for polygon in shape]
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{where} is neither polygons nor run lengths") from None
    if any(one.ndim != 1 or len(one) % 2 for one in polygons):
        raise DataError(f"{where} is neither polygons nor run lengths")
    # Compiled code draws them, and must not be given an endless one. NaN is not below either.
    if not all((np.abs(one) <= 2 * max(size)).all() for one in polygons):
        raise DataError(f"{where} extends far beyond its image")
    return [one.tolist() for one in polygons]


def draw_shape(shape: list | dict, size: tuple[int, int], where: str) -> np.ndarray:
    """Draw the pixels of an annotation, bool (H, W), from polygons or run lengths.

    Args:
        shape: as :class:`.coco_json.CocoJson` holds it.
        size: (height, width) of the image.
        where: how messages begin.

    Raises:
        DataError: it is neither, or of another size.
    """
    check_shape(shape, size, where)
    if isinstance(shape, dict):
        return _draw_run_lengths(shape.get("counts"), size, where)
    encoded = coco_mask.merge(coco_mask.frPyObjects(_polygons(shape, size, where), *size))
    return coco_mask.decode(encoded).astype(bool)


def _draw_run_lengths(counts: object, size: tuple[int, int], where: str) -> np.ndarray:
    """Draw run lengths, which alternate between outside and inside, down the columns."""
    try:
        lengths = uncompressed(counts) if isinstance(counts, str) else list(counts)  # type: ignore[call-overload]
        runs = np.array(lengths, np.float64)
    except (TypeError, ValueError, IndexError, OverflowError):
        raise DataError(f"{where} is neither polygons nor run lengths") from None
    height, width = size
    if runs.ndim != 1 or (runs < 0).any() or (runs % 1).any() or runs.sum() != height * width:
        raise DataError(
            f"{where} is damaged: its run lengths must add up to {width} × {height} pixels"
        )
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs.astype(np.int64)).reshape(width, height).T


def uncompressed(text: str) -> list[int]:
    """Read COCO's compressed run lengths.

    Each number is written in groups of five bits, the lowest first, as characters from 48 on with
    32 added while more follow; from the fourth on it is the difference to the one two before.

    Raises:
        IndexError: the text is cut off.
        ValueError: a number is longer than any image needs.
    """
    lengths: list[int] = []
    place = 0
    while place < len(text):
        number = shift = 0
        more = True
        while more:
            group = ord(text[place]) - 48
            number |= (group & 31) << shift
            more = bool(group & 32)
            place, shift = place + 1, shift + 5
            if shift > MOST_BITS:
                raise ValueError("a run is longer than any image")
        if group & 16:
            number -= 1 << shift
        lengths.append(number + lengths[-2] if len(lengths) > 2 else number)
    return lengths


def box_area(box: object) -> tuple[slice, slice]:
    """Return the rows and columns of a box [x, y, width, height]; none if it is no box."""
    try:
        left, top, width, height = (float(value) for value in box)  # type: ignore[attr-defined]
        rows = math.floor(top), math.ceil(top + height)
        columns = math.floor(left), math.ceil(left + width)
    except (TypeError, ValueError, OverflowError):
        return slice(0), slice(0)
    return slice(*(max(0, edge) for edge in rows)), slice(*(max(0, edge) for edge in columns))


# fmt: off
UNUSED_COCO_NAMES = frozenset((
    "street sign", "hat", "shoe", "eye glasses", "plate", "mirror", "window", "desk", "door",
    "blender", "hair brush",
))
# fmt: on
"""Names in COCO-Stuff's list without pixels; without them the papers' 171 classes remain."""


class CocoStuffData(PairedData):
    """COCO-Stuff: 80 object and 91 stuff classes, in one map per image."""

    kinds = ("coco-stuff",)
    parts = COCO_PARTS

    def __init__(self, root: str | Path, part: str) -> None:
        """Open the data set.

        Args:
            root: folder with ``labels.txt`` (lines ``id: name``), ``stuffthingmaps/{part}/*.png``
                and the images in ``{part}/``.
            part: ``train2017`` or ``val2017``.

        Raises:
            DataError: one of them is missing or damaged, or an image has no map.
        """
        listing = Path(root) / "labels.txt"
        names: list[str] = []
        # The maps hold the list's ids less one, and 255 for the list's 0, "unlabeled".
        values = {255: VOID}
        for line in read_lines(listing, "COCO-Stuff's names, as lines id: name"):
            number, colon, name = (text.strip() for text in line.partition(":"))
            if not colon or not number.isdecimal():
                raise DataError(f"{listing} has the line {line!r}, expected id: name")
            if number != "0" and name not in UNUSED_COCO_NAMES:
                values[int(number) - 1] = len(names)
                names.append(plain_coco_name(name))
        pairs = list_pairs(Path(root) / part, Path(root) / "stuffthingmaps" / part)
        super().__init__(names, pairs, values, f"{listing} names no class with this id plus 1")


def plain_coco_name(name: str) -> str:
    """Simplify COCO's stuff names: "wall-other-merged" → "wall".

    CAT-Seg and ESC-Net train with COCO-Stuff's own spelling; 29 of its 171 names differ from these.
    """
    for ending in ("-merged", "-stuff", "-other"):
        name = name.removesuffix(ending)
    return name.replace("-", " ")
