"""An answer laid over its picture, with a legend: every class's own mask, or one label map.

Layers are transparent pictures of one or few colours, to lie over the picture that is shown.
"""

from __future__ import annotations

import math
from html import escape

import numpy as np

from ..types import Prediction
from . import drawing

HIDDEN = "hidden: less likely present than you ask"


def masks(
    prediction: Prediction, threshold: float, least_presence: float, size: tuple[int, int]
) -> tuple[str, str]:
    """Each class on its own: masks may overlap; the legend switches each on and off.

    Args:
        prediction: what a method answered.
        threshold: logits above it are mask.
        least_presence: classes less likely present are not drawn; unknown presence always is.
        size: (height, width) of the layers.

    Returns:
        HTML of the layers and of the legend.
    """
    layers, legend = [], []
    for index, (text, result) in enumerate(zip(prediction.texts, prediction.results, strict=True)):
        colour = drawing.class_colour(index)
        mask = prediction.class_mask(index, threshold, size)
        if result.presence < least_presence:
            found = HIDDEN
        elif mask.any():
            found = f"{_percent(mask)} of the picture"
            fill, edge = drawing.layer(mask, colour), drawing.layer(drawing.outline(mask), colour)
            layers.append(f"<img class='fill layer-{index}' src='{fill}' alt=''>")
            layers.append(f"<img class='layer-{index}' src='{edge}' alt='mask of {escape(text)}'>")
        else:
            found = "nothing above the threshold"
        legend.append(
            f"<li style='--c:{colour}'><label title='Show or hide this class'>"
            f"<input type='checkbox' class='toggle-{index}' checked><b>{escape(text)}</b></label> "
            f"<span>{found} · {_presence(result.presence)}</span></li>"
        )
    return "".join(layers), f"<ul class='legend'>{''.join(legend)}</ul>"


def labels(
    prediction: Prediction, threshold: float, least_presence: float, size: tuple[int, int]
) -> tuple[str, str]:
    """Each pixel in the colour of its best class, clear where none is above the threshold.

    A hidden class still competes, and leaves what it wins clear. For arguments and result see
    :func:`masks`.
    """
    winners = prediction.label_map(threshold, size)
    nobody = winners < 0
    legend = []
    for index, (text, result) in enumerate(zip(prediction.texts, prediction.results, strict=True)):
        won = winners == index
        found = f"{_percent(won)} of the picture" if won.any() else "no pixel"
        if result.presence < least_presence:
            found = HIDDEN
            winners[won] = -1
        legend.append(
            f"<li style='--c:{drawing.class_colour(index)}'><i></i><b>{escape(text)}</b> "
            f"<span>{found} · {_presence(result.presence)}</span></li>"
        )
    if nobody.any():
        legend.append(
            "<li><i></i>none above the threshold "
            f"<span>{_percent(nobody)} of the picture</span></li>"
        )
    layers = ""
    if (winners >= 0).any():
        fill, edge = drawing.label_layer(winners), drawing.label_layer(drawing.borders(winners))
        layers = f"<img class='fill' src='{fill}' alt=''><img src='{edge}' alt='label map'>"
    return layers, f"<ul class='legend'>{''.join(legend)}</ul>"


def _percent(mask: np.ndarray) -> str:
    share = 100 * np.count_nonzero(mask) / mask.size
    return f"{share:.1f} %" if share >= 0.1 else "< 0.1 %"


def _presence(presence: float) -> str:
    return "presence not calibrated" if math.isnan(presence) else f"presence {presence:.2f}"
