"""Photographs with a class name but no mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np

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

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> LabelledImage:
        image = read_image(self.folder / "images" / self.keys[index])
        size = image.shape[:2]
        nothing = np.full(size, VOID, np.int16)
        return LabelledImage(self.keys[index], image, nothing, np.zeros(size, np.int32), self.names)
