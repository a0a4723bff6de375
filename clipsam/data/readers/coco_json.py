"""COCO JSON as exporters write it: read as the format means it, or refused with the entry named.

Read alike: numbers as floats or text (448.0, "7"), backslashes in paths, a byte-order mark, one
polygon without brackets around it, polygons as pairs. Left out, and said: annotations without a
shape and those of images that are not listed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...names import fold_name, is_background_name, is_void_name
from ..samples import BACKGROUND, VOID
from .common import DataError, read_json

LISTS = ("images", "annotations", "categories")
LEAST_NUMBERS = 6
"""Coordinates of a polygon that encloses something: three points."""


@dataclass(frozen=True)
class CocoJson:
    """The content of a COCO JSON, with ids, sizes and shapes in one form.

    Attributes:
        path: of the file.
        images: entries of its images, with ``id`` and ``file_name``.
        annotations: entries of its annotations, with ``id``, ``image_id``; without those left out.
        names: class names, each once, by the order of the categories' ids.
        values: class value by category id: index into ``names``, or BACKGROUND, or VOID.
        notes: one sentence for each kind of annotations that was left out.
    """

    path: Path
    images: list[dict]
    annotations: list[dict]
    names: tuple[str, ...]
    values: dict[Any, int]
    notes: tuple[str, ...]

    def class_value(self, entry: dict, annotation: dict) -> int:
        """Return the class value of an annotation, or of one of its segments.

        Raises:
            DataError: the JSON does not list its category.
        """
        category = entry.get("category_id")
        if category not in self.values:
            raise DataError(
                f"{self.path} gives annotation {annotation['id']} the category {category}, which "
                "is missing from its categories"
            )
        return self.values[category]


def is_coco(content: object) -> bool:
    """Return whether a JSON has COCO's three lists."""
    return isinstance(content, dict) and all(isinstance(content.get(n), list) for n in LISTS)


def is_panoptic(content: dict) -> bool:
    """Return whether a COCO JSON lists panoptic segments."""
    first = next(iter(content["annotations"]), None)
    return isinstance(first, dict) and "segments_info" in first


def read_coco(path: Path, panoptic: bool = False, rename: Callable[[str], str] = str) -> CocoJson:
    """Read a COCO JSON.

    Args:
        path: the file.
        panoptic: whether it lists panoptic segments; otherwise instances.
        rename: simplifies the names of its categories.

    Raises:
        DataError: missing, no JSON, without COCO's lists, or with an entry that is not COCO's.
    """
    content = read_json(path)
    if not is_coco(content):
        raise DataError(f"{path} is not COCO JSON, expected the lists {', '.join(LISTS)}")
    images = _entries(content, "images", path, ("id", "file_name"))
    for image in images:
        _set_path(image, "images", path)
        if not panoptic:
            _set_size(image, path)
    _check_unique(images, "images", path)
    needed = ("image_id", "file_name", "segments_info") if panoptic else ("image_id",)
    annotations = _entries(content, "annotations", path, needed)
    names, values = _classes(_entries(content, "categories", path, ("id", "name")), path, rename)
    notes = []
    listed = {image["id"] for image in images}
    annotations, lost = _parted(annotations, lambda one: one["image_id"] in listed)
    if lost:
        image = lost[0]["image_id"]
        notes.append(f"{_left_out(lost, path)} of an image that is not listed, such as {image}.")
    if panoptic:
        for annotation in annotations:
            _set_path(annotation, "annotations", path)
            _set_segments(annotation, path)
        return CocoJson(path, images, annotations, names, values, tuple(notes))
    for annotation in annotations:
        annotation["segmentation"] = _shape(annotation.get("segmentation"))
    shapeless = [one for one in annotations if one["segmentation"] is None]
    if shapeless:
        notes.append(
            f"{_left_out(shapeless, path)} without a shape (segmentation); pixels in their boxes "
            "are not scored."
        )
    return CocoJson(path, images, annotations, names, values, tuple(notes))


def _entries(content: dict, part: str, path: Path, needed: Sequence[str]) -> list[dict]:
    """Return the entries of a list, with ids in one form; annotations without an id get one."""
    for number, entry in enumerate(content[part], start=1):
        if part == "annotations" and isinstance(entry, dict) and entry.get("id") is None:
            entry["id"] = f"number {number}"
        if not isinstance(entry, dict) or not all(field in entry for field in needed):
            raise DataError(
                f"{path} is not COCO JSON: every entry of {part} must have {', '.join(needed)}, "
                f"but {_which(entry, number)} does not"
            )
        for field in ("id", "image_id", "category_id"):
            value = entry.get(field, 0)
            if isinstance(value, bool) or not isinstance(value, int | float | str):
                raise DataError(
                    f"{path}: the {field} of {_which(entry, number)} in {part} must be a number"
                )
            if field in entry:
                entry[field] = value if _whole(value) is None else _whole(value)
    return content[part]


def _which(entry: object, number: int) -> str:
    named = isinstance(entry, dict) and isinstance(entry.get("id"), int | float | str)
    return f"entry {entry['id']}" if named else f"entry number {number}"  # type: ignore[index]


def _whole(value: object) -> int | None:
    """Return a whole number in whatever form it is written; ``None`` if it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.isdecimal() and len(value) < 20:
        return int(value)
    return value if isinstance(value, int) else None


def _set_path(entry: dict, part: str, path: Path) -> None:
    """Bring a path into one form."""
    name = entry["file_name"]
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise DataError(f"{path}: the file_name of entry {entry['id']} in {part} must be a path")
    entry["file_name"] = name.replace("\\", "/").removeprefix("./")


def _set_size(image: dict, path: Path) -> None:
    """Bring the size of an image into one form."""
    for field in ("height", "width"):
        size = _whole(image.get(field))
        if size is None or size <= 0:
            raise DataError(
                f"{path}: the size of {image['file_name']} must be two positive integers"
            )
        image[field] = size


def _set_segments(annotation: dict, path: Path) -> None:
    """Bring the segments of a panoptic annotation into one form."""
    segments = annotation["segments_info"]
    sound = isinstance(segments, list) and all(isinstance(one, dict) for one in segments)
    for segment in segments if sound else ():
        for field in ("id", "category_id"):
            segment[field] = _whole(segment.get(field))
    if not sound or any(one["id"] is None for one in segments):
        raise DataError(
            f"{path}: every segment of annotation {annotation['id']} must have an id and a "
            "category_id, both integers"
        )


def _check_unique(entries: Sequence[dict], part: str, path: Path) -> None:
    counts = Counter(entry["id"] for entry in entries)
    if counts and counts.most_common(1)[0][1] > 1:
        raise DataError(
            f"{path} lists the id {counts.most_common(1)[0][0]} twice in {part}, expected unique "
            "ids"
        )


def _classes(
    categories: Sequence[dict], path: Path, rename: Callable[[str], str]
) -> tuple[tuple[str, ...], dict[Any, int]]:
    """Return the class names and the class value of each category; equal names are one class."""
    _check_unique(categories, "categories", path)
    places: dict[str, int] = {}
    names: list[str] = []
    values: dict[Any, int] = {}
    for category in sorted(categories, key=lambda one: (isinstance(one["id"], str), one["id"])):
        name = category["name"]
        if not isinstance(name, str) or not fold_name(name):
            raise DataError(f"{path}: the name of category {category['id']} must be a text")
        if is_background_name(name):
            values[category["id"]] = BACKGROUND
        elif is_void_name(name):
            values[category["id"]] = VOID
        else:
            plain = rename(name)
            if fold_name(plain) not in places:
                places[fold_name(plain)] = len(names)
                names.append(plain)
            values[category["id"]] = places[fold_name(plain)]
    return tuple(names), values


def _shape(shape: object) -> list | dict | None:
    """Bring a shape into one form: polygons, each a flat list, or run lengths; ``None`` without.

    What is in the lists is checked when the shape is drawn.
    """
    if isinstance(shape, dict):
        return shape or None
    if not isinstance(shape, list):
        return None if shape is None else [shape]
    if shape and all(_is_number(value) for value in shape[:2]):
        shape = [shape]
    elif len(shape) > 2 and all(_is_pair(point) for point in shape):
        shape = [[value for point in shape for value in point]]
    polygons = [
        [value for point in polygon for value in point]
        if isinstance(polygon, list) and polygon and all(_is_pair(point) for point in polygon)
        else polygon
        for polygon in shape
    ]
    # pycocotools takes two points for a box.
    kept = [one for one in polygons if not isinstance(one, list) or len(one) >= LEAST_NUMBERS]
    return kept or None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_pair(point: object) -> bool:
    return isinstance(point, list) and len(point) == 2 and all(map(_is_number, point))


def _parted(
    entries: Sequence[dict], wanted: Callable[[dict], bool]
) -> tuple[list[dict], list[dict]]:
    kept = [one for one in entries if wanted(one)]
    return kept, [one for one in entries if not wanted(one)]


def _left_out(entries: Sequence[dict], path: Path) -> str:
    """Begin a sentence about annotations that were left out."""
    first = f"annotation {entries[0]['id']}"
    if len(entries) == 1:
        return f"{path}: left out {first}"
    return f"{path}: left out {len(entries):,} annotations, the first of them {first},"
