"""What one request may ask for, on the page and in the API, so that others can ask too."""

from __future__ import annotations

from ..errors import PromptError
from ..types import parse_classes

MAX_CLASSES = 200
"""Classes of a request."""

MAX_TEXT = 20_000
"""Characters of its class names."""

MAX_MARKS = 1000
"""Points and boxes of a request."""


def read_classes(text: str) -> tuple[tuple[str, ...], ...]:
    """Parse the class names of a request, see :func:`parse_classes`.

    Raises:
        PromptError: they are too many or too long.
    """
    if len(text) > MAX_TEXT:
        raise PromptError(
            f"The class names have {len(text):,} characters, more than the limit of {MAX_TEXT:,}."
        )
    classes = parse_classes(text)
    if len(classes) > MAX_CLASSES:
        raise PromptError(
            f"{len(classes)} classes are more than the limit of {MAX_CLASSES} per request. Ask for "
            "them in several requests, or use the command line."
        )
    return classes


def check_marks(count: int) -> None:
    """Check the number of points and boxes.

    Raises:
        PromptError: they are too many.
    """
    if count > MAX_MARKS:
        raise PromptError(
            f"{count:,} points and boxes are more than the limit of {MAX_MARKS:,} per request."
        )
