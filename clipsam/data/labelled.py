"""A few labelled images of one user: read, validated, and combined into a data set."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import cache, partial
from pathlib import Path, PurePath

import numpy as np

from ..names import fold_name
from .images import ImageError, Loaded, load_image, load_mask, size_rule
from .label_values import LabelNames
from .pairing import PICTURE_ENDINGS, is_litter, stem_of
from .readers import DataError, connected_segments, shrink
from .readers.combine import resize_nearest
from .readers.common import list_pairs
from .readers.registry import notes_of
from .samples import BACKGROUND, LabelledImage
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
        _check_size(key, image.shape[:2], mask.shape)
        classes[mask] = index
    return _picture(key, image, classes, names)


def from_ids(
    key: str,
    image: np.ndarray,
    ids: np.ndarray,
    names: Sequence[str],
    holds_ids: Callable[[], bool] = lambda: False,
) -> LabelledImage:
    """Build a labelled image from the values of a mask, whose meaning :mod:`.label_values` says.

    Args:
        key: its name.
        image: uint8 (H, W, 3).
        ids: int (H, W), as :func:`load_mask` reads it.
        names: class names, index = id, of which ``background`` and ``unlabelled`` are none; or one
            name, for a binary mask.
        holds_ids: whether other masks hold ids, asked only if this one could be binary.

    Raises:
        DataError: sizes that differ, an id without a name, no foreground.
    """
    _check_size(key, image.shape[:2], ids.shape)
    try:
        labels = LabelNames(_clean(names))
        classes = labels.read(ids, f"{key}: the mask", holds_ids)
    except ImageError as error:
        raise DataError(str(error)) from None
    made = _picture(key, image, classes.values, labels.names)
    return dataclasses.replace(made, note=classes.note)


def _clean(names: Sequence[str]) -> tuple[str, ...]:
    """Remove extra spaces from class names.

    Raises:
        DataError: no name, an empty one, or too many.
    """
    check_class_count(names, "The list of class names")
    clean = tuple(" ".join(name.split()) for name in names)
    if not clean or not all(clean):
        raise DataError("Every class needs a name. Enter “dog”, or “background, dog, cat”.")
    return clean


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Check class names and remove extra spaces.

    Raises:
        DataError: no name, an empty one, a duplicate, ignoring case, or too many.
    """
    clean = _clean(names)
    folded = [fold_name(name) for name in clean]
    for name in clean:
        if folded.count(fold_name(name)) > 1:
            raise DataError(f"Two classes are named “{name}”, expected unique names.")
    return clean


def _check_size(key: str, image: tuple[int, ...], mask: tuple[int, ...]) -> None:
    """Check the sizes (height, width) of an image and its mask.

    Raises:
        DataError: they differ.
    """
    if mask != image:
        (height, width), (mask_height, mask_width) = image, mask
        raise DataError(
            f"{key}: the mask is {mask_width} × {mask_height} pixels, but the image is {width} × "
            f"{height}. {size_rule((height, width), (mask_height, mask_width))}"
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
    return _read_all(sorted(pairs.items()), names)


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
            notes = [*notes_of(data)]
            for sample in map(data.__getitem__, range(len(data))):
                key = f"{name}/{sample.key}" if several else sample.key
                made = _picture(key, sample.image, sample.classes, sample.names)
                notes = [source.describe_error(one) for one in (*notes, sample.note) if one]
                yield dataclasses.replace(made, note=" ".join(notes))
                notes = []  # Those of the whole part are said once.
            continue
        pairs = list_pairs(folder / "images", folder / "masks", endings=PICTURE_ENDINGS)
        if not pairs:
            raise DataError(f"{source.name} has no folder images/ with images.")
        left -= len(pairs)
        _check_number(MAX_IMAGES - left)
        stems = (stem_of(image) for image, _ in pairs)
        keys = [f"{name}/{stem}" if several else stem for stem in stems]
        names = read_class_list(folder) or typed
        yield from _read_all([*zip(keys, pairs, strict=True)], names)


def _check_number(count: int) -> None:
    """Check the number of labelled images.

    Raises:
        DataError: they are too many.
    """
    if count > MAX_IMAGES:
        raise DataError(f"{count} images are more than the limit of {MAX_IMAGES}.")


def _read_all(
    files: Sequence[tuple[str, tuple[Path, Path]]], names: Sequence[str]
) -> list[LabelledImage]:
    """Read (image, mask) files by key; whether 255 is void depends on all masks together."""
    check_class_count(names, "The list of class names")
    labels = LabelNames(_clean(names))

    @cache
    def holds_ids() -> bool:
        return any(labels.has_ids(_load(load_mask, mask).values) for _, (_, mask) in files)

    made = []
    for key, (picture, mask) in files:
        image = _load(partial(load_image, side=KEPT_SIDE), picture)
        ids = _load(load_mask, mask)
        values = ids.values
        if image.full_size is not None:
            _check_size(key, image.full_size, values.shape)
            values = resize_nearest(values, image.values.shape[:2])
        one = from_ids(key, image.values, values, names, holds_ids)
        notes = filter(None, (image.note, one.note or ids.note))
        made.append(dataclasses.replace(one, note=" ".join(notes)))
    return made


def _load(load: Callable[[Path], Loaded], path: Path) -> Loaded:
    try:
        return load(path)
    except ImageError as error:
        raise DataError(str(error)) from None


def _paired(paths: Sequence[Path]) -> dict[str, tuple[Path, Path]]:
    """Pair (image, mask) files by their common stem."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        if not is_litter(PurePath(path.name)):
            groups[_stem(path)].append(path)
    if not groups:
        raise DataError("Choose files first: images with their masks, or one zip.")
    return {key: _told_apart(key, files) for key, files in groups.items()}


def _stem(path: Path) -> str:
    stem = stem_of(path)
    for ending in MASK_ENDINGS:
        if stem.lower().endswith(ending):
            return stem[: -len(ending)]
    return stem


def _told_apart(key: str, files: Sequence[Path]) -> tuple[Path, Path]:
    """Decide which file of a stem is the image, and which the mask."""
    masks = [path for path in files if stem_of(path) != key]
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
                first.setdefault(fold_name(name), name)
        self.names = tuple(first.values())
        self._place = {name: index for index, name in enumerate(first)}

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> LabelledImage:
        picture = self._pictures[index]
        own = picture.classes
        places = np.array([self._place[fold_name(name)] for name in picture.names], np.int16)
        classes = np.where(own >= 0, places[np.maximum(own, 0)], own)
        return dataclasses.replace(picture, classes=classes, names=self.names)
