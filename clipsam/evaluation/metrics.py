"""Metrics in two stages: pixel counts, then a named reduction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree
from scipy.stats import rankdata

from .mask_ap import ObjectMatches, average_precision


@dataclass(frozen=True)
class Counts:
    """Pixel counts of a mask and its truth; counts of several images can be added.

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
        """Number of pixels in the union."""
        return self.predicted + self.truth - self.intersection

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.intersection + other.intersection,
            self.predicted + other.predicted,
            self.truth + other.truth,
        )


def count(mask: np.ndarray, truth: np.ndarray, valid: np.ndarray | None = None) -> Counts:
    """Count the pixels of a mask and its truth.

    Args:
        mask, truth: bool (H, W).
        valid: bool (H, W), pixels that are scored; ``None`` scores all.

    Raises:
        ValueError: the shapes differ.
    """
    if mask.shape != truth.shape:
        raise ValueError(
            f"mask and truth must have the same shape, got {mask.shape} and {truth.shape}"
        )
    if valid is not None:
        mask, truth = mask & valid, truth & valid
    return Counts(
        int(np.count_nonzero(mask & truth)),
        int(np.count_nonzero(mask)),
        int(np.count_nonzero(truth)),
    )


def iou(counts: Counts) -> float:
    """Compute intersection over union; NaN if both mask and truth are empty."""
    return counts.intersection / counts.union if counts.union else float("nan")


def dice(counts: Counts) -> float:
    """Compute 2 · intersection / (mask + truth); NaN if both are empty."""
    total = counts.predicted + counts.truth
    return 2 * counts.intersection / total if total else float("nan")


def mean_absolute_error(
    logits: np.ndarray, truth: np.ndarray, valid: np.ndarray | None = None
) -> float:
    """Compute the mean of |sigmoid(logits) − truth| over scored pixels of float and bool (H, W)."""
    probability = 1 / (1 + np.exp(-np.clip(logits, -60, 60, dtype=np.float32)))
    error = np.abs(probability - truth)
    return float(error.mean(dtype=np.float64, where=True if valid is None else valid))


def boundary_f(
    mask: np.ndarray,
    truth: np.ndarray,
    valid: np.ndarray | None = None,
    tolerance: float = 0.0075,
) -> float:
    """Compute the boundary F-measure of DAVIS (Perazzi 2016).

    Precision is the share of the mask's outline that lies within a distance of the truth's,
    recall the reverse, F their harmonic mean. The image border is not an outline.

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
    """Return the pixels of a mask, bool (H, W), with one of their four neighbours outside."""
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    return mask & ~inner


def _share_near(points: np.ndarray, others: np.ndarray, radius: int) -> float:
    """Return the share of ``points``, int (N, 2), within ``radius`` pixels of one of ``others``."""
    # The bound is exclusive; the next distance on the grid is farther than this.
    distances, _ = KDTree(others).query(points, distance_upper_bound=radius + 1e-6)
    return float(np.isfinite(distances).mean())


def roc_auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Compute the area under the ROC curve: ties between positive and negative count half.

    Args:
        scores: float (N,).
        positive: bool (N,).

    Returns:
        0 to 1; NaN unless both occur.
    """
    ones = int(np.count_nonzero(positive))
    zeros = len(positive) - ones
    if not ones or not zeros:
        return float("nan")
    ranks = rankdata(scores)[positive].sum()
    return float((ranks - ones * (ones + 1) / 2) / (ones * zeros))


@dataclass(frozen=True)
class ClassScore:
    """Pixel counts of one class in one image."""

    name: str
    counts: Counts


@dataclass(frozen=True)
class SampleScore(ClassScore):
    """Scores of one class in one image.

    Attributes:
        image: key of the image.
        values: what was measured, by name, see :mod:`.metric_table`.
        seconds: share of the prediction's time.
        present: whether the truth shows the class.
        presence: probability of the class according to the method; NaN if unknown.
        objects: its objects compared with the true ones; ``None`` if the truth does not tell
            objects apart.
    """

    image: str
    values: Mapping[str, float]
    seconds: float
    present: bool = True
    presence: float = float("nan")
    objects: ObjectMatches | None = None


def pooled_iou(scores: Iterable[ClassScore]) -> dict[str, float]:
    """Compute the IoU of each class over a set, ΣI / ΣU, without classes with an empty union."""
    totals: dict[str, Counts] = {}
    for score in scores:
        totals[score.name] = totals.get(score.name, Counts()) + score.counts
    return {name: iou(counts) for name, counts in totals.items() if counts.union}


def class_wise_miou(scores: Iterable[ClassScore]) -> float:
    """Average the pooled IoU over classes: the papers' mIoU; NaN without any class."""
    values = list(pooled_iou(scores).values())
    return float(np.mean(values)) if values else float("nan")


def mean_image_iou(scores: Iterable[ClassScore]) -> float:
    """Average the IoU over samples; samples with empty mask and truth count as 1."""
    values = [1.0 if not s.counts.union else iou(s.counts) for s in scores]
    return float(np.mean(values)) if values else float("nan")


def mean_dice(scores: Iterable[ClassScore]) -> float:
    """Average the Dice score over samples; samples with empty mask and truth count as 1."""
    values = [1.0 if not s.counts.union else dice(s.counts) for s in scores]
    return float(np.mean(values)) if values else float("nan")


def mask_ap(scores: Iterable[SampleScore]) -> float:
    """Average COCO's AP of masks over the classes of which the truth tells objects apart.

    See :mod:`.mask_ap`; NaN without such a class.
    """
    classes: dict[str, list[ObjectMatches]] = {}
    for score in scores:
        if score.objects is not None:
            classes.setdefault(score.name, []).append(score.objects)
    values = [average_precision(matches) for matches in classes.values()]
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
