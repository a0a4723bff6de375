"""A plain folder of images and masks."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from ..images import ImageError, Loaded
from ..label_values import LabelNames
from ..pairing import PICTURE_ENDINGS
from .common import DataError, PairedData, list_pairs, read_json, read_mask

ASKED_MASKS = 64
"""Masks of a set that are read to decide whether its 255 is void or the foreground."""


class FolderData(PairedData):
    """A plain folder: ``images/``, ``masks/`` (of the same stems), ``classes.json``.

    The class list may lie in the folder or one above it. What the values of a mask mean is said in
    :mod:`..label_values`.
    """

    kinds = ("folder",)

    def __init__(self, folder: str | Path) -> None:
        """Open the folder.

        Raises:
            DataError: a part is missing or damaged, or an image has no mask.
        """
        self.folder = Path(folder)
        classes = next(
            (p for f in (self.folder, self.folder.parent) if (p := f / "classes.json").is_file()),
            None,
        )
        if classes is None:
            raise DataError(f"{self.folder} has no classes.json (a list of class names)")
        listed = read_json(classes)
        if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
            raise DataError(f"{classes} is not a list of class names")
        try:
            self._labels = LabelNames(listed)
        except ImageError as error:
            raise DataError(f"{classes}: {error}") from None
        if not self._labels.names:
            raise DataError(f"{classes} names no class")
        pairs = list_pairs(self.folder / "images", self.folder / "masks", endings=PICTURE_ENDINGS)
        super().__init__(self._labels.names, pairs, {}, "")

    def _classes(self, index: int) -> Loaded:
        path = self._pairs[index][1]
        mask = read_mask(path)
        try:
            classes = self._labels.read(mask.values, str(path), lambda: self._holds_ids)
        except ImageError as error:
            raise DataError(str(error)) from None
        return Loaded(classes.values, classes.note or mask.note)

    @cached_property
    def _holds_ids(self) -> bool:
        """Whether a mask shows ids besides 0 and void, so that 255 is void in all of them."""
        for _, path in self._pairs[:: max(1, len(self._pairs) // ASKED_MASKS)]:
            try:
                if self._labels.has_ids(read_mask(path).values):
                    return True
            except DataError:
                continue  # Said when this image is read.
        return False

    @classmethod
    def open(cls, kind: str, root: Path, part: str) -> FolderData:
        """Open one part; a folder without parts is used as a whole, see :meth:`DataReader.open`."""
        for folder in (root / part, root):
            if (folder / "images").is_dir():
                return cls(folder)
        raise DataError(f"neither the folder {root / part / 'images'} nor {root / 'images'} exists")
