"""Photographs with a class name but no mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..pairing import FileIndex
from ..samples import VOID, LabelledImage
from .common import DataError, read_image, read_json


class NamedData:
    """A folder with ``images/`` and ``labels.json``, which names the class of each file; no masks.

    Attributes:
        names: distinct names, sorted.
        labels: index into ``names`` of each photograph.
    """

    def __init__(self, folder: str | Path) -> None:
        """Open the folder.

        Raises:
            DataError: ``labels.json`` is missing or damaged, or an image is.
        """
        self.folder = Path(folder)
        path = self.folder / "labels.json"
        listed = read_json(path)
        if not isinstance(listed, dict) or not all(isinstance(n, str) for n in listed.values()):
            raise DataError(f"{path} is not an object of file names and class names")
        self.keys = sorted(listed)
        self.names = tuple(sorted(set(listed.values())))
        self.labels = tuple(self.names.index(listed[key]) for key in self.keys)
        self._images = FileIndex(self.folder / "images")

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> LabelledImage:
        image = read_image(self._images.locate(self.keys[index]))
        size = image.values.shape[:2]
        nothing, segments = np.full(size, VOID, np.int16), np.zeros(size, np.int32)
        return LabelledImage(
            self.keys[index], image.values, nothing, segments, self.names, note=image.note
        )
