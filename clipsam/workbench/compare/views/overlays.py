"""An answer seen one way or another: masks or a label map over its picture, or one class alone.

Layers are transparent pictures of one or few colours, to lie over the picture that is shown.
"""

from __future__ import annotations

import math
from html import escape

import numpy as np
from PIL import Image

from .... import drawing
from ....evaluation.truth import Truth
from ....types import Prediction
from .error_maps import class_errors
from .looks import VIEWS, Look
from .painting import greyed, percent

HIDDEN = "hidden: less likely present than you ask"


def masks(prediction: Prediction, look: Look, size: tuple[int, int]) -> tuple[str, str]:
    """Each class on its own; the legend switches each on and off.

    Args:
        prediction: what a method answered.
        look: what is asked of the drawing.
        size: (height, width) of the layers.

    Returns:
        HTML of the layers and of the legend.
    """
    layers, legend = [], []
    each = prediction.each_mask(look.threshold, size, look.overlap)
    for index, (text, result, mask) in enumerate(
        zip(prediction.texts, prediction.results, each, strict=True)
    ):
        colour = drawing.class_colour(index)
        if result.presence < look.least_presence:
            found = HIDDEN
        elif mask.any():
            found = f"area {_area(mask)}"
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


def labels(prediction: Prediction, look: Look, size: tuple[int, int]) -> tuple[str, str]:
    """Each pixel in the colour of its best class, clear where none is above the threshold.

    A hidden class still competes, and leaves what it wins clear. For arguments and result see
    :func:`masks`.
    """
    winners = prediction.label_map(look.threshold, size)
    nobody = winners < 0
    legend = []
    for index, (text, result) in enumerate(zip(prediction.texts, prediction.results, strict=True)):
        won = winners == index
        found = f"area {_area(won)}" if won.any() else "no pixel"
        if result.presence < look.least_presence:
            found = HIDDEN
            winners[won] = -1
        legend.append(
            f"<li style='--c:{drawing.class_colour(index)}'><i></i><b>{escape(text)}</b> "
            f"<span>{found} · {_presence(result.presence)}</span></li>"
        )
    if nobody.any():
        legend.append(f"<li><i></i>none above the threshold <span>area {_area(nobody)}</span></li>")
    layers = ""
    if (winners >= 0).any():
        fill, edge = drawing.label_layer(winners), drawing.label_layer(drawing.borders(winners))
        layers = f"<img class='fill' src='{fill}' alt=''><img src='{edge}' alt='label map'>"
    return layers, f"<ul class='legend'>{''.join(legend)}</ul>"


def one_class(
    prediction: Prediction, look: Look, image: np.ndarray, truth: Truth | None
) -> tuple[str, str]:
    """The chosen class in a view of its own.

    Args:
        prediction: what a method answered.
        look: what is asked of the drawing; its view is not ``masks``.
        image: uint8 (H, W, 3), as it was asked about.
        truth: needed for errors.

    Returns:
        HTML of a picture that covers the card's, or nothing, and of what is below it.
    """
    index = look.index(prediction)
    size = drawing.shown_size(prediction.transform.image_size)
    text = prediction.texts[index]
    below = f"<p class='note'><b>{escape(text)}</b></p>"
    match look.view:
        case "mask":
            mask = prediction.class_mask(index, look.threshold, size, look.overlap)
            uri = drawing.data_uri(Image.fromarray(drawing.mask_picture(mask)))
        case "logits":
            logits = prediction.class_logits(index, size)
            uri = _photograph(drawing.heat_picture(logits, look.threshold))
            below += heat_legend(logits, look.threshold)
        case "prompts":
            prompts, shown = prediction.results[index].prompts, drawing.shown_pixels(image)
            uri = _photograph(drawing.prompts_picture(shown, prompts, prediction.transform))
        case _:
            if truth is None or text not in truth.masks:
                return "", f"{below}<p class='note'>Needs a ground truth that knows this class.</p>"
            painting = class_errors(prediction, index, truth, size, look.threshold, look.overlap)
            uri = _photograph(painting.over(greyed(drawing.shown_pixels(image))))
            below += painting.legend()
    return f"<img src='{uri}' alt='{VIEWS[look.view]} of {escape(text)}'>", below


def heat_legend(logits: np.ndarray, threshold: float) -> str:
    """HTML of the colour bar of :func:`drawing.heat_picture`, and the raw range of the logits."""
    reach = drawing.heat_reach(logits, threshold)
    colours = ",".join(drawing.heat_colours(9))
    return (
        f"<div class='scale'><span>{threshold - reach:.2f}</span>"
        f"<i style='background:linear-gradient(90deg,{colours})'></i>"
        f"<span>{threshold + reach:.2f}</span></div>"
        f"<p class='note'>Logits from {logits.min():.2f} to {logits.max():.2f}; white is the "
        f"threshold, {threshold:.2f}.</p>"
    )


def _photograph(picture: np.ndarray) -> str:
    """uint8 (h, w, 3) → JPEG data URI, which is made ten times faster than a PNG."""
    return drawing.data_uri(Image.fromarray(picture), "JPEG", quality=92)


def _area(mask: np.ndarray) -> str:
    return percent(np.count_nonzero(mask) / mask.size)


def _presence(presence: float) -> str:
    return "presence not calibrated" if math.isnan(presence) else f"presence {presence:.2f}"
