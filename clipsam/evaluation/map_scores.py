"""Scores of a prediction's logits, which no threshold moves."""

from __future__ import annotations

from dataclasses import dataclass

from ..types import Prediction
from .metrics import mean_absolute_error
from .saliency import SaliencyScore, saliency_score
from .truth import Truth


@dataclass(frozen=True)
class MapScore:
    """What a class's logits are worth whatever the threshold.

    Attributes:
        mae: mean |sigmoid(logits) − truth|.
        saliency: the camouflage papers' figures, if one class alone was asked, the truth shows it,
            and every pixel is scored.
    """

    mae: float
    saliency: SaliencyScore | None


def score_maps(prediction: Prediction, truth: Truth) -> dict[str, MapScore]:
    """The scores that no threshold moves, by class that the truth knows; worth keeping.

    At the original size: a second for each megapixel if one class alone is asked.
    """
    scores = {}
    for index, text in enumerate(prediction.texts):
        if text not in truth.masks:
            continue
        logits, wanted = prediction.class_logits(index), truth.masks[text]
        alone = len(prediction.texts) == 1 and wanted.any() and truth.valid.all()
        scores[text] = MapScore(
            mean_absolute_error(logits, wanted, truth.valid),
            saliency_score(logits, wanted) if alone else None,
        )
    return scores
