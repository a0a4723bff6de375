"""COCO 2017: panoptic segments, instances, and stuff maps."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from ..samples import BACKGROUND, VOID, LabelledImage
from .common import (
    DataError,
    DataReader,
    PairedData,
    check_sizes,
    list_pairs,
    read_image,
    read_json,
    read_lines,
)

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
        self.root, self.part = Path(root), part
        self._listing = self.root / "annotations" / f"panoptic_{part}.json"
        content = read_coco(
            self._listing, ("id", "file_name"), ("image_id", "file_name", "segments_info")
        )
        categories = content["categories"]
        self.names = tuple(plain_coco_name(c["name"]) for c in categories)
        self._index = {c["id"]: i for i, c in enumerate(categories)}
        files = {i["id"]: i["file_name"] for i in content["images"]}
        self._annotations = content["annotations"]
        self._files = [files[a["image_id"]] for a in self._annotations]
        self.keys = tuple(Path(name).stem for name in self._files)

    def __len__(self) -> int:
        return len(self._annotations)

    def __getitem__(self, index: int) -> LabelledImage:
        """Return a labelled image.

        Raises:
            DataError: unreadable, different sizes, or an unknown category.
        """
        annotation = self._annotations[index]
        mask_path = self.root / "annotations" / f"panoptic_{self.part}" / annotation["file_name"]
        colours = read_image(mask_path).values.astype(np.int32)
        ids = colours @ np.array([1, 256, 256**2], np.int32)
        classes = np.full(ids.shape, VOID, np.int16)
        segments = np.zeros(ids.shape, np.int32)
        for number, segment in enumerate(annotation["segments_info"], start=1):
            inside = ids == segment["id"]
            classes[inside] = class_value(self._index, segment["category_id"], self._listing)
            segments[inside] = number
        image_path = self.root / self.part / self._files[index]
        image = read_image(image_path)
        check_sizes(image.values, image_path, ids, mask_path)
        return LabelledImage(
            self.keys[index], image.values, classes, segments, self.names, note=image.note
        )


class CocoInstancesData(DataReader):
    """COCO's 80 object classes; where objects overlap, the smaller one is on top.

    Regions of a crowd are :data:`VOID`, all else without an object is :data:`BACKGROUND`.
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
        self._folder = Path(root) / part
        self._listing = Path(root) / "annotations" / f"instances_{part}.json"
        content = read_coco(
            self._listing,
            ("id", "file_name", "height", "width"),
            ("id", "image_id", "category_id", "segmentation"),
        )
        categories = content["categories"]
        self.names = tuple(c["name"] for c in categories)
        self._index = {c["id"]: i for i, c in enumerate(categories)}
        # Images without any object count too: the papers' splits are drawn from all of them.
        self._images = content["images"]
        self.keys = tuple(Path(image["file_name"]).stem for image in self._images)
        self._annotations: dict[int, list[dict]] = defaultdict(list)
        for annotation in content["annotations"]:
            self._annotations[annotation["image_id"]].append(annotation)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> LabelledImage:
        """Return a labelled image.

        Raises:
            DataError: unreadable, different sizes, or a damaged annotation.
        """
        listed = self._images[index]
        size = (listed["height"], listed["width"])
        classes = np.full(size, BACKGROUND, np.int16)
        segments = np.zeros(size, np.int32)
        objects = []
        for annotation in self._annotations.get(listed["id"], ()):
            inside = self._decode(annotation, size)
            if annotation.get("iscrowd"):
                classes[inside] = VOID
            else:
                value = class_value(self._index, annotation["category_id"], self._listing)
                objects.append((inside, value))
        objects.sort(key=lambda pair: pair[0].sum(), reverse=True)
        for number, (inside, value) in enumerate(objects, start=1):
            classes[inside] = value
            segments[inside] = number
        path = self._folder / listed["file_name"]
        image = read_image(path)
        check_sizes(image.values, path, classes, self._listing)
        return LabelledImage(
            self.keys[index], image.values, classes, segments, self.names, note=image.note
        )

    def _decode(self, annotation: dict, size: tuple[int, int]) -> np.ndarray:
        """Decode the pixels of an annotation, bool (H, W), from polygons or run lengths."""
        where = f"{self._listing}: the segmentation of annotation {annotation['id']}"
        try:
            shape = annotation["segmentation"]
            if isinstance(shape, list):
                # Fewer than three points enclose nothing; pycocotools takes two for a box.
                shape = [polygon for polygon in shape if len(polygon) >= 6]
                if not shape:
                    return np.zeros(size, bool)
                shape = coco_mask.merge(coco_mask.frPyObjects(shape, *size))
            elif isinstance(shape["counts"], list):
                shape = coco_mask.frPyObjects(shape, *size)
            inside = coco_mask.decode(shape).astype(bool)
        except Exception as error:  # pycocotools raises bare exceptions
            raise DataError(f"{where} is neither polygons nor run lengths: {error}") from None
        if inside.shape != size:
            raise DataError(
                f"{where} is {inside.shape[1]} × {inside.shape[0]} pixels, but its image is "
                f"{size[1]} × {size[0]}"
            )
        return inside


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


def read_coco(path: Path, of_image: tuple[str, ...], of_annotation: tuple[str, ...]) -> dict:
    """Read a COCO JSON with its categories sorted by id.

    Args:
        path: the file.
        of_image, of_annotation: what every entry must have.

    Raises:
        DataError: missing, no JSON, without COCO's lists, or with an entry that is not COCO's.
    """
    content = read_json(path)
    needed = {
        "images": of_image,
        "annotations": of_annotation,
        "categories": ("id", "name"),
    }
    if not isinstance(content, dict) or not all(isinstance(content.get(n), list) for n in needed):
        raise DataError(f"{path} is not COCO JSON, expected the lists {', '.join(needed)}")
    for part, fields in needed.items():
        for entry in content[part]:
            if not isinstance(entry, dict) or not all(field in entry for field in fields):
                raise DataError(
                    f"{path} is not COCO JSON: every entry of {part} must have {', '.join(fields)}"
                )
    listed = {image["id"] for image in content["images"]}
    for annotation in content["annotations"]:
        if annotation["image_id"] not in listed:
            raise DataError(
                f"{path} annotates image {annotation['image_id']}, which is missing from its images"
            )
    content["categories"].sort(key=lambda category: category["id"])
    return content


def class_value(index: dict[int, int], category: int, listing: Path) -> int:
    """Return the class value of a category id.

    Raises:
        DataError: the JSON does not list the category.
    """
    if category not in index:
        raise DataError(
            f"{listing} annotates category {category}, which is missing from its categories"
        )
    return index[category]


def plain_coco_name(name: str) -> str:
    """Simplify COCO's stuff names: "wall-other-merged" → "wall"."""
    for ending in ("-merged", "-stuff", "-other"):
        name = name.removesuffix(ending)
    return name.replace("-", " ")
