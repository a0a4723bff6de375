"""Predictions as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from .evaluation.metrics import iou
from .evaluation.truth import Truth
from .predictor import find_method
from .types import Prediction

LABEL_MAP = "label map.png"


def write_prediction(
    prediction: Prediction, folder: Path, threshold: float = 0.0, truth: Truth | None = None
) -> dict:
    """Write masks and maps of one prediction; returns its entry for ``results.json``.

    ``<class>.png`` is 0/255 at the original size, ``<class>.similarity.npy`` float32 raw
    similarity on CLIP's grid. Where classes compete there is also :data:`LABEL_MAP`, an index PNG:
    0 for none of the classes, then 1, 2, … in their order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if find_method(prediction.method).joint:
        labels = prediction.label_map(threshold) + 1
        dtype = np.uint8 if len(prediction.results) < 256 else np.uint16
        Image.fromarray(labels.astype(dtype)).save(folder / LABEL_MAP)
    classes = []
    for index, result in enumerate(prediction.results):
        text = prediction.texts[index]
        name = safe_name(text)
        mask = prediction.class_mask(index, threshold)
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{name}.png")
        entry = {
            "text": text,
            "area_fraction": float(mask.mean()),
            "presence": None if np.isnan(result.presence) else float(result.presence),
            "similarity_range": None,
            "similarity_unit": result.similarity_unit,
            "points": listed_points(result.prompts.points, result.prompts.labels),
            "boxes": result.prompts.boxes.tolist(),
        }
        if result.similarity is not None:
            np.save(folder / f"{name}.similarity.npy", result.similarity.astype(np.float32))
            low, high = float(result.similarity.min()), float(result.similarity.max())
            entry["similarity_range"] = [low, high]
        if result.note:
            entry["note"] = result.note
        if truth is not None:
            counts = truth.score_mask(text, mask)
            entry["iou"] = None if counts is None or not counts.union else iou(counts)
        classes.append(entry)
    return {
        "id": prediction.method,
        "preset": prediction.preset,
        "mode": prediction.mode,
        "seconds": prediction.total_seconds,
        "peak_memory_mb": prediction.peak_memory_mb,
        "classes": classes,
    }


def listed_points(points: np.ndarray, labels: np.ndarray) -> list[list[float]]:
    """Points (K, 2) and labels (K,) as JSON has them: [[x, y, label], …]."""
    return [[float(x), float(y), int(label)] for (x, y), label in zip(points, labels, strict=True)]


def safe_name(text: str) -> str:
    """A class name as a file name: what a path would misread becomes an underscore."""
    return "".join("_" if c in '/\\:*?"<>|\0' else c for c in text).lstrip(".")[:100] or "_"
