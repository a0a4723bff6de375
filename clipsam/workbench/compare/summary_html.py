"""Comparison of all methods of a run: scores, costs, and where they differ."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np
from PIL import Image

from ... import drawing
from ...evaluation.map_scores import MapScore
from ...evaluation.truth import Truth
from ...types import Prediction
from .score_tables import bar_charts, method_table, method_table_html
from .views.agreement import agreement, class_masks, pairwise_iou, pairwise_table
from .views.display_settings import DisplaySettings
from .views.painting import greyed


def costs(
    predictions: Mapping[str, Prediction],
    titles: Mapping[str, str],
    parameters: Mapping[str, Mapping[str, int]],
    display: DisplaySettings,
    truth: Truth | None,
    maps: Mapping[str, Mapping[str, MapScore]],
) -> str:
    """Format a table of scores and costs per method, and a bar chart of each column.

    Args:
        predictions: by key of the choice.
        titles: title by key.
        parameters: ``total`` and ``trainable`` by key.
        display: threshold and overlap.
        truth: the ground truth.
        maps: threshold-independent scores by key.
    """
    rows = method_table(
        predictions, titles, parameters, truth, display.threshold, maps, display.overlap
    )
    return f"{method_table_html(rows)}<div class='charts'>{bar_charts(rows)}</div>"


def differences(
    predictions: Mapping[str, Prediction],
    titles: Mapping[str, str],
    display: DisplaySettings,
    image: np.ndarray,
) -> str:
    """Format how many methods predict each pixel of the chosen class, and their pairwise IoU."""
    if len(predictions) < 2:
        return "<p class='note'>Run at least two methods to see where they differ.</p>"
    some = next(iter(predictions.values()))
    index = display.index(some)
    size = drawing.display_size(some.transform.image_size)
    masks = class_masks(list(predictions.values()), index, size, display.threshold, display.overlap)
    painting = agreement(masks)
    uri = drawing.data_uri(Image.fromarray(painting.over(greyed(drawing.display_pixels(image)))))
    text = escape(some.texts[index])
    table = pairwise_table(pairwise_iou(masks), [titles[key] for key in predictions])
    return (
        f"<h4>{text}: where the methods agree</h4><div class='agreement'>"
        f"<img src='{uri}' alt='agreement about {text}'>"
        f"<div>{painting.legend()}{table}</div></div>"
    )
