"""HTML of the result cards: what one method found, what led it there, and what it cost.

Masks are layers over the picture that the browser already has (CSS ``--picture``), so a slider's
step sends a few kilobytes, and opacity (CSS ``--opacity``) sends nothing.
"""

from __future__ import annotations

import math
from html import escape

import numpy as np
from PIL import Image

from ..types import ConceptResult, Prediction
from . import drawing
from .choices import Choice


def waiting(choice: Choice) -> str:
    """A card whose method has not answered yet."""
    return f"{_head(choice)}<p class='note'>Waiting for its turn …</p>"


def failed(choice: Choice, sentence: str) -> str:
    """A card whose method could not answer."""
    return f"{_head(choice)}<p class='problem'>{escape(sentence)}</p>"


def overlay(choice: Choice, prediction: Prediction, threshold: float, least_presence: float) -> str:
    """The masks over the picture, and a legend that switches each class on and off.

    Args:
        choice: what ran.
        prediction: what it answered.
        threshold: logits above it are mask.
        least_presence: classes less likely present are not drawn; unknown presence always is.
    """
    size = drawing.shown_size(prediction.transform.image_size)
    layers, legend = [], []
    for index, (text, result) in enumerate(zip(prediction.texts, prediction.results, strict=True)):
        colour = drawing.class_colour(index)
        mask = prediction.class_mask(index, threshold, size)
        hidden = result.presence < least_presence
        if hidden:
            found = "hidden: less likely present than you ask"
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
    height, width = size
    shape = f"aspect-ratio:{width}/{height};max-width:calc(70vh*{width}/{height})"
    return (
        f"{_head(choice)}<div class='overlay' style='{shape}'>{''.join(layers)}</div>"
        f"<ul class='legend'>{''.join(legend)}</ul>"
    )


def details(prediction: Prediction) -> str:
    """Similarity maps with the points taken from them, notes, seconds and memory."""
    size = prediction.transform.image_size
    figures = "".join(
        _figure(index, text, result, size)
        for index, (text, result) in enumerate(
            zip(prediction.texts, prediction.results, strict=True)
        )
    )
    steps = "".join(
        f"<tr><td>{escape(name)}</td><td>{seconds:.3f} s</td></tr>"
        for name, seconds in prediction.seconds.items()
    )
    return (
        f"<div class='maps'>{figures}</div>"
        f"<details class='cost'><summary>{prediction.total_seconds:.2f} s · peak memory "
        f"{prediction.peak_memory_mb:.0f} MB</summary><table>{steps}</table></details>"
    )


def _head(choice: Choice) -> str:
    name, mode = choice.title.split(" · ")
    return f"<h3>{escape(name)} <small>{escape(mode)}</small></h3>"


def _figure(index: int, text: str, result: ConceptResult, size: tuple[int, int]) -> str:
    """One class: its map with colour bar, or only its note."""
    name = f"<b style='--c:{drawing.class_colour(index)}'>{escape(text)}</b>"
    note = f"<p class='note'>{escape(result.note)}</p>" if result.note else ""
    if result.similarity is None:
        return f"<figure class='plain'>{name}{note}</figure>" if note else ""
    low, high = float(result.similarity.min()), float(result.similarity.max())
    picture = drawing.similarity_picture(result.similarity, result.prompts, size)
    uri = drawing.data_uri(Image.fromarray(picture))
    return (
        f"<figure>{name}<img class='map' src='{uri}' alt='similarity map of {escape(text)}'>"
        f"<div class='scale'><span>{low:.3f}</span><i></i><span>{high:.3f}</span></div>"
        f"<figcaption>cosine, {_prompts(result)}</figcaption>{note}</figure>"
    )


def _prompts(result: ConceptResult) -> str:
    """What SAM was fed, in words."""
    count = len(result.prompts.points)
    parts = [f"{count} {'point' if count == 1 else 'points'}"]
    if result.prompts.box is not None:
        parts.append("a box")
    if result.prompts.dense is not None:
        parts.append("a dense prompt")
    return " + ".join(parts)


def _percent(mask: np.ndarray) -> str:
    share = 100 * np.count_nonzero(mask) / mask.size
    return f"{share:.1f} %" if share >= 0.1 else "< 0.1 %"


def _presence(presence: float) -> str:
    return "presence not calibrated" if math.isnan(presence) else f"presence {presence:.2f}"
