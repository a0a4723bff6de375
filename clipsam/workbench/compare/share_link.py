"""The state of the Compare tab as a URL query, and back.

The URL holds everything and the server stores nothing: an uploaded image stays with its owner, and
a link that refers to one waits until the recipient uploads it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from ...errors import PromptError
from ...marks import Mark
from ...types import OVERLAPS
from ...weights.presets import find_preset
from .annotator import read_marks, read_prompt
from .views.display_settings import DisplaySettings
from .views.overlays import VIEWS

FORMER_TITLES = {
    "Pairs never trained on": "Unseen combinations",
    "One is absent": "One class is absent",
}
"""Present titles of examples by those that older links use."""

MAX_LENGTH = 6000
"""Longest URL that every browser and server supports, characters."""


@dataclass(frozen=True)
class SharedState:
    """State encoded in a link.

    Attributes:
        example: title of the example; empty for an uploaded image.
        size: (height, width) of the image.
        classes: as typed.
        marks: points and boxes.
        preset: its name.
        keys: keys of the selected choices.
        display: display settings.
    """

    example: str
    size: tuple[int, int]
    classes: str
    marks: tuple[Mark, ...]
    preset: str
    keys: tuple[str, ...]
    display: DisplaySettings

    @property
    def value(self) -> dict[str, object]:
        """Value of the canvas."""
        return {"active": self.display.active, "marks": [mark.to_json() for mark in self.marks]}


def write_link(question: SharedState) -> str:
    """Return the URL query, without its question mark.

    Raises:
        PromptError: it would be too long.
    """
    display, marks = question.display, [mark.to_json() for mark in question.marks]
    query = urlencode(
        {
            "picture": question.example,
            "size": f"{question.size[1]}x{question.size[0]}",
            "classes": question.classes,
            "marks": json.dumps(marks, separators=(",", ":"), ensure_ascii=False),
            "preset": question.preset,
            "methods": " ".join(question.keys),
            "threshold": f"{display.threshold:g}",
            "presence": f"{display.min_presence:g}",
            "view": display.view,
            "overlap": display.overlap,
            "class": display.active or "",
        }
    )
    if len(query) > MAX_LENGTH:
        raise PromptError(
            "There are too many classes and marks for a link. Download the results as a zip "
            "instead."
        )
    return query


def read_link(query: Mapping[str, str], examples: Collection[str]) -> SharedState | None:
    """Parse the query of a URL; ``None`` if it is not a shared link.

    Args:
        query: its parameters.
        examples: titles of the available examples.

    Raises:
        PromptError: it is incomplete or changed, or its example does not exist.
    """
    if "picture" not in query or "classes" not in query:
        return None
    try:
        width, height = (int(side) for side in query["size"].split("x"))
        threshold, presence = float(query["threshold"]), float(query["presence"])
        marks = json.loads(query["marks"])
        view, overlap = query["view"], query["overlap"]
        sound = (
            min(width, height) > 0
            and all(map(math.isfinite, (threshold, presence)))
            and view in VIEWS
            and overlap in OVERLAPS
        )
    except (KeyError, ValueError, RecursionError):
        sound = False
    if not sound:
        raise PromptError("This link is incomplete or was changed. Ask for a new link.")
    find_preset(query["preset"])
    example = FORMER_TITLES.get(query["picture"], query["picture"])
    if example and example not in examples:
        raise PromptError(
            f"The example “{example}” of this link does not exist here. Ask for a new link."
        )
    value = {"marks": marks}
    read_prompt(query["classes"], value)  # Refused here rather than when it runs.
    return SharedState(
        example,
        (height, width),
        query["classes"],
        tuple(read_marks(query["classes"], value)),
        query["preset"],
        tuple(query.get("methods", "").split()),
        DisplaySettings(threshold, presence, view, overlap, query.get("class") or None),
    )
