"""Subsets of a data set for training: all, a fraction, a number, or a list in a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .readers import DataError, SubsetData
from .samples import SegmentationData

ADE20K_IMAGES = 20_210
ADE20K_SIZES = {"1/64": 316, "1/32": 631, "1/16": 1262, "1/8": 2526, "1/4": 5052}
"""The papers' sizes, which follow no single rounding rule; those of COCO and VOC round up."""


@dataclass(frozen=True)
class Split:
    """A subset of a data set.

    Attributes:
        name: the specification, the number of images, and how they were chosen.
        indices: into the data set.
    """

    name: str
    indices: tuple[int, ...]


def some_images(data: SegmentationData, count: int, seed: int = 0) -> SubsetData:
    """Draw ``count`` images of a data set at random.

    Raises:
        DataError: the data set has fewer images.
    """
    return SubsetData(data, choose_split(data, str(count), seed).indices)


def choose_split(data: SegmentationData, text: str, seed: int, kind: str = "") -> Split:
    """Choose a subset of the images.

    Args:
        data: the data set.
        text: ``full``; a fraction such as ``1/512``; a number of images such as ``16``; or a file
            with one image per line, in UniMatch's form: the path of the image (or its stem
            alone), then perhaps that of its labels, which is not read.
        seed: of the random choice; larger splits of a seed hold its smaller ones.
        kind: the data set's kind as in ``open_data``; without it, it is recognised by its size.

    Raises:
        DataError: not a valid split, an unknown image, no image, or too many.
    """
    total = len(data)
    if text == "full":
        if not total:
            raise DataError("the split full is empty, because the data set has no images")
        return Split(f"full ({_images(total)})", tuple(range(total)))
    if match := re.fullmatch(r"(\d+)/([1-9]\d*)", text):
        share, whole = int(match[1]), int(match[2])
        size = -(-share * total // whole)
        if total == ADE20K_IMAGES and kind in ("", "ade20k"):
            size = ADE20K_SIZES.get(text, size)
        name = f"{text} ({_images(size)}, seeded random, seed {seed})"
    elif re.fullmatch(r"\d+", text):
        size = int(text)
        name = f"{_images(size)} (seeded random, seed {seed})"
    elif Path(text).expanduser().is_file():
        indices = _listed(data.keys, Path(text).expanduser())
        return Split(f"{text} ({_images(len(indices))})", indices)
    else:
        raise DataError(
            f"the split {text!r} is not valid, expected full, a fraction such as 1/512, a number "
            "of images such as 16, or an existing file"
        )
    if not size:
        raise DataError(f"the split {text} of {_images(total)} is empty, expected at least one")
    if size > total:
        raise DataError(
            f"the split {text} needs {size} images, but the data set has {_images(total)}"
        )
    chosen = np.random.default_rng(seed).permutation(total)[:size]
    return Split(name, tuple(sorted(chosen.tolist())))


def _images(count: int) -> str:
    return f"{count} image" if count == 1 else f"{count} images"


def _listed(keys: Sequence[str], path: Path) -> tuple[int, ...]:
    """Return the indices of the images listed in a file, in order, without duplicates."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{path} cannot be read as text, expected a list of images") from None
    index_of = {key: index for index, key in enumerate(keys)}
    indices: dict[int, None] = {}
    for line in filter(None, lines):
        # The whole line comes last: it serves names with spaces.
        names = [
            name
            for entry in (line.split()[0], line)
            for name in (entry, Path(entry).stem)
            if name in index_of
        ]
        if not names:
            raise DataError(
                f"{path} lists {line.split()[0]}, which is not an image of the data set"
            )
        indices[index_of[names[0]]] = None
    if not indices:
        raise DataError(f"the split file {path} is empty, expected one image per line")
    return tuple(indices)
