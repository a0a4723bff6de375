"""Metrics of camouflaged and salient object detection, as computed by ``pysodmetrics``."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SaliencyScore:
    """Scores of one map, or averages over several.

    Attributes:
        s_measure: S_α, structure.
        e_measure: E_φ, enhanced alignment, mean over thresholds.
        weighted_f: weighted F_β.
        mae: of the min–max-scaled map.
    """

    s_measure: float
    e_measure: float
    weighted_f: float
    mae: float


def saliency_score(logits: np.ndarray, truth: np.ndarray) -> SaliencyScore:
    """Compute the four metrics of camouflage papers: float (H, W), bool (H, W)."""
    probability = 1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -60, 60)))
    figures = saliency_metrics([((255 * probability).astype(np.uint8), truth)])
    return SaliencyScore(
        figures["S-measure"],
        figures["E-measure mean"],
        figures["weighted F-measure"],
        figures["MAE"],
    )


def saliency_metrics(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Score maps against truths; each metric is averaged over the images.

    Every map is min–max-scaled by itself first (unless it is constant), as these benchmarks do:
    only the order of its values counts, and a map that is faint everywhere scores like a bold
    one. The MAE here is therefore not :func:`clipsam.evaluation.metrics.mean_absolute_error`.

    Args:
        pairs: per image a map, uint8 (H, W), 0..255, 255 for certain foreground, and the truth,
            bool (H, W).

    Returns:
        ``S-measure``, ``E-measure`` and ``F-measure`` (each ``adaptive``, ``mean`` and ``max``;
        the max over thresholds is taken of the mean curve), ``weighted F-measure`` and ``MAE``,
        all best at 1 but the last, best at 0. A perfect E-measure exceeds 1 slightly, by
        pixels / (pixels − 1).

    Raises:
        ValueError: no pairs, or a pair of another type or of two shapes.
    """
    # Imported here: it brings OpenCV and scikit-image with it.
    from py_sod_metrics import MAE, Emeasure, Fmeasure, Smeasure, WeightedFmeasure

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Fmeasure will be renamed some day
        measures = (Smeasure(), Emeasure(), Fmeasure(), WeightedFmeasure(), MAE())
    empty = True
    for scores, truth in pairs:
        empty = False
        if scores.dtype != np.uint8 or truth.dtype != bool or scores.shape != truth.shape:
            raise ValueError(
                f"expected a uint8 map and a bool truth of one shape (H, W), got {scores.dtype} "
                f"{scores.shape} and {truth.dtype} {truth.shape}"
            )
        for measure in measures:
            measure.step(scores, truth.astype(np.uint8) * 255)
    if empty:
        raise ValueError("there are no maps to score")
    structure, enhanced, f, weighted, error = (measure.get_results() for measure in measures)
    return {
        "S-measure": float(structure["sm"]),
        **_summary("E-measure", enhanced["em"]),
        **_summary("F-measure", f["fm"]),
        "weighted F-measure": float(weighted["wfm"]),
        "MAE": float(error["mae"]),
    }


def _summary(name: str, result: dict) -> dict[str, float]:
    return {
        f"{name} adaptive": float(result["adp"]),
        f"{name} mean": float(result["curve"].mean()),
        f"{name} max": float(result["curve"].max()),
    }
