"""Data sets on disk, read image by image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from .images import open_image, open_mask
from .samples import BACKGROUND, VOID, LabelledImage, SegmentationData


class DataError(ValueError):
    """A data set that is not what it should be; the message names the file."""


class FolderData:
    """A plain folder: ``images/``, ``masks/`` (index PNGs of the same stems), ``classes.json``.

    The class list may lie in the folder or one above it. A class named ``background`` becomes
    :data:`BACKGROUND`, one named ``unlabelled`` becomes :data:`VOID`; so does id 255.
    """

    def __init__(self, folder: str | Path) -> None:
        """Raises DataError: a part is missing or damaged, or an image has no mask."""
        self.folder = Path(folder)
        classes = next(
            (p for f in (self.folder, self.folder.parent) if (p := f / "classes.json").is_file()),
            None,
        )
        if classes is None:
            raise DataError(f"{self.folder} has no classes.json (a list of names, index = id)")
        listed = _read_json(classes)
        if not isinstance(listed, list):
            raise DataError(f"{classes} is no list of names, index = id")
        special = {"background": BACKGROUND, "unlabelled": VOID}
        self.names = tuple(name for name in listed if name not in special)
        self._values = np.full(max(256, len(listed)), VOID, np.int16)
        for index, name in enumerate(listed):
            self._values[index] = special[name] if name in special else self.names.index(name)
        self._known = len(listed)
        for part in ("images", "masks"):
            if not (self.folder / part).is_dir():
                raise DataError(f"{self.folder} has no folder {part}/")
        self.images = sorted(
            p for p in (self.folder / "images").iterdir() if p.is_file() and p.name[0] != "."
        )
        for image in self.images:
            if not self._mask(image).is_file():
                raise DataError(f"{image} has no mask {self._mask(image)}")

    def _mask(self, image: Path) -> Path:
        return self.folder / "masks" / f"{image.stem}.png"

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> LabelledImage:
        path = self.images[index]
        ids = open_mask(self._mask(path))
        unknown = ids[(ids >= self._known) & (ids != 255)]
        if unknown.size:
            raise DataError(
                f"{self._mask(path)} holds class id {unknown.max()}, but classes.json lists "
                f"{self._known} names (ids 0..{self._known - 1})"
            )
        classes = self._values[ids]
        return LabelledImage(
            path.stem, open_image(path), classes, connected_segments(classes), self.names
        )


class CocoPanopticData:
    """COCO's panoptic format: one JSON and a folder of PNGs whose colours number the segments."""

    def __init__(self, root: str | Path, part: str) -> None:
        """
        Args:
            root: folder with ``annotations/panoptic_{part}.json``, the folder of PNGs of the same
                name, and the images in ``{part}/``.
            part: ``train2017`` or ``val2017``.
        """
        self.root, self.part = Path(root), part
        listing = self.root / "annotations" / f"panoptic_{part}.json"
        if not listing.is_file():
            raise DataError(f"{listing} is missing")
        content = _read_json(listing)
        categories = sorted(content["categories"], key=lambda c: c["id"])
        self.names = tuple(plain_coco_name(c["name"]) for c in categories)
        self._index = {c["id"]: i for i, c in enumerate(categories)}
        self._files = {i["id"]: i["file_name"] for i in content["images"]}
        self._annotations = content["annotations"]

    def __len__(self) -> int:
        return len(self._annotations)

    def __getitem__(self, index: int) -> LabelledImage:
        annotation = self._annotations[index]
        folder = self.root / "annotations" / f"panoptic_{self.part}"
        colours = open_image(folder / annotation["file_name"]).astype(np.int32)
        ids = colours @ np.array([1, 256, 256**2], np.int32)
        classes = np.full(ids.shape, VOID, np.int16)
        segments = np.zeros(ids.shape, np.int32)
        for number, segment in enumerate(annotation["segments_info"], start=1):
            inside = ids == segment["id"]
            classes[inside] = self._index[segment["category_id"]]
            segments[inside] = number
        file_name = self._files[annotation["image_id"]]
        image = open_image(self.root / self.part / file_name)
        return LabelledImage(Path(file_name).stem, image, classes, segments, self.names)


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise DataError(f"{path} is no JSON: {error}") from None


def plain_coco_name(name: str) -> str:
    """COCO's stuff names as a person would type them: "wall-other-merged" → "wall"."""
    for ending in ("-merged", "-stuff", "-other"):
        name = name.removesuffix(ending)
    return name.replace("-", " ")


def connected_segments(classes: np.ndarray) -> np.ndarray:
    """Number the connected regions of each class: int32 (H, W), 0 where there is no class."""
    segments = np.zeros(classes.shape, np.int32)
    for value in np.unique(classes):
        if value >= 0:
            labels, _ = ndimage.label(classes == value)
            segments[labels > 0] = labels[labels > 0] + segments.max()
    return segments


class CachedData:
    """A data set kept in memory, each image's long side reduced to at most ``side`` pixels."""

    def __init__(self, data: SegmentationData, side: int) -> None:
        self.names = data.names
        self._data, self._side = data, side
        self._cache: dict[int, LabelledImage] = {}

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> LabelledImage:
        if index not in self._cache:
            self._cache[index] = shrink(self._data[index], self._side)
        return self._cache[index]


class SubsetData:
    """A seeded random part of a data set: a low-data split."""

    def __init__(self, data: SegmentationData, size: int, seed: int) -> None:
        self.names = data.names
        self._data = data
        self._kept = np.random.default_rng(seed).permutation(len(data))[:size]

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> LabelledImage:
        return self._data[int(self._kept[index])]


def shrink(sample: LabelledImage, side: int) -> LabelledImage:
    """Reduce the long side to at most ``side`` pixels; labels by nearest neighbour."""
    height, width = sample.classes.shape
    scale = side / max(height, width)
    if scale >= 1:
        return sample
    size = (max(1, round(width * scale)), max(1, round(height * scale)))

    def nearest(values: np.ndarray) -> np.ndarray:
        picture = Image.fromarray(values.astype(np.int32))
        return np.asarray(picture.resize(size, Image.Resampling.NEAREST)).astype(values.dtype)

    image = Image.fromarray(sample.image).resize(size, Image.Resampling.BILINEAR, reducing_gap=2)
    return LabelledImage(
        sample.key,
        np.asarray(image),
        nearest(sample.classes),
        nearest(sample.segments),
        sample.names,
    )
