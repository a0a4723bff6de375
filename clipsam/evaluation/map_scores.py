"""Threshold-independent scores of a prediction's logits."""

from __future__ import annotations

from collections.abc import Mapping

from ..types import Prediction
from .metric_table import MaskComparison, shown_in_compare
from .truth import Truth

MapScore = Mapping[str, float]
"""Threshold-independent scores of one class, by metric.

Those of single objects are there if only one class was queried, the truth shows it, and every pixel
is scored.
"""


def score_maps(prediction: Prediction, truth: Truth) -> dict[str, MapScore]:
    """Compute the threshold-independent scores of each class in the ground truth."""
    scores: dict[str, MapScore] = {}
    for index, text in enumerate(prediction.texts):
        if text not in truth.masks:
            continue
        logits, wanted = prediction.class_logits(index), truth.masks[text]
        alone = len(prediction.texts) == 1 and wanted.any() and truth.valid.all()
        compared = MaskComparison(logits > 0, wanted, truth.valid, logits)
        scores[text] = {
            name: metric.of_sample(compared)
            for name, metric in shown_in_compare("map").items()
            if alone or not metric.single_object
        }
    return scores
