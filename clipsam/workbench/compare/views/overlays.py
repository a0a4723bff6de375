"""Views of a prediction: masks or a label map over the image, or one class alone.

Layers are transparent images of one or few colours over the displayed image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from html import escape

import numpy as np
from PIL import Image

from .... import drawing
from ....evaluation.truth import Truth
from ....types import Prediction
from .display_settings import ALL_CLASSES, DisplaySettings
from .error_maps import class_errors
from .painting import greyed, percent

HIDDEN = "hidden: presence below the limit"


def masks(
    prediction: Prediction, display: DisplaySettings, size: tuple[int, int]
) -> tuple[str, str]:
    """Draw each class separately; the legend switches each on and off.

    Args:
        prediction: the method's prediction.
        display: display settings.
        size: (height, width) of the layers.

    Returns:
        HTML of the layers and of the legend.
    """
    layers, legend = [], []
    each = prediction.each_mask(display.threshold, size, display.overlap)
    for index, (text, result, mask) in enumerate(
        zip(prediction.texts, prediction.results, each, strict=True)
    ):
        colour = drawing.class_colour(index)
        if result.presence < display.min_presence:
            found = HIDDEN
        elif mask.any():
            found = f"area {_area(mask)}"
            fill, edge = (
                drawing.mask_layer(mask, colour),
                drawing.mask_layer(drawing.outline(mask), colour),
            )
            layers.append(f"<img class='fill layer-{index}' src='{fill}' alt=''>")
            layers.append(f"<img class='layer-{index}' src='{edge}' alt='mask of {escape(text)}'>")
        else:
            found = "empty mask"
        legend.append(
            f"<li style='--c:{colour}'><label title='Show or hide this class'>"
            f"<input type='checkbox' class='toggle-{index}' checked><b>{escape(text)}</b></label> "
            f"<span>{found} · {_presence(result.presence)}</span></li>"
        )
    return "".join(layers), f"<ul class='legend'>{''.join(legend)}</ul>"


def labels(
    prediction: Prediction, display: DisplaySettings, size: tuple[int, int]
) -> tuple[str, str]:
    """Draw each pixel in the colour of its best class, transparent if below the threshold.

    A hidden class still competes, and its pixels are transparent. For arguments and result see
    :func:`masks`.
    """
    winners = prediction.label_map(display.threshold, size)
    nobody = winners < 0
    legend = []
    for index, (text, result) in enumerate(zip(prediction.texts, prediction.results, strict=True)):
        won = winners == index
        found = f"area {_area(won)}" if won.any() else "no pixel"
        if result.presence < display.min_presence:
            found = HIDDEN
            winners[won] = -1
        legend.append(
            f"<li style='--c:{drawing.class_colour(index)}'><i></i><b>{escape(text)}</b> "
            f"<span>{found} · {_presence(result.presence)}</span></li>"
        )
    if nobody.any():
        legend.append(
            f"<li><i></i>no class above the threshold <span>area {_area(nobody)}</span></li>"
        )
    layers = ""
    if (winners >= 0).any():
        fill, edge = (
            drawing.label_map_layer(winners),
            drawing.label_map_layer(drawing.borders(winners)),
        )
        layers = f"<img class='fill' src='{fill}' alt=''><img src='{edge}' alt='label map'>"
    return layers, f"<ul class='legend'>{''.join(legend)}</ul>"


@dataclass(frozen=True)
class ChosenClass:
    """One class of a prediction, to be drawn in a view of its own.

    Attributes:
        prediction: the method's prediction.
        display: display settings.
        image: uint8 (H, W, 3), the original image.
        truth: if there is one.
    """

    prediction: Prediction
    display: DisplaySettings
    image: np.ndarray
    truth: Truth | None = None

    @property
    def index(self) -> int:
        """Index of the class."""
        return self.display.index(self.prediction)

    @property
    def text(self) -> str:
        """Name of the class."""
        return self.prediction.texts[self.index]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image to draw."""
        return drawing.display_size(self.prediction.transform.image_size)


def one_class(chosen: ChosenClass) -> tuple[str, str]:
    """Draw the selected class in the chosen view.

    Returns:
        HTML of an image that covers the card's, or nothing, and of the text below it.
    """
    view, text = VIEWS[chosen.display.view], escape(chosen.text)
    uri, below = ("", "") if view.draw is None else view.draw(chosen)
    picture = f"<img src='{uri}' alt='{view.title} of {text}'>" if uri else ""
    return picture, f"<p class='note'><b>{text}</b></p>{below}"


def _mask_alone(chosen: ChosenClass) -> tuple[str, str]:
    display = chosen.display
    mask = chosen.prediction.class_mask(
        chosen.index, display.threshold, chosen.size, display.overlap
    )
    return drawing.data_uri(Image.fromarray(drawing.mask_picture(mask))), ""


def _logits(chosen: ChosenClass) -> tuple[str, str]:
    threshold = chosen.display.threshold
    logits = chosen.prediction.class_logits(chosen.index, chosen.size)
    return _photograph(drawing.heat_picture(logits, threshold)), heat_legend(logits, threshold)


def _prompts(chosen: ChosenClass) -> tuple[str, str]:
    prediction, shown = chosen.prediction, drawing.display_pixels(chosen.image)
    prompts = prediction.results[chosen.index].prompts
    return _photograph(drawing.prompts_picture(shown, prompts, prediction.transform)), ""


def _errors(chosen: ChosenClass) -> tuple[str, str]:
    truth, display = chosen.truth, chosen.display
    if truth is None or chosen.text not in truth.masks:
        return "", "<p class='note'>Needs a ground truth with this class.</p>"
    painting = class_errors(
        chosen.prediction, chosen.index, truth, chosen.size, display.threshold, display.overlap
    )
    picture = painting.over(greyed(drawing.display_pixels(chosen.image)))
    return _photograph(picture), painting.legend()


@dataclass(frozen=True)
class View:
    """A view of a prediction.

    Attributes:
        title: display title.
        draw: returns the data URI of an image of the selected class, or nothing, and HTML below it;
            ``None`` for the view of all classes, which is layers over the image.
    """

    title: str
    draw: Callable[[ChosenClass], tuple[str, str]] | None


VIEWS: dict[str, View] = {
    ALL_CLASSES: View("Masks", None),
    "mask": View("Mask only", _mask_alone),
    "logits": View("Logits", _logits),
    "prompts": View("Prompts", _prompts),
    "errors": View("Errors", _errors),
}
"""All views by id, in display order."""


def candidate_figures(prediction: Prediction, index: int, threshold: float) -> str:
    """Format each candidate over the image with SAM's predicted IoU; empty without candidates.

    Each is a button with ``data-index`` of the class and number ``data-candidate``.

    Layers lie over the image of the page (CSS ``--picture``), as those of the cards do.

    Args:
        prediction: the method's prediction.
        index: of the class.
        threshold: logits above it belong to the mask.
    """
    result = prediction.results[index]
    image_size = prediction.transform.image_size
    size = drawing.fit_size(image_size, drawing.MAP_SIDE)
    colour = drawing.class_colour(index)
    predicted = () if result.candidate_scores is None else result.candidate_scores.tolist()
    figures = []
    for number, mask in enumerate(prediction.candidate_masks(index, threshold, size)):
        fill, edge = (
            drawing.mask_layer(mask, colour),
            drawing.mask_layer(drawing.outline(mask), colour),
        )
        taken = ", selected" if result.candidate == number else ""
        figures.append(
            f"<button type='button' data-index='{index}' data-candidate='{number}' title='Use this "
            "mask as the result'><figure><div class='overlay' "
            f"style='aspect-ratio:{size[1]}/{size[0]}'><img class='fill' src='{fill}' alt=''><img "
            f"src='{edge}' alt='candidate {number + 1}'></div><figcaption>Candidate {number + 1}: "
            f"predicted IoU {predicted[number]:.3f}{taken}</figcaption></figure></button>"
        )
    return f"<div class='maps'>{''.join(figures)}</div>" if figures else ""


def heat_legend(logits: np.ndarray, threshold: float) -> str:
    """Format the colour bar of :func:`drawing.heat_picture` and the raw range of the logits."""
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
    """Encode an image, uint8 (h, w, 3), as a JPEG data URI, ten times faster than as a PNG."""
    return drawing.data_uri(Image.fromarray(picture), "JPEG", quality=92)


def _area(mask: np.ndarray) -> str:
    return percent(np.count_nonzero(mask) / mask.size)


def _presence(presence: float) -> str:
    return "presence not calibrated" if math.isnan(presence) else f"presence {presence:.2f}"
