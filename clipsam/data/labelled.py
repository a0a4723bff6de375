"""A few labelled images of one user: read, validated, and combined into a data set."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from .images import ImageError, open_image, open_mask
from .readers import DataError, connected_segments, shrink
from .readers.common import list_pairs
from .samples import BACKGROUND, VOID, VOID_IDS, VOID_NAMES, LabelledImage
from .uploads import Source, check_class_count, from_zip, read_class_list

MAX_IMAGES = 32
"""Limit of labelled images."""

KEPT_SIDE = 1024
"""Long side above which a labelled image is reduced, pixels."""

MASK_ENDINGS = ("_mask", "-mask")
"""Suffixes of a mask's file name after the stem of its image."""

# ---- one picture ----


def from_masks(key: str, image: np.ndarray, masks: Mapping[str, np.ndarray]) -> LabelledImage:
    """Build a labelled image from one mask per class; where masks overlap, the smallest counts.

    Args:
        key: its name.
        image: uint8 (H, W, 3).
        masks: bool (H, W) by class name; empty masks are ignored.

    Raises:
        DataError: a mask of another size, a class without a name or a duplicate, no foreground.
    """
    names = check_names(tuple(masks))
    classes = np.full(image.shape[:2], BACKGROUND, np.int16)
    areas = [np.count_nonzero(mask) for mask in masks.values()]
    for index, mask in sorted(enumerate(masks.values()), key=lambda item: -areas[item[0]]):
        _check_size(key, image, mask)
        classes[mask] = index
    return _picture(key, image, classes, names)


def from_ids(key: str, image: np.ndarray, ids: np.ndarray, names: Sequence[str]) -> LabelledImage:
    """Build a labelled image from a mask of ids.

    Args:
        key: its name.
        image: uint8 (H, W, 3).
        ids: int (H, W), as :func:`open_mask` reads it.
        names: class names, index = id, of which ``background`` and ``unlabelled`` are none; or one
            name, for a binary mask.

    Raises:
        DataError: sizes that differ, a name twice, an id without a name, no foreground.
    """
    names = check_names(names)
    _check_size(key, image, ids)
    found = [int(value) for value in np.unique(ids)]
    known = [value for value in found if value not in VOID_IDS or value < len(names)]
    if len(names) == 1:
        shown = [value for value in known if value] or [value for value in found if value]
        if len(shown) > 1:
            raise DataError(
                f"{key}: the mask contains the ids {', '.join(map(str, shown[:5]))}, but only "
                f"“{names[0]}” is named. Name all ids in order: background, dog, cat."
            )
        values = {0: BACKGROUND} | dict.fromkeys(shown, 0)
    else:
        unnamed = [value for value in known if value >= len(names)]
        if unnamed:
            raise DataError(
                f"{key}: the mask contains the id {unnamed[0]}, but names are given for 0 to "
                f"{len(names) - 1} only. Name all ids in order, including 0: background, dog, cat."
            )
        special = {"background": BACKGROUND, **dict.fromkeys(VOID_NAMES, VOID)}
        values = {index: special.get(name.lower(), index) for index, name in enumerate(names)}
    classes = np.full(ids.shape, VOID, np.int16)
    for number, value in values.items():
        classes[ids == number] = value
    return _picture(key, image, classes, names)


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Check class names and remove extra spaces.

    Raises:
        DataError: no name, an empty one, a duplicate, ignoring case, or too many.
    """
    check_class_count(names, "The list of class names")
    clean = tuple(" ".join(name.split()) for name in names)
    if not clean or not all(clean):
        raise DataError("Every class needs a name. Enter “dog”, or “background, dog, cat”.")
    lower = [name.lower() for name in clean]
    for name in clean:
        if lower.count(name.lower()) > 1:
            raise DataError(f"Two classes are named “{name}”, expected unique names.")
    return clean


def _check_size(key: str, image: np.ndarray, mask: np.ndarray) -> None:
    if mask.shape != image.shape[:2]:
        (height, width), (mask_height, mask_width) = image.shape[:2], mask.shape
        raise DataError(
            f"{key}: the mask is {mask_width} × {mask_height} pixels, but the image is {width} × "
            f"{height}. Both must have the same size."
        )


def _picture(
    key: str, image: np.ndarray, classes: np.ndarray, names: Sequence[str]
) -> LabelledImage:
    """Build a labelled image, reduced if large, with the names of the classes present only."""
    segments = np.zeros(classes.shape, np.int32)
    small = shrink(LabelledImage(key, image, classes, segments, tuple(names)), KEPT_SIDE)
    shown = small.present()
    if not shown:
        raise DataError(
            f"{key}: the mask has no foreground, expected at least one of the named classes."
        )
    places = np.searchsorted(shown, small.classes)
    own = np.where(small.classes >= 0, places, small.classes).astype(np.int16)
    names = tuple(small.names[index] for index in shown)
    return dataclasses.replace(small, classes=own, segments=connected_segments(own), names=names)


# ---- uploads ----


def read_upload(paths: Sequence[Path], names: Sequence[str]) -> list[LabelledImage]:
    """Read images with their masks, or one archive of them.

    Args:
        paths: images and masks of the same stem (``dog.jpg`` with ``dog.png`` or
            ``dog_mask.png``); or a zip with ``images/``, ``masks/`` and perhaps ``classes.json``.
        names: of the ids, see :func:`from_ids`; an archive's own come first.

    Raises:
        DataError: the files cannot be used.
    """
    if not paths:
        raise DataError("Choose files first: images with their masks, or one zip.")
    archives = [path for path in paths if path.suffix.lower() == ".zip"]
    if archives and len(paths) > 1:
        raise DataError("Choose either one zip, or images and masks, not both.")
    if archives:
        with closing(from_zip(archives[0])) as source:
            try:
                return [*_of_archive(source, names)]
            except DataError as error:
                raise DataError(source.describe_error(error)) from None
    pairs = _paired(paths)
    _check_number(len(pairs))
    names = check_names(names)
    return [_read(key, *files, names) for key, files in sorted(pairs.items())]


def _of_archive(source: Source, typed: Sequence[str]) -> Iterator[LabelledImage]:
    """Read all parts of an archive; its own names come before the typed ones."""
    several = len(source.parts) > 1
    left = MAX_IMAGES
    for name in source.parts:
        folder = source.folder(name)
        if folder is None:
            data = source.open(name)
            left -= len(data)
            _check_number(MAX_IMAGES - left)
            for sample in map(data.__getitem__, range(len(data))):
                key = f"{name}/{sample.key}" if several else sample.key
                yield _picture(key, sample.image, sample.classes, sample.names)
            continue
        pairs = list_pairs(folder / "images", folder / "masks")
        if not pairs:
            raise DataError(f"{source.name} has no folder images/ with images.")
        left -= len(pairs)
        _check_number(MAX_IMAGES - left)
        names = check_names(read_class_list(folder) or typed)
        for image, mask in pairs:
            yield _read(f"{name}/{image.stem}" if several else image.stem, image, mask, names)


def _check_number(count: int) -> None:
    """Check the number of labelled images.

    Raises:
        DataError: they are too many.
    """
    if count > MAX_IMAGES:
        raise DataError(f"{count} images are more than the limit of {MAX_IMAGES}.")


def _read(key: str, picture: Path, mask: Path, names: Sequence[str]) -> LabelledImage:
    try:
        return from_ids(key, open_image(picture), open_mask(mask), names)
    except ImageError as error:
        raise DataError(str(error)) from None


def _paired(paths: Sequence[Path]) -> dict[str, tuple[Path, Path]]:
    """Pair (image, mask) files by their common stem."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        groups[_stem(path)].append(path)
    return {key: _told_apart(key, files) for key, files in groups.items()}


def _stem(path: Path) -> str:
    for ending in MASK_ENDINGS:
        if path.stem.lower().endswith(ending):
            return path.stem[: -len(ending)]
    return path.stem


def _told_apart(key: str, files: Sequence[Path]) -> tuple[Path, Path]:
    """Decide which file of a stem is the image, and which the mask."""
    masks = [path for path in files if path.stem != key]
    masks = masks or [path for path in files if path.suffix.lower() == ".png"]
    pictures = [path for path in files if path not in masks]
    if len(pictures) == 1 and not masks:
        raise DataError(f"{files[0].name} has no mask. Add {key}.png or {key}_mask.png.")
    if len(masks) == 1 and not pictures:
        raise DataError(f"{files[0].name} has no partner. Add its image {key}.jpg, or its mask.")
    if len(pictures) != 1 or len(masks) != 1:
        raise DataError(
            f"Cannot tell which file of {key} is the mask. Name the image {key}.jpg and the mask "
            f"{key}.png or {key}_mask.png."
        )
    return pictures[0], masks[0]


# ---- several pictures ----


def with_more(
    pictures: Sequence[LabelledImage], more: Sequence[LabelledImage]
) -> tuple[LabelledImage, ...]:
    """Add labelled images to others.

    Raises:
        DataError: too many, or a duplicate by name or pixels, which could be both trained on and
            held out.
    """
    joined = list(pictures)
    if len(joined) + len(more) > MAX_IMAGES:
        raise DataError(
            f"{len(joined) + len(more)} images are more than the limit of {MAX_IMAGES}. For more, "
            "use python -m clipsam train."
        )
    for new in more:
        for old in joined:
            if new.key == old.key:
                raise DataError(f"There is already an image {new.key}. Remove it first.")
            if np.array_equal(new.image, old.image):
                raise DataError(f"{new.key} is the same image as {old.key}.")
        joined.append(new)
    return tuple(joined)


class LabelledImages:
    """Labelled images as one data set; names that differ only in case are one class."""

    def __init__(self, pictures: Sequence[LabelledImage]) -> None:
        self._pictures = tuple(pictures)
        self.keys = tuple(picture.key for picture in pictures)
        first: dict[str, str] = {}
        for picture in pictures:
            for name in picture.names:
                first.setdefault(name.lower(), name)
        self.names = tuple(first.values())
        self._place = {name: index for index, name in enumerate(first)}

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> LabelledImage:
        picture = self._pictures[index]
        own = picture.classes
        places = np.array([self._place[name.lower()] for name in picture.names], np.int16)
        classes = np.where(own >= 0, places[np.maximum(own, 0)], own)
        return dataclasses.replace(picture, classes=classes, names=self.names)
