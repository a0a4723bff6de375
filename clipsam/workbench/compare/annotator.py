"""The canvas on which points and boxes are put; what it sends is checked here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import gradio as gr
import numpy as np

from ... import drawing
from ...errors import PromptError
from ...types import Concept, Prompt, parse_classes

_HERE = Path(__file__).parent

MAX_MARKS = 1000


def annotator() -> gr.HTML:
    """The canvas with its toolbar.

    Its value is ``{"active": class, "marks": [mark, …]}``; a mark is ``{"class", "x", "y",
    "label"}`` or ``{"class", "box"}``, in pixels of the original image. Its events: ``input`` when
    the marks change, ``select`` when the active class does.
    """
    return gr.HTML(
        value=nothing_marked(),
        html_template=(_HERE / "annotator.html").read_text(),
        js_on_load=(_HERE / "annotator.js").read_text(),
        apply_default_css=False,
        elem_id="annotator",
        picture="",
        size=[0, 0],
        classes=[],
    )


def nothing_marked() -> dict[str, object]:
    """The value of an untouched canvas."""
    return {"active": None, "marks": []}


def with_picture(image: np.ndarray, marks: object = None) -> gr.HTML:
    """Update: show an image (uint8 (H, W, 3)) with the marks of an earlier value, or without."""
    height, width = image.shape[:2]
    return gr.HTML(
        value=marks or nothing_marked(), picture=drawing.shown_picture(image), size=[width, height]
    )


def with_classes(text: str) -> gr.HTML:
    """Update: offer the typed classes to be marked; marks of other classes are kept, unseen."""
    names = dict.fromkeys(synonyms[0] for synonyms in parse_classes(text))
    return gr.HTML(
        classes=[
            {"name": name, "colour": drawing.class_colour(index)}
            for index, name in enumerate(names)
        ]
    )


def active_class(value: object) -> str | None:
    """The class chosen on the canvas."""
    active = value.get("active") if isinstance(value, dict) else None
    return active if isinstance(active, str) else None


def read_prompt(text: str, value: object) -> Prompt:
    """Typed classes and the canvas's value as a prompt; marks of other classes are left out.

    Raises:
        PromptError: no class, a class named twice, or a value that the canvas cannot have sent.
    """
    marks = value.get("marks") if isinstance(value, dict) else None
    if not isinstance(marks, list) or len(marks) > MAX_MARKS:
        raise PromptError(f"The marks on the picture are not a list of at most {MAX_MARKS}.")
    if not all(isinstance(mark, dict) for mark in marks):
        raise PromptError("A mark on the picture is neither a point nor a box.")
    return Prompt(
        tuple(
            _concept(synonyms, [mark for mark in marks if mark.get("class") == synonyms[0]])
            for synonyms in parse_classes(text)
        )
    )


def _concept(synonyms: tuple[str, ...], marks: Sequence[dict]) -> Concept:
    """A class with its points, and the last of its boxes."""
    points, labels, box = [], [], None
    for mark in marks:
        if "box" in mark:
            box = _numbers(mark["box"], 4)
        else:
            points.append(_numbers([mark.get("x"), mark.get("y")], 2))
            labels.append(1 if mark.get("label") == 1 else 0)
    return Concept(
        synonyms,
        np.array(points, np.float32).reshape(-1, 2),
        np.array(labels, np.int64),
        None if box is None else np.array(box, np.float32),
    )


def _numbers(values: object, count: int) -> list[float]:
    if (
        not isinstance(values, list)
        or len(values) != count
        or not all(isinstance(v, (int, float)) and math.isfinite(v) for v in values)
    ):
        raise PromptError("A mark on the picture is neither a point nor a box.")
    return [float(v) for v in values]
