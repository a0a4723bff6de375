"""Data sets derived from others: cached, reduced to a subset, concatenated."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import accumulate

import numpy as np
from PIL import Image

from ..samples import LabelledImage, SegmentationData


class CachedData:
    """A data set cached in memory, each image's long side reduced to at most ``side`` pixels."""

    def __init__(self, data: SegmentationData, side: int) -> None:
        self.names = data.names
        self._data, self._side = data, side
        self._cache: dict[int, LabelledImage] = {}

    @property
    def keys(self) -> Sequence[str]:
        """Names of the images."""
        return self._data.keys

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> LabelledImage:
        if index not in self._cache:
            self._cache[index] = shrink(self._data[index], self._side)
        return self._cache[index]


class SubsetData:
    """A subset of a data set, by index."""

    def __init__(self, data: SegmentationData, indices: Sequence[int]) -> None:
        self.names = data.names
        self._data, self._kept = data, tuple(indices)

    @cached_property
    def keys(self) -> Sequence[str]:
        """Names of the images in the subset."""
        return tuple(self._data.keys[index] for index in self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> LabelledImage:
        return self._data[self._kept[index]]


class ConcatData:
    """Several data sets concatenated.

    Each data set keeps its own range of class values, so a name that two of them share occurs
    twice in ``names``. Keys are ``part/key``.
    """

    def __init__(self, parts: Mapping[str, SegmentationData]) -> None:
        self.names = tuple(name for data in parts.values() for name in data.names)
        self._parts = dict(parts)
        self._ends = list(accumulate(len(data) for data in parts.values()))
        self._offsets = list(accumulate((len(data.names) for data in parts.values()), initial=0))

    @cached_property
    def keys(self) -> Sequence[str]:
        """Names of the images, prefixed with the name of their data set."""
        return tuple(f"{part}/{key}" for part, data in self._parts.items() for key in data.keys)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> LabelledImage:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        number = bisect_right(self._ends, index)
        part, data = list(self._parts.items())[number]
        sample = data[index - (self._ends[number] - len(data))]
        classes = sample.classes
        offset = self._offsets[number]
        known = range(len(data.names)) if sample.vocabulary is None else sample.vocabulary
        return replace(
            sample,
            key=f"{part}/{sample.key}",
            classes=np.where(classes >= 0, classes + offset, classes).astype(classes.dtype),
            names=self.names,
            vocabulary=range(known.start + offset, known.stop + offset),
        )


def shrink(sample: LabelledImage, side: int) -> LabelledImage:
    """Reduce the long side to at most ``side`` pixels; labels by nearest neighbour."""
    height, width = sample.classes.shape
    scale = side / max(height, width)
    if scale >= 1:
        return sample
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = Image.fromarray(sample.image).resize(size, Image.Resampling.BILINEAR, reducing_gap=2)
    return replace(
        sample,
        image=np.asarray(image),
        classes=resize_nearest(sample.classes, size[::-1]),
        segments=resize_nearest(sample.segments, size[::-1]),
    )


def resize_nearest(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize labels (H, W) to (height, width) by nearest neighbour."""
    picture = Image.fromarray(values.astype(np.int32))
    resized = picture.resize(size[::-1], Image.Resampling.NEAREST)
    return np.asarray(resized).astype(values.dtype)
