"""The common format of labelled images of all data sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

VOID = -1
"""Class-map value of unlabelled pixels, neither trained on nor scored."""

BACKGROUND = -2
"""Class-map value of pixels that show none of the named classes."""

VOID_IDS = (255, 65535)
"""Ids of unlabelled pixels in 8-bit and 16-bit index masks."""


@dataclass(frozen=True)
class LabelledImage:
    """An image with its labels.

    Attributes:
        key: a name that is unique in its data set.
        image: uint8 (H, W, 3), RGB.
        classes: int16 (H, W), index into ``names``, or :data:`VOID`, or :data:`BACKGROUND`.
        segments: int32 (H, W), 0 where there is no object, else the number of the object (or of
            the connected region, where the data set does not tell objects apart).
        names: class names of the data set.
        vocabulary: those of ``names`` that were annotated in this image, so that their absence is
            known; ``None`` for all.
        note: one sentence on how it was read, where that needs saying; else empty.
        tells_objects: whether ``segments`` numbers objects, not connected regions.
    """

    key: str
    image: np.ndarray
    classes: np.ndarray
    segments: np.ndarray
    names: tuple[str, ...]
    vocabulary: range | None = None
    note: str = ""
    tells_objects: bool = False

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3:
            raise ValueError(f"{self.key}: image must be (H, W, 3), got {self.image.shape}")
        size = self.image.shape[:2]
        for field in ("classes", "segments"):
            shape = getattr(self, field).shape
            if shape != size:
                raise ValueError(f"{self.key}: {field} is {shape}, but the image is {size}")
        if self.classes.size and self.classes.max() >= len(self.names):
            raise ValueError(
                f"{self.key}: class id {self.classes.max()} is outside 0..{len(self.names) - 1}"
            )

    def present(self) -> list[int]:
        """Return the indices of the classes present in this image, ascending."""
        return [int(i) for i in np.unique(self.classes) if i >= 0]

    def absent(self) -> list[int]:
        """Return the indices of the classes known to be absent from this image, ascending."""
        present = set(self.present())
        known = range(len(self.names)) if self.vocabulary is None else self.vocabulary
        return [i for i in known if i not in present]


class SegmentationData(Protocol):
    """A data set: class names, a length, and labelled images by index.

    Attributes:
        names: class names.
        keys: the unique name of each image, known without reading it.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """See above."""
        ...

    @property
    def keys(self) -> Sequence[str]:
        """See above."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> LabelledImage: ...
