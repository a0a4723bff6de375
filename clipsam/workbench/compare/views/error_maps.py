"""Error maps: every pixel true or false positive, false negative, or not scored.

All at display size, so that slider steps stay fast; shares in the legend refer to these pixels.
Colours are distinguishable with colour vision deficiencies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ....drawing import nearest
from ....evaluation.truth import Truth
from ....types import Overlap, Prediction
from .painting import Painting, counted

TRUE_POSITIVE = ("True positive", "#006d77")
FALSE_POSITIVE = ("False positive", "#e69f00")
FALSE_NEGATIVE = ("False negative", "#7b3fb5")
WRONG_CLASS = ("Wrong class", "#b2182b")
TRUE_NEGATIVE = ("True negative", None)
NOT_SCORED = ("Not scored", "#5f5f5f")

STRIPE = 6
"""Width of the stripes over pixels that are not scored."""


def class_errors(
    prediction: Prediction,
    index: int,
    truth: Truth,
    size: tuple[int, int],
    threshold: float = 0.0,
    overlap: Overlap = "independent",
) -> Painting:
    """Compare one class with its ground truth.

    Args:
        prediction: the method's prediction.
        index: index of the class, which must be in the truth.
        truth: at the original size.
        size: (height, width) of the painting.
        threshold: logits above it belong to the mask.
        overlap: assignment of pixels claimed by several classes.
    """
    mask = prediction.class_mask(index, threshold, size, overlap)
    wanted = nearest(truth.masks[prediction.texts[index]], size)
    kinds = TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE, TRUE_NEGATIVE
    places = _byte(~mask) * np.uint8(2) + _byte(~wanted)
    return _painting(places, nearest(truth.valid, size), kinds)


def label_errors(
    prediction: Prediction, truth: Truth, size: tuple[int, int], threshold: float = 0.0
) -> Painting:
    """Compare the label map with all classes in the ground truth.

    Pixels assigned to a class that is not in the truth are not scored where the truth has no class.
    For arguments see :func:`class_errors`.
    """
    labels = prediction.label_map(threshold, size)
    somewhere, right = np.zeros((2, *size), bool)
    valid = nearest(truth.valid, size).copy()
    unknown = []
    for index, text in enumerate(prediction.texts):
        if text in truth.masks:
            wanted = nearest(truth.masks[text], size)
            somewhere |= wanted
            right |= wanted & (labels == index)
        else:
            unknown.append(index)
    if unknown:
        valid &= somewhere | ~np.isin(labels, unknown)
    kinds = TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE, TRUE_NEGATIVE, WRONG_CLASS
    places = _byte(labels < 0) * np.uint8(2) + _byte(~somewhere)
    places[somewhere & (labels >= 0) & ~right] = 4
    return _painting(places, valid, kinds)


def _painting(
    places: np.ndarray, valid: np.ndarray, kinds: Sequence[tuple[str, str | None]]
) -> Painting:
    """Paint an error map with stripes where nothing is scored."""
    if valid.all():
        return counted(places, kinds)
    painting = counted(np.where(valid, places, np.uint8(len(kinds))), (*kinds, NOT_SCORED))
    rows, columns = np.ogrid[: places.shape[0], : places.shape[1]]
    between = (rows + columns) // STRIPE % 2 == 0
    clear = np.uint8(list(kinds).index(TRUE_NEGATIVE))
    return replace(painting, places=np.where(between & ~valid, clear, painting.places))


def _byte(mask: np.ndarray) -> np.ndarray:
    """View a bool array as uint8 without copying."""
    return mask.view(np.uint8)
