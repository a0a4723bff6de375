"""The table of metrics: measurement per sample, and presentation in tables and on the page.

A sample is one class in one image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from .metrics import (
    Counts,
    SampleScore,
    boundary_f,
    class_wise_miou,
    count,
    dice,
    iou,
    mask_ap,
    mean_absolute_error,
    mean_dice,
    mean_image_iou,
)
from .saliency import SaliencyScore, saliency_score

PERCENT = 100


@dataclass(frozen=True)
class MaskComparison:
    """Mask and logits of one class in one image with the ground truth, at the image's size.

    Attributes:
        mask, truth: bool (H, W).
        valid: bool (H, W), pixels that are scored.
        logits: float32 (H, W); ``None`` if only masks are compared.
    """

    mask: np.ndarray
    truth: np.ndarray
    valid: np.ndarray
    logits: np.ndarray | None = None

    @cached_property
    def counts(self) -> Counts:
        """Pixel counts of mask and truth."""
        return count(self.mask, self.truth, self.valid)

    @cached_property
    def saliency(self) -> SaliencyScore:
        """Metrics of the camouflage papers; they take a second per megapixel."""
        return saliency_score(self.known_logits, self.truth)

    @property
    def known_logits(self) -> np.ndarray:
        """The logits, which there must be."""
        if self.logits is None:
            raise ValueError("this metric needs logits")
        return self.logits


@dataclass(frozen=True)
class Metric:
    """A metric.

    Attributes:
        heading: above its column in reports and leaderboards, HTML.
        reduce: the figure of one method and seed, from its samples.
        measure: the value of one sample; ``None`` for a figure that only a set has.
        sample: name of the value of one sample, in ``samples.csv`` and elsewhere.
        factor: factor in reports.
        lower_is_better: whether the best is the lowest.
        single_object: whether it is measured only for images with a single object.
        of_objects: whether it is measured only where the truth tells objects apart.
        shown: whether Compare shows it: ``mask`` for one that
            follows the threshold, and so must be fast and need no logits, ``map`` for a
            threshold-independent one, which is computed once.
        title: heading in Compare.
    """

    heading: str
    reduce: Callable[[Sequence[SampleScore]], float]
    measure: Callable[[MaskComparison], float] | None = None
    sample: str = ""
    factor: float = PERCENT
    lower_is_better: bool = False
    single_object: bool = False
    of_objects: bool = False
    shown: Literal["mask", "map"] | None = None
    title: str = ""

    def of_sample(self, compared: MaskComparison) -> float:
        """Measure one sample.

        Raises:
            ValueError: only a set has this figure.
        """
        if self.measure is None:
            raise ValueError(f"{self.heading} has no value of a single sample")
        return self.measure(compared)

    @property
    def digits(self) -> int:
        """Decimal places in reports."""
        return 1 if self.factor == PERCENT else 3


def mean_of(sample: str) -> Callable[[Sequence[SampleScore]], float]:
    """Return the reduction that averages over the samples with a value."""

    def reduce(scores: Sequence[SampleScore]) -> float:
        values = [score.values[sample] for score in scores if sample in score.values]
        return float(np.mean(values)) if values else math.nan

    return reduce


def _seconds_per_image(scores: Sequence[SampleScore]) -> float:
    images = len({score.image for score in scores})
    return sum(score.seconds for score in scores) / images if images else math.nan


def _saliency_metric(name: str, sample: str, heading: str, **fields: Any) -> Metric:
    """Define one of the camouflage papers' metrics."""
    return Metric(
        heading,
        mean_of(sample),
        lambda compared: getattr(compared.saliency, name),
        sample,
        factor=1,
        single_object=True,
        **fields,
    )


METRICS: dict[str, Metric] = {
    "miou": Metric("mIoU %", class_wise_miou),
    "mean_iou": Metric(
        "mean IoU %",
        mean_image_iou,
        lambda compared: iou(compared.counts),
        "iou",
        shown="mask",
        title="IoU",
    ),
    "dice": Metric(
        "Dice %",
        mean_dice,
        lambda compared: dice(compared.counts),
        "dice",
        shown="mask",
        title="Dice",
    ),
    "mae": Metric(
        "MAE ×100",
        mean_of("mae"),
        lambda compared: mean_absolute_error(compared.known_logits, compared.truth, compared.valid),
        "mae",
        lower_is_better=True,
        shown="map",
        title="MAE",
    ),
    "boundary_f": Metric(
        "boundary F %",
        mean_of("boundary_f"),
        lambda compared: boundary_f(compared.mask, compared.truth, compared.valid),
        "boundary_f",
    ),
    "mask_ap": Metric("mask AP %", mask_ap, of_objects=True),
    "s_measure": _saliency_metric(
        "s_measure", "s_measure", "S<sub>α</sub>", shown="map", title="S-measure"
    ),
    "e_measure": _saliency_metric(
        "e_measure", "e_measure", "E<sub>φ</sub>", shown="map", title="E-measure"
    ),
    "weighted_f": _saliency_metric(
        "weighted_f", "weighted_f", "F<sub>β</sub><sup>w</sup>", shown="map", title="Weighted F"
    ),
    # Of the scaled map: not what is called MAE elsewhere, so Compare does not show it.
    "saliency_mae": _saliency_metric("mae", "saliency_mae", "MAE, scaled", lower_is_better=True),
}
"""All metrics by id, in the order of their columns."""

MASK_AP_NOTE = (
    "Mask AP is COCO’s, averaged over classes; methods that tell no objects apart are scored with "
    "the connected regions of their masks."
)
"""What a leaderboard with this figure says."""

COSTS: dict[str, Metric] = {
    "seconds_per_image": Metric("s / image", _seconds_per_image, factor=1, lower_is_better=True),
}
"""Costs, which follow the metrics in every table."""

ABSENT_COLUMNS = {
    "miou": "mIoU %, absent queried too",
    "miou_by_presence": "the same, emptied below presence ½",
    "presence_auc": "presence AUC %",
    "false_alarms": "false alarms %",
}
"""Headings of the columns with absent classes."""


def sampled(single_object: bool = False) -> dict[str, Metric]:
    """Return the per-sample metrics of single objects, or all others, by name."""
    return {
        metric.sample: metric
        for metric in METRICS.values()
        if metric.measure is not None and metric.single_object == single_object
    }


def shown_in_compare(answers: Literal["mask", "map"]) -> dict[str, Metric]:
    """Return the metrics that Compare shows of masks, or of logits, by name."""
    return {m.sample: m for m in METRICS.values() if m.shown == answers}


def columns(figures: Mapping[str, float]) -> dict[str, Metric]:
    """Return the metrics and costs contained in the figures, in column order."""
    return {id: metric for id, metric in (METRICS | COSTS).items() if id in figures}


def measure(compared: MaskComparison, single_object: bool = False) -> dict[str, float]:
    """Compute all per-sample metrics of one sample, by name.

    Args:
        compared: with logits.
        single_object: whether to add those of single objects.
    """
    metrics = sampled() | (sampled(single_object=True) if single_object else {})
    return {name: metric.of_sample(compared) for name, metric in metrics.items()}
