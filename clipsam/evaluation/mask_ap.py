"""COCO's average precision of masks, in two stages: matches within an image, then one figure.

The steps are those of ``pycocotools.cocoeval`` for ``segm``, all areas. Unlabelled pixels are what
COCO calls a crowd: an object that lies on them counts neither as found nor as wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as run_lengths

THRESHOLDS = tuple(float(value) for value in np.linspace(0.5, 0.95, 10))
"""IoU from which an object counts as found."""

RECALLS = np.linspace(0, 1, 101)
"""Recall at which precision is read."""

MOST_FOUND = 100
"""Objects of a class in an image that count, those with the highest scores."""


@dataclass(frozen=True)
class ObjectMatches:
    """The objects of one class that a method found in one image, compared with the true ones.

    Attributes:
        truths: number of true objects.
        scores: of the objects found, highest first.
        hits: for each of them a number whose bit ``i`` says whether it is a true object at
            ``THRESHOLDS[i]``.
        ignored: the same for whether it does not count.
    """

    truths: int
    scores: tuple[float, ...]
    hits: tuple[int, ...]
    ignored: tuple[int, ...]


def match_objects(
    found: Iterable[tuple[float, np.ndarray]], truths: Sequence[np.ndarray], void: np.ndarray
) -> ObjectMatches:
    """Match objects of one class in one image with the true ones.

    In the order of their scores, each takes the true object that overlaps it most and is not taken.

    Args:
        found: scores, and masks bool (H, W).
        truths: masks of the true objects, bool (H, W).
        void: bool (H, W), pixels without a label.
    """
    scored = [(score, _encode(mask)) for score, mask in found]
    scored.sort(key=lambda one: -one[0])
    scored = scored[:MOST_FOUND]
    scores = tuple(float(score) for score, _ in scored)
    if not scored:
        return ObjectMatches(len(truths), (), (), ())
    masks = [mask for _, mask in scored]
    overlaps = np.zeros((len(masks), 0))
    if truths:
        overlaps = run_lengths.iou(masks, [_encode(one) for one in truths], [0] * len(truths))
    # Of a crowd, the share of the object that lies on it.
    on_void = run_lengths.iou(masks, [_encode(void)], [1])[:, 0]
    hits, ignored = [0] * len(masks), [0] * len(masks)
    for bit, threshold in enumerate(THRESHOLDS):
        free = np.ones(len(truths), bool)
        for index, row in enumerate(overlaps):
            # Of equals the last, as in pycocotools.
            order = np.flatnonzero(free & (row >= threshold))
            if len(order):
                best = order[row[order] == row[order].max()][-1]
                free[best] = False
                hits[index] |= 1 << bit
            elif on_void[index] >= threshold:
                ignored[index] |= 1 << bit
    return ObjectMatches(len(truths), scores, tuple(hits), tuple(ignored))


def average_precision(matches: Iterable[ObjectMatches]) -> float:
    """Compute the AP of one class over its images, mean over :data:`THRESHOLDS`.

    Returns:
        0 to 1; NaN if there is no true object.
    """
    images = list(matches)
    total = sum(one.truths for one in images)
    if not total:
        return float("nan")
    scores = np.array([score for one in images for score in one.scores])
    order = np.argsort(-scores, kind="stable")
    hits = np.array([bits for one in images for bits in one.hits], np.int64)[order]
    ignored = np.array([bits for one in images for bits in one.ignored], np.int64)[order]
    means = []
    for bit in range(len(THRESHOLDS)):
        counted = hits[(ignored >> bit & 1) == 0] >> bit & 1
        found = np.cumsum(counted)
        recall = found / total
        precision = found / np.arange(1, len(found) + 1)
        # The highest precision at this recall or a higher one.
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        places = np.searchsorted(recall, RECALLS, side="left")
        means.append(np.append(precision, 0)[np.minimum(places, len(precision))].mean())
    return float(np.mean(means))


def _encode(mask: np.ndarray) -> dict:
    return run_lengths.encode(np.asfortranarray(mask.view(np.uint8)))
