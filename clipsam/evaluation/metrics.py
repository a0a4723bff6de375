"""Metrics in two stages: counts of pixels, then a reduction that is called by its name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Counts:
    """Pixel counts of one mask against one truth; counts of several images add up.

    Attributes:
        intersection: pixels in both.
        predicted: pixels in the mask.
        truth: pixels in the truth.
    """

    intersection: int = 0
    predicted: int = 0
    truth: int = 0

    @property
    def union(self) -> int:
        """Pixels in either."""
        return self.predicted + self.truth - self.intersection

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.intersection + other.intersection,
            self.predicted + other.predicted,
            self.truth + other.truth,
        )


def count(mask: np.ndarray, truth: np.ndarray, valid: np.ndarray | None = None) -> Counts:
    """Count the pixels of a mask and a truth.

    Args:
        mask, truth: bool (H, W).
        valid: bool (H, W), pixels that are scored; ``None`` scores all.

    Raises:
        ValueError: the shapes differ.
    """
    if mask.shape != truth.shape:
        raise ValueError(f"the mask is {mask.shape}, the truth is {truth.shape}")
    if valid is not None:
        mask, truth = mask & valid, truth & valid
    return Counts(
        int(np.count_nonzero(mask & truth)),
        int(np.count_nonzero(mask)),
        int(np.count_nonzero(truth)),
    )


def iou(counts: Counts) -> float:
    """Intersection over union; NaN if both mask and truth are empty."""
    return counts.intersection / counts.union if counts.union else float("nan")


def dice(counts: Counts) -> float:
    """2 · intersection / (mask + truth); NaN if both are empty."""
    total = counts.predicted + counts.truth
    return 2 * counts.intersection / total if total else float("nan")


def mean_absolute_error(
    logits: np.ndarray, truth: np.ndarray, valid: np.ndarray | None = None
) -> float:
    """Mean of |sigmoid(logits) − truth| over scored pixels: float (H, W), bool (H, W)."""
    probability = 1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -60, 60)))
    error = np.abs(probability - truth)
    return float(error.mean() if valid is None else error[valid].mean())


@dataclass(frozen=True)
class ClassScore:
    """Counts of one class in one image."""

    name: str
    counts: Counts


def pooled_iou(scores: Iterable[ClassScore]) -> dict[str, float]:
    """IoU of each class over a set: ΣI / ΣU, classes with an empty union left out."""
    totals: dict[str, Counts] = {}
    for score in scores:
        totals[score.name] = totals.get(score.name, Counts()) + score.counts
    return {name: iou(counts) for name, counts in totals.items() if counts.union}


def class_wise_miou(scores: Iterable[ClassScore]) -> float:
    """Mean over classes of the pooled IoU: the papers' mIoU. NaN without any class."""
    values = list(pooled_iou(scores).values())
    return float(np.mean(values)) if values else float("nan")


def mean_image_iou(scores: Iterable[ClassScore]) -> float:
    """Mean over samples of each one's IoU; a sample with nothing in mask or truth counts 1."""
    values = [1.0 if not s.counts.union else iou(s.counts) for s in scores]
    return float(np.mean(values)) if values else float("nan")
