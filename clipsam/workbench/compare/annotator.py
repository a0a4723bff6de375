"""The canvas for points and boxes, and the validation of what it sends."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
import numpy as np

from ... import drawing
from ...errors import PromptError
from ...marks import Mark, find_class, prompt_with_marks, read_mark
from ...names import fold_name
from ...types import Prompt, parse_classes
from ..limits import MAX_CLASSES, MAX_TEXT, check_marks, read_classes

_HERE = Path(__file__).parent


def annotator() -> gr.HTML:
    """Build the canvas with its toolbar.

    Its value is ``{"active": class, "marks": [mark, …], "image": number}``; a mark is ``{"class",
    "x", "y", "label"}`` or ``{"class", "box"}``, in pixels of the original image; the number is
    that of an open image, or none. Its events: ``input`` when
    the marks change, ``select`` when the active class does.
    """
    return gr.HTML(
        value=nothing_marked(),
        html_template=(_HERE / "annotator.html").read_text(encoding="utf-8"),
        js_on_load=(_HERE / "annotator.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_id="annotator",
        picture="",
        size=[0, 0],
        classes=[],
    )


def nothing_marked() -> dict[str, object]:
    """Return the value of an empty canvas."""
    return {"active": None, "marks": []}


def with_picture(image: np.ndarray, marks: object = None, number: int | None = None) -> gr.HTML:
    """Return an update that shows an image.

    Args:
        image: uint8 (H, W, 3).
        marks: earlier value of the canvas; ``None`` without marks.
        number: of the open image; ``None`` for another one.
    """
    height, width = image.shape[:2]
    kept = marks if isinstance(marks, dict) else nothing_marked()
    return gr.HTML(
        value={**kept, "image": number}, picture=drawing.display_uri(image), size=[width, height]
    )


def with_classes(text: str) -> gr.HTML:
    """Return an update that offers the typed classes and hides marks of others."""
    classes: dict[str, tuple[str, ...]] = {}
    for synonyms in parse_classes(text[:MAX_TEXT])[:MAX_CLASSES]:
        classes.setdefault(synonyms[0], synonyms)
    return gr.HTML(
        classes=[
            {
                "name": name,
                "names": list(map(fold_name, synonyms)),
                "colour": drawing.class_colour(index),
            }
            for index, (name, synonyms) in enumerate(classes.items())
        ]
    )


def active_class(value: object) -> str | None:
    """Return the class chosen on the canvas."""
    active = value.get("active") if isinstance(value, dict) else None
    return active if isinstance(active, str) else None


def read_marks(text: str, value: object) -> list[Mark]:
    """Read the marks of the typed classes from the canvas's value, ignoring others.

    Raises:
        PromptError: the value is invalid.
    """
    marks = value.get("marks") if isinstance(value, dict) else None
    if not isinstance(marks, list):
        raise PromptError("The points and boxes on the image must be a list.")
    check_marks(len(marks))
    classes = read_classes(text)
    read = map(read_mark, marks)
    return [mark for mark in read if find_class(mark.name, classes) is not None]


def read_prompt(text: str, value: object) -> Prompt:
    """Read the prompt from typed classes and the canvas's value, ignoring marks of other classes.

    Raises:
        PromptError: no class, a duplicate class, or an invalid value.
    """
    return prompt_with_marks(read_classes(text), read_marks(text, value))


def prompt_if_any(text: str, value: object) -> Prompt | None:
    """Read the prompt as :func:`read_prompt` does, or return ``None`` if it cannot be used."""
    try:
        return read_prompt(text, value)
    except PromptError:
        return None
