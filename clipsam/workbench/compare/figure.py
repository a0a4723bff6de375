"""The figure of a run for a paper: image, masks and map of each method, and a legend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from ... import drawing
from ...evaluation.truth import Truth
from ...figure import LAYOUT, FigurePage
from ...registry import find_method
from ...types import Overlap
from .session import ComparisonRun
from .views.display_settings import DisplaySettings

# Journals refuse Type 3 fonts, the default. Set once: rc_context would change it for all threads.
matplotlib.rcParams["pdf.fonttype"] = 42

DPI = 300


def write_figure(
    folder: Path, run: ComparisonRun, display: DisplaySettings, truth: Truth | None = None
) -> None:
    """Write ``figure.png`` and ``figure.pdf``; the same run gives the same bytes.

    Args:
        folder: output folder.
        run: a run with at least one result.
        display: threshold, overlap (ignored by methods whose classes compete), and the class whose
            similarity maps are shown.
        truth: shown below the image, if there is one.
    """
    predictions = run.predictions
    some = next(iter(predictions.values()))
    index = display.index(some)
    shown = drawing.display_pixels(run.encoded.image)
    size = shown.shape[:2]
    texts = some.texts
    mapped = any(one.results[index].similarity is not None for one in predictions.values())
    headings = ["image", *(run.titles[key] for key in predictions)]
    page = FigurePage(size, headings, two_rows=mapped or truth is not None)
    page.show(0, shown)
    if truth is not None:
        known = (truth.masks.get(text, np.zeros(truth.valid.shape, bool)) for text in texts)
        masks = (drawing.nearest(mask, size) for mask in known)
        page.show_below(0, drawing.overlay_masks(shown, masks), "ground truth")
    for column, prediction in enumerate(predictions.values(), start=1):
        rule: Overlap = "argmax" if find_method(prediction.method).joint else display.overlap
        made = prediction.each_mask(display.threshold, size, rule)
        page.show(column, drawing.overlay_masks(shown, made))
        if mapped:
            page.show_map(column, prediction, index)
    page.add_legend(texts)
    options: dict[str, Any] = {"dpi": DPI, **LAYOUT}
    page.figure.savefig(folder / "figure.png", **options)
    page.figure.savefig(folder / "figure.pdf", metadata={"CreationDate": None}, **options)
