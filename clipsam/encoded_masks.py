"""Masks of classes and their objects as run lengths, and the files that other tools read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image
from pycocotools import mask as run_lengths

from .data.pairing import IMAGE_ENDINGS
from .export import safe_name
from .polygons import polygon_around
from .types import Prediction
from .writing import OutputError, check_folder, replacing, write_text

MOST_NUMBERS = 65_535
"""Objects that a 16-bit PNG can number."""


@dataclass(frozen=True)
class EncodedMask:
    """The mask of a class, or of one of its objects, in one image.

    Attributes:
        category: index of the class.
        instance: number of the object in its image, from 1; ``None`` for the whole mask of a class.
        score: in [0, 1].
        box: (x0, y0, x1, y1) in pixels of the image.
        area: pixels.
        counts: COCO's compressed run lengths.
    """

    category: int
    instance: int | None
    score: float
    box: tuple[float, float, float, float]
    area: int
    counts: str

    @classmethod
    def of(
        cls,
        mask: np.ndarray,
        category: int,
        instance: int | None,
        score: float,
        box: np.ndarray | None = None,
    ) -> EncodedMask:
        """Encode a mask, bool (H, W); without a box, it gets the one around the mask."""
        encoded = run_lengths.encode(np.asfortranarray(mask.view(np.uint8)))
        if box is None:
            x, y, width, height = run_lengths.toBbox(encoded)
            box = np.array([x, y, x + width, y + height])
        x0, y0, x1, y1 = (float(value) for value in box)
        area, counts = int(run_lengths.area(encoded)), encoded["counts"].decode()
        return cls(category, instance, score, (x0, y0, x1, y1), area, counts)

    @property
    def bbox(self) -> list[float]:
        """The box as COCO has it: [x, y, width, height]."""
        x0, y0, x1, y1 = self.box
        return [x0, y0, x1 - x0, y1 - y0]

    def decode(self, size: tuple[int, int]) -> np.ndarray:
        """Return the mask, bool (H, W), of an image of (height, width)."""
        return run_lengths.decode({"size": list(size), "counts": self.counts}).astype(bool)


@dataclass(frozen=True)
class ImageMasks:
    """All masks of an image.

    Attributes:
        key: a name that is unique in its collection; with slashes, it is a path.
        name: file name, or where the image is from.
        size: (height, width).
        masks: of its classes, or of their objects.
    """

    key: str
    name: str
    size: tuple[int, int]
    masks: Sequence[EncodedMask]


Images = Callable[[], Iterable[ImageMasks]]
"""All images of a collection, to be read more than once, so that they need not fit into memory."""


def encode_masks(
    prediction: Prediction, threshold: float = 0.0, regions: bool = False
) -> list[EncodedMask]:
    """Encode the objects of a prediction.

    Args:
        prediction: of any method.
        threshold: masks are logits above it.
        regions: whether a class whose method tells no objects apart is divided into connected
            regions; otherwise it is one mask, scored by the class's presence, 1 if that is unknown.
            Empty masks are left out.
    """
    encoded: list[EncodedMask] = []
    number = 0
    for category, result in enumerate(prediction.results):
        if result.instances is None and not regions:
            mask = prediction.class_mask(category, threshold)
            if mask.any():
                score = 1.0 if np.isnan(result.presence) else float(result.presence)
                encoded.append(EncodedMask.of(mask, category, None, score))
            continue
        for one in prediction.each_instance(category, threshold):
            number += 1
            encoded.append(EncodedMask.of(one.mask, category, number, one.score, one.box))
    return encoded


def coco_annotation(
    mask: EncodedMask, size: tuple[int, int], number: int, image_id: int, category_id: int
) -> dict:
    """Return a mask as an annotation of COCO, with ``id`` = ``number`` and a ``score``."""
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": {"size": list(size), "counts": mask.counts},
        "bbox": mask.bbox,
        "area": mask.area,
        "iscrowd": 0,
        "score": mask.score,
    }


@dataclass(frozen=True)
class CocoIds:
    """The ids of a COCO file.

    Attributes:
        categories: id of each class, in order.
        images: id of each image by its key; ``None`` numbers them from 1.
    """

    categories: Sequence[int]
    images: Mapping[str, int] | None = None


def write_coco(path: Path, images: Images, names: Sequence[str], ids: CocoIds) -> None:
    """Write a COCO JSON; its list ``annotations`` alone is what ``COCO.loadRes`` reads.

    Args:
        path: the file.
        images: see :data:`Images`; read twice.
        names: of the classes.
        ids: of classes and images.
    """

    def image_id(position: int, image: ImageMasks) -> int:
        return position if ids.images is None else ids.images[image.key]

    def listed() -> Iterator[dict]:
        for position, image in enumerate(images(), start=1):
            height, width = image.size
            number = image_id(position, image)
            yield {"id": number, "file_name": image.name, "height": height, "width": width}

    def annotations() -> Iterator[dict]:
        count = 0
        for position, image in enumerate(images(), start=1):
            number = image_id(position, image)
            for mask in image.masks:
                count += 1
                category = ids.categories[mask.category]
                yield coco_annotation(mask, image.size, count, number, category)

    categories = zip(ids.categories, names, strict=True)
    parts: dict[str, Iterable[dict]] = {
        "images": listed(),
        "categories": ({"id": number, "name": name} for number, name in categories),
        "annotations": annotations(),
    }
    check_folder(path.parent)
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
        for begin, (part, entries) in zip("{,,", parts.items(), strict=True):
            file.write(f'{begin}"{part}": [')
            for position, entry in enumerate(entries):
                file.write((",\n" if position else "\n") + json.dumps(entry))
            file.write("]\n")
        file.write("}\n")


def write_yolo(folder: Path, images: Images, names: Sequence[str]) -> None:
    """Write labels for ultralytics' segmentation: a text file per image, and ``data.yaml``.

    Each line is an object: the number of its class from 0, then a polygon, x and y in turn as
    shares of width and height, see :func:`.polygons.polygon_around`. An image without an object
    has an empty file.

    Args:
        folder: the labels lie in its ``labels/``, at the path that is the image's key.
        images: see :data:`Images`.
        names: of the classes.
    """
    for image, path in _with_paths(images(), folder / "labels", ".txt"):
        scale = np.array(image.size[::-1])
        lines = []
        for mask in image.masks:
            polygon = polygon_around(mask.decode(image.size)) / scale
            numbers = " ".join(f"{value:.6f}" for value in polygon.ravel())
            lines.append(f"{mask.category} {numbers}\n")
        write_text(path, "".join(lines))
    # A text in JSON is one in YAML.
    listed = "".join(f"  {number}: {json.dumps(name)}\n" for number, name in enumerate(names))
    check_folder(folder)
    write_text(folder / "data.yaml", f"path: .\ntrain: images\nval: images\nnames:\n{listed}")


def write_maps(folder: Path, images: Images, names: Sequence[str]) -> None:
    """Write two index PNGs per image, in which the mask with the highest score is on top.

    ``label-maps/KEY.png`` holds 0 for none of the classes, then 1, 2, … in their order;
    ``instance-maps/KEY.png``, 16 bits deep, the number of the object (of the mask, for a class that
    is one), 0 where there is none.

    Raises:
        OutputError: more objects in an image than a PNG can number.
    """
    dtype = np.uint8 if len(names) < 256 else np.uint16
    for image, path in _with_paths(images(), folder / "label-maps", ".png"):
        _save_png(path, index_map(image, [mask.category + 1 for mask in image.masks], dtype))
    for image, path in _with_paths(images(), folder / "instance-maps", ".png"):
        given = enumerate(image.masks, start=1)
        numbers = [mask.instance or position for position, mask in given]
        if max(numbers, default=0) > MOST_NUMBERS:
            raise OutputError(
                f"{image.key} has {max(numbers):,} objects, but a PNG can number {MOST_NUMBERS:,}. "
                "Raise the threshold, or leave out --png."
            )
        _save_png(path, index_map(image, numbers, np.uint16))


def index_map(image: ImageMasks, values: Sequence[int], dtype: type) -> np.ndarray:
    """Draw the value of each mask, the one with the highest score on top, as ``dtype`` (H, W)."""
    drawn: np.ndarray = np.zeros(image.size, dtype)
    for index in sorted(range(len(values)), key=lambda index: image.masks[index].score):
        drawn[image.masks[index].decode(image.size)] = values[index]
    return drawn


def _save_png(path: Path, values: np.ndarray) -> None:
    with replacing(path) as partial:
        Image.fromarray(values).save(partial)


def _with_paths(
    images: Iterable[ImageMasks], folder: Path, ending: str
) -> Iterator[tuple[ImageMasks, Path]]:
    """Yield images with the file of each, in a folder that exists; equal names are numbered."""
    taken: set[str] = set()
    for image in images:
        key = PurePosixPath(image.key)
        if key.suffix.lower() in IMAGE_ENDINGS:
            key = key.with_suffix("")
        # A key may come from an archive: it must not lead outside.
        *folders, stem = map(safe_name, [part for part in key.parts if part != "/"] or ["_"])
        there = folder.joinpath(*folders)
        path, number = there / f"{stem}{ending}", 2
        while str(path).lower() in taken:
            path, number = there / f"{stem} {number}{ending}", number + 1
        taken.add(str(path).lower())
        check_folder(there)
        yield image, path
