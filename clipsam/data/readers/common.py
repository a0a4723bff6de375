"""Shared parts of the readers: their error, validated reading, and connected regions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from scipy import ndimage
from scipy.io import loadmat

from ...errors import ClipsamError
from ..images import ImageError, Loaded, load_image, load_mask, size_rule
from ..pairing import list_files, stem_of
from ..samples import LabelledImage, SegmentationData


class DataError(ClipsamError):
    """An invalid data set; the message names the file."""


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: missing, unreadable, or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not text in UTF-8, expected JSON") from None
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON: {error}") from None
    except RecursionError:
        raise DataError(f"{path} is not valid JSON: its brackets are nested too deeply") from None


def read_lines(path: Path, holding: str) -> list[str]:
    """Read the non-empty lines of a text file, stripped.

    Raises:
        DataError: missing, or not text.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist, expected {holding}") from None
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{path} cannot be read as text, expected {holding}") from None
    return [line.strip() for line in lines if line.strip()]


def read_image(path: Path) -> Loaded:
    """Read an image, uint8 (H, W, 3).

    Raises:
        DataError: unreadable; the message has the whole path.
    """
    try:
        return load_image(path)
    except ImageError as error:
        raise DataError(f"{path}: {error}") from None


def read_mask(path: Path) -> Loaded:
    """Read the values of a mask, int64 (H, W).

    Raises:
        DataError: unreadable; the message has the whole path.
    """
    try:
        return load_mask(path)
    except ImageError as error:
        raise DataError(f"{path}: {error}") from None


def read_mat(path: Path, field: str) -> np.ndarray:
    """Read an array of a MATLAB file, int64 (H, W); nested fields are joined by dots.

    Raises:
        DataError: missing, damaged, or without that field.
    """
    try:
        value: Any = loadmat(path, squeeze_me=True, struct_as_record=False)
        first, *rest = field.split(".")
        value = value[first]
        for name in rest:
            value = getattr(value, name)
        value = np.asarray(value).astype(np.int64)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except Exception as error:  # what loadmat raises at a damaged file is not documented
        raise DataError(f"{path} has no readable MATLAB field {field}: {error}") from None
    if value.ndim != 2:
        raise DataError(f"{path}: {field} has shape {value.shape}, expected (height, width)")
    return value


def check_sizes(image: np.ndarray, image_path: Path, mask: np.ndarray, mask_path: Path) -> None:
    """Check that image (H, W, 3) and mask (H, W, ...) have the same size.

    Raises:
        DataError: they do not.
    """
    (height, width), (mask_height, mask_width) = image.shape[:2], mask.shape[:2]
    if (height, width) != (mask_height, mask_width):
        raise DataError(
            f"{mask_path} is {mask_width} × {mask_height} pixels, but its image {image_path} is "
            f"{width} × {height}. {size_rule((height, width), (mask_height, mask_width))}"
        )


def list_pairs(
    images: Path, masks: Path, skip: str = "", endings: Sequence[str] = (".png",)
) -> list[tuple[Path, Path]]:
    """Pair every image of a folder with the mask of its stem in another folder, sorted.

    Args:
        images: folder of the images; hidden files and an operating system's own are ignored.
        masks: folder of the masks.
        skip: images with this in their name are ignored.
        endings: of masks, of which an earlier one is preferred.

    Raises:
        DataError: no such folder, or an image without a mask.
    """
    for folder in (images, masks):
        if not folder.is_dir():
            raise DataError(f"{folder.parent} has no folder {folder.name}/")
    there: dict[str, Path] = {}
    ranks = {ending: rank for rank, ending in enumerate(endings)}
    found = [mask for mask in list_files(masks) if mask.suffix.lower() in ranks]
    for mask in sorted(found, key=lambda mask: ranks[mask.suffix.lower()]):
        there.setdefault(stem_of(mask), mask)
    pairs = []
    for image in list_files(images):
        if skip and skip in image.name:
            continue
        if stem_of(image) not in there:
            raise DataError(f"{image} has no mask {masks / image.stem}{endings[0]}")
        pairs.append((image, there[stem_of(image)]))
    return pairs


class DataReader:
    """A data set in a folder, found by the attributes stated here, see :mod:`.registry`."""

    kinds: ClassVar[tuple[str, ...]] = ()
    """Names of the kind in ``kind:path``."""
    parts: ClassVar[Mapping[str, str]] = {}
    """The data set's own names of ``train``, ``val`` and ``test``, where different."""
    single_object: ClassVar[bool] = False
    """Whether each image shows at most one object."""
    notes: tuple[str, ...] = ()
    """One sentence for each kind of labels that was left out."""

    @classmethod
    def open(cls, kind: str, root: Path, part: str) -> SegmentationData:
        """Open one part.

        Args:
            kind: one of :attr:`kinds`.
            root: the folder.
            part: ``train``, ``val``, or the data set's own name of a part.

        Raises:
            DataError: the data set is invalid.
        """
        build: Any = cls  # A reader that does not override this is built from folder and part.
        return build(root, cls.parts.get(part, part))


UNLISTED = np.iinfo(np.int16).min
"""Marks ids unknown to a data set; no class value is this low."""


class PairedData(DataReader):
    """A data set with two files per image: the image, and a map of class ids.

    Attributes:
        names: class names.
        keys: stem of each image.
    """

    def __init__(
        self,
        names: Sequence[str],
        pairs: Sequence[tuple[Path, Path]],
        values: Mapping[int, int],
        known: str,
    ) -> None:
        """Store names and files.

        Args:
            names: class names.
            pairs: (image, mask) files.
            values: class value of every id that a mask may hold.
            known: description of the valid ids, for error messages.

        Raises:
            DataError: two images of one stem.
        """
        self.names = tuple(names)
        self._pairs = list(pairs)
        self._known = known
        self._table = np.full(max(values, default=0) + 2, UNLISTED, np.int16)
        for number, value in values.items():
            self._table[number] = value
        self.keys = tuple(stem_of(image) for image, _ in pairs)
        if len(set(self.keys)) < len(self.keys):
            key, _ = Counter(self.keys).most_common(1)[0]
            folder = self._pairs[self.keys.index(key)][0].parent
            raise DataError(f"{folder} has more than one image {key}, expected unique stems")

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> LabelledImage:
        """Return a labelled image.

        Raises:
            DataError: unreadable, different sizes, or an unknown id.
        """
        image_path, mask_path = self._pairs[index]
        image, classes = read_image(image_path), self._classes(index)
        check_sizes(image.values, image_path, classes.values, mask_path)
        return LabelledImage(
            self.keys[index],
            image.values,
            classes.values,
            connected_segments(classes.values),
            self.names,
            note=" ".join(filter(None, (image.note, classes.note))),
        )

    def _classes(self, index: int) -> Loaded:
        """Read the class map of an image, int16 (H, W)."""
        path = self._pairs[index][1]
        ids = self._ids(path)
        # Both ends of what is clipped fall on the table's last entry, which is unlisted.
        classes = self._table[np.clip(ids, -1, len(self._table) - 1)]
        unknown = ids[classes == UNLISTED]
        if unknown.size:
            raise DataError(f"{path} contains class id {unknown.max()}, but {self._known}")
        return Loaded(classes)

    def _ids(self, path: Path) -> np.ndarray:
        """Read the class ids of a mask file, int64 (H, W)."""
        return read_mask(path).values


def connected_segments(classes: np.ndarray) -> np.ndarray:
    """Label the connected regions of each class: int32 (H, W), 0 without a class."""
    segments = np.zeros(classes.shape, np.int32)
    for value in np.unique(classes):
        if value >= 0:
            labels, _ = ndimage.label(classes == value)
            segments[labels > 0] = labels[labels > 0] + segments.max()
    return segments
