"""Metrics in two stages: counts of pixels, then a reduction that is called by its name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree
from scipy.stats import rankdata


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
    probability = 1 / (1 + np.exp(-np.clip(logits, -60, 60, dtype=np.float32)))
    error = np.abs(probability - truth)
    return float(error.mean(dtype=np.float64, where=True if valid is None else valid))


def boundary_f(
    mask: np.ndarray,
    truth: np.ndarray,
    valid: np.ndarray | None = None,
    tolerance: float = 0.0075,
) -> float:
    """How well the outlines agree: the boundary F-measure of DAVIS (Perazzi 2016).

    Precision is the share of the mask's outline that lies within a distance of the truth's,
    recall the other way round, F their harmonic mean. The image's edge is no outline.

    Args:
        mask, truth: bool (H, W).
        valid: bool (H, W); other pixels count as outside both. ``None`` scores all.
        tolerance: the distance, as a share of the image's diagonal; at least one pixel.

    Returns:
        0 to 1; 1 if neither has an outline, 0 if only one has.
    """
    if valid is not None:
        mask, truth = mask & valid, truth & valid
    found, wanted = np.argwhere(_rim(mask)), np.argwhere(_rim(truth))
    if not len(found) or not len(wanted):
        return float(len(found) == len(wanted))
    radius = max(1, round(tolerance * float(np.hypot(*mask.shape))))
    precision = _share_near(found, wanted, radius)
    recall = _share_near(wanted, found, radius)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _rim(mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask, bool (H, W), with one of their four neighbours outside it."""
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    return mask & ~inner


def _share_near(points: np.ndarray, others: np.ndarray, radius: int) -> float:
    """Share of ``points``, int (N, 2), with one of ``others`` at most ``radius`` pixels away."""
    # The bound is exclusive; the next distance on the grid is farther than this.
    distances, _ = KDTree(others).query(points, distance_upper_bound=radius + 1e-6)
    return float(np.isfinite(distances).mean())


def roc_auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Chance that a positive scores above a negative, ties counting half.

    Args:
        scores: float (N,).
        positive: bool (N,).

    Returns:
        0 to 1; NaN unless there are both.
    """
    ones = int(np.count_nonzero(positive))
    zeros = len(positive) - ones
    if not ones or not zeros:
        return float("nan")
    ranks = rankdata(scores)[positive].sum()
    return float((ranks - ones * (ones + 1) / 2) / (ones * zeros))


@dataclass(frozen=True)
class ClassScore:
    """Counts of one class in one image."""

    name: str
    counts: Counts


@dataclass(frozen=True)
class SampleScore(ClassScore):
    """Score of one class in one image.

    Attributes:
        image: key of the image.
        values: what was measured, by name, see :mod:`.metric_table`.
        seconds: share of the prediction's time.
        present: whether the truth shows the class.
        presence: probability that it does, as the method says; NaN if it cannot tell.
    """

    image: str
    values: Mapping[str, float]
    seconds: float
    present: bool = True
    presence: float = float("nan")


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


def mean_dice(scores: Iterable[ClassScore]) -> float:
    """Mean over samples of each one's Dice; a sample with nothing in mask or truth counts 1."""
    values = [1.0 if not s.counts.union else dice(s.counts) for s in scores]
    return float(np.mean(values)) if values else float("nan")
