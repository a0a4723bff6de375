"""What a CLIP's similarities mean, measured on training images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from ..data.samples import VOID, SegmentationData
from ..encoded_image import clip_input
from ..evaluation.metrics import ClassScore, class_wise_miou, count
from ..models.clip import ClassTextEncoder, SurgeryVision, normalize_tokens, similarity_grid
from ..prompting import Calibration, similarity_map
from ..weights.presets import Preset

THRESHOLDS = tuple(np.round(np.arange(0.4, 0.91, 0.05), 2).tolist())


def calibrate(
    data: Sequence[SegmentationData],
    similarity_of: Callable[[np.ndarray, Sequence[str]], Tensor],
    images_each: int = 40,
    seed: int = 0,
) -> Calibration:
    """Choose the point threshold and fit the presence curve.

    The threshold is the one at which scaled maps of present classes, cut there, have the best
    class-wise mIoU, averaged over the data sets. Presence is a logistic regression on the highest
    similarity of classes that are present and of as many that are not; without any of the latter
    nobody can tell.

    Args:
        data: training data sets.
        similarity_of: image uint8 (H, W, 3) and class names → raw maps (C, h, w).
        images_each: images taken of each set, evenly spaced; all of a smaller one.
        seed: of the absent classes.
    """
    rng = np.random.default_rng(seed)
    tables, peaks, there = [], [], []
    for dataset in data:
        scores: dict[float, list[ClassScore]] = {t: [] for t in THRESHOLDS}
        taken = min(images_each, len(dataset))
        for index in np.linspace(0, len(dataset) - 1, taken).astype(int):
            sample = dataset[int(index)]
            present = sample.present()
            if not present:
                continue
            absent = [i for i in range(len(sample.names)) if i not in present]
            absent = rng.permutation(absent)[: len(present)].astype(int).tolist()
            names = [sample.names[i] for i in (*present, *absent)]
            maps = similarity_of(sample.image, names).float().cpu()
            peaks += maps.amax((1, 2)).tolist()
            there += [1.0] * len(present) + [0.0] * len(absent)
            scaled = similarity_map(maps[: len(present)], sample.classes.shape).numpy()
            valid = sample.classes != VOID
            for scaled_map, value in zip(scaled, present, strict=True):
                truth = sample.classes == value
                for threshold in THRESHOLDS:
                    counts = count(scaled_map > threshold, truth, valid)
                    scores[threshold].append(ClassScore(sample.names[value], counts))
        tables.append([class_wise_miou(scores[t]) for t in THRESHOLDS])
    best = THRESHOLDS[int(np.mean(tables, axis=0).argmax())]
    if all(there):
        return Calibration(best)
    midpoint, slope = _fit_logistic(np.array(peaks), np.array(there))
    return Calibration(best, round(midpoint, 4), round(slope, 3))


def calibrate_clip(
    data: Sequence[SegmentationData], vision: SurgeryVision, text: ClassTextEncoder, preset: Preset
) -> Calibration:
    """Measure a CLIP's two towers on training data sets, see :func:`calibrate`."""
    device = next(vision.parameters()).device

    @torch.no_grad()
    def similarity_of(image: np.ndarray, names: Sequence[str]) -> Tensor:
        pixels = clip_input(image, preset).to(device)
        tokens = normalize_tokens(vision(pixels), preset.feature_norm)
        features = text([(name,) for name in names])
        return similarity_grid(tokens.expand(len(names), -1, -1), features)

    return calibrate(data, similarity_of)


def _fit_logistic(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Midpoint and slope of p(y = 1) = 1 / (1 + exp(−slope · (x − midpoint)))."""

    def loss(parameters: np.ndarray) -> float:
        z = parameters[0] * x + parameters[1]
        return float(np.mean(np.logaddexp(0, z) - y * z)) + 1e-4 * parameters[0] ** 2 / 100

    slope, offset = minimize(loss, np.array([5.0, 0.0]), method="BFGS").x
    return float(-offset / slope), float(slope)
