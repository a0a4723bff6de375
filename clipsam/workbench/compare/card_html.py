"""HTML of the result cards: masks, intermediate results, and cost.

Masks are layers over the image that the browser already has (CSS ``--picture``), so a slider's
step sends a few kilobytes, and opacity (CSS ``--opacity``) sends nothing.
"""

from __future__ import annotations

from html import escape

import numpy as np

from ... import drawing
from ...evaluation.truth import Truth
from ...types import Prediction
from ..choices import MethodChoice
from .score_tables import shown_iou
from .views import overlays
from .views.display_settings import ALL_CLASSES, DisplaySettings
from .views.maps import block_by_block, similarity_maps

MEAN_IOU = "Mean IoU of the classes in the ground truth, at the size shown"

MENU = (
    "<label class='menu' title='Candidates, cost, labels for Adapt, about the method'>"
    "<input type='checkbox' class='show-more' aria-label='More about this result'>⋯</label>"
)
"""A card's menu button; CSS reads it, and a redraw keeps it."""


def waiting(choice: MethodChoice) -> str:
    """Format the card of a method that has not run yet."""
    return f"{_head(choice)}<p class='note'>Waiting …</p>"


def failed(choice: MethodChoice, sentence: str) -> str:
    """Format the card of a method that failed."""
    return f"{_head(choice)}<p class='problem'>{escape(sentence)}</p>"


def overlay(
    choice: MethodChoice,
    prediction: Prediction,
    display: DisplaySettings,
    image: np.ndarray,
    truth: Truth | None = None,
) -> str:
    """Format a method's result; for competing classes the label map first.

    Args:
        choice: the choice.
        prediction: the method's prediction.
        display: display settings.
        image: uint8 (H, W, 3), the original image.
        truth: ground truth for the view of errors.
    """
    height, width = size = drawing.display_size(prediction.transform.image_size)
    switch = ""
    if display.view != ALL_CLASSES:
        layers, legend = overlays.one_class(overlays.ChosenClass(prediction, display, image, truth))
    else:
        layers, legend = overlays.masks(prediction, display, size)
        if choice.joint:
            best, best_legend = overlays.labels(prediction, display, size)
            layers = f"<div class='best'>{best}</div><div class='each'>{layers}</div>"
            legend = f"<div class='best'>{best_legend}</div><div class='each'>{legend}</div>"
            switch = _switch(choice)
    shape = f"aspect-ratio:{width}/{height};max-width:calc(var(--tallest, 70vh)*{width}/{height})"
    facts = [f"{prediction.total_seconds:.2f} s"]
    if truth is not None:
        score = shown_iou(prediction, truth, display.threshold, display.overlap)
        facts += [] if score is None else [f"<span title='{MEAN_IOU}'>IoU {score:.2f}</span>"]
    head = _head(choice, " · ".join(facts) + MENU)
    button = f"tabindex='0' role='button' aria-label='Enlarge {escape(choice.title)}'"
    picture = f"<div class='overlay' {button} style='{shape}'>{layers}</div>"
    return f"{picture}{head}{switch}{legend}"


def details(prediction: Prediction, threshold: float, about: str = "") -> str:
    """Format notes and maps with SAM prompts; behind the card's menu blocks, candidates and cost.

    Args:
        prediction: the method's prediction.
        threshold: of the candidates' masks.
        about: HTML that ends the menu.
    """
    steps = "".join(
        f"<tr><td>{escape(name)}</td><td>{seconds:.3f} s</td></tr>"
        for name, seconds in prediction.seconds.items()
    )
    note = f"<p class='note'>{escape(prediction.note)}</p>" if prediction.note else ""
    if prediction.overrides:
        given = ", ".join(f"{n.replace('_', ' ')} {v}" for n, v in prediction.overrides.items())
        note += f"<p class='note'>Prompts from maps, set by hand: {escape(given)}.</p>"
    return (
        f"{note}{similarity_maps(prediction)}<div class='more'>{block_by_block(prediction)}"
        f"{_candidates(prediction, threshold)}"
        "<button type='button' class='send' title='Use these masks, as drawn now, as labels of "
        "this image in the Adapt tab'>Use as labels in Adapt</button>"
        f"<details class='cost'><summary>{prediction.total_seconds:.2f} s · peak memory "
        f"{prediction.peak_memory_mb:.0f} MB</summary><table>{steps}</table></details>{about}</div>"
    )


def _candidates(prediction: Prediction, threshold: float) -> str:
    """Format a fold per class with SAM's three candidate masks."""
    return "".join(
        "<details class='candidates'><summary>SAM's candidate masks for "
        f"{escape(text)}</summary><p class='note'>Click a candidate to use it as the "
        f"result.</p>{figures}</details>"
        for index, text in enumerate(prediction.texts)
        if (figures := overlays.candidate_figures(prediction, index, threshold))
    )


def _head(choice: MethodChoice, facts: str = "") -> str:
    """Format the line below a card's image: method, mode, and at the end some facts."""
    name, mode = choice.title.split(" · ")
    heading = f"<h3>{escape(name)} <small>{escape(mode)}</small></h3>"
    return f"<div class='head'>{heading}<span class='facts'>{facts}</span></div>"


def _switch(choice: MethodChoice) -> str:
    """Format the switch between label map and masks; CSS reads it, and a redraw keeps it."""
    name = escape(f"view of {choice.key}")
    return (
        "<div class='switch' role='radiogroup' aria-label='View'><label title='Each pixel in the "
        f"colour of its best class'><input type='radio' name='{name}' class='show-best' "
        "checked>Label map</label><label title='Each class separately; masks may overlap'><input "
        f"type='radio' name='{name}' class='show-each'>One mask per class</label></div>"
    )
