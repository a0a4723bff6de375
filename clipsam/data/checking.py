"""Validation of every image before training, and remarks on how images were read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import ClipsamError
from .readers import DataError
from .samples import SegmentationData

MOST_NOTES = 5
"""Remarks of one data set that are logged."""

logger = logging.getLogger(__name__)


class NoteLog:
    """Log of the remarks on how the images of a data set were read, the first few only."""

    def __init__(self) -> None:
        self._count = 0

    def add(self, note: str) -> None:
        """Log the remark of one image, which may be empty."""
        if not note:
            return
        self._count += 1
        if self._count <= MOST_NOTES:
            logger.warning(note)
        elif self._count == MOST_NOTES + 1:
            logger.warning("There are more such remarks.")


@dataclass(frozen=True)
class CheckedData:
    """Result of the validation.

    Attributes:
        samples: (image index, class value) of every class present in every image.
        left_out: one sentence for each image that cannot be used.
    """

    samples: tuple[tuple[int, int], ...]
    left_out: tuple[str, ...]


def check_data(
    data: SegmentationData,
    indices: Sequence[int],
    skip_bad: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> CheckedData:
    """Read every image once and list the classes present.

    Args:
        data: the images.
        indices: which of them.
        skip_bad: go on at an image that cannot be used, and list it, instead of raising.
        progress: called after each image with how many are done and how many there are.

    Raises:
        DataError: an image that cannot be used, or no sample at all.
    """
    samples: list[tuple[int, int]] = []
    left_out: list[str] = []
    notes = NoteLog()
    for done, index in enumerate(indices, start=1):
        try:
            sample = data[index]
            notes.add(sample.note)
            samples.extend((index, value) for value in sample.present())
        except ClipsamError as error:
            if not skip_bad:
                raise DataError(str(error)) from None
            left_out.append(str(error))
        if progress is not None:
            progress(done, len(indices))
    if not samples:
        raise DataError(
            f"none of {len(indices)} images shows a named class ({len(left_out)} could not be "
            "used), expected at least one labelled pixel"
        )
    return CheckedData(tuple(samples), tuple(left_out))
