"""The course of a training run as a picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..writing import replacing


def draw_curve(log: Path, picture: Path, title: str) -> None:
    """Draw loss, training IoU and validation of a run.

    Args:
        log: JSON lines with ``step``, ``loss`` and, where there are any, ``iou`` and
            ``validation``.
        picture: PNG to write.
        title: of the picture.
    """
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    steps = np.array([line["step"] for line in lines])
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlabel="step", ylabel="loss")
    window = max(1, len(lines) // 40)
    axes.plot(steps, _smooth([line["loss"] for line in lines], window), color="tab:red")
    scores = axes.twinx()
    scores.set(ylabel="IoU", ylim=(0, 1))
    if all("iou" in line for line in lines):
        ious = _smooth([line["iou"] for line in lines], window)
        scores.plot(steps, ious, color="tab:blue", label="training IoU")
    judged = [(line["step"], line["validation"]) for line in lines if "validation" in line]
    if judged:
        scores.plot(*zip(*judged, strict=True), "o-", color="tab:green", label="validation mIoU")
    axes.plot([], [], color="tab:red", label=f"loss (mean of {window} steps)")
    handles = [*axes.get_legend_handles_labels()[0], *scores.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    with replacing(picture) as partial:
        figure.savefig(partial, dpi=120)


def _smooth(values: list[float], window: int) -> np.ndarray:
    """Return the running mean over the ``window`` latest values."""
    sums = np.cumsum(np.concatenate(([0.0], values)))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    return (sums[ends] - sums[starts]) / (ends - starts)
