"""Contrast of texts with what is behind them, as WCAG 2.2 defines and asks it (AA: 4.5)."""

from __future__ import annotations

import re

import pytest
from PIL import ImageColor

from clipsam.workbench.page import _theme

PAIRS = [
    (text, fill)
    for text in ("body-text-color", "body-text-color-subdued")
    for fill in ("body-background-fill", "block-background-fill", "background-fill-secondary")
]
PAIRS += [
    ("body-text-color", "button-secondary-background-fill"),
    ("button-secondary-text-color", "button-secondary-background-fill"),
    ("button-primary-text-color", "button-primary-background-fill"),
    ("button-primary-text-color", "button-primary-background-fill-hover"),
    ("input-placeholder-color", "input-background-fill"),
    ("error-text-color", "error-background-fill"),
]


def luminance(colour: str) -> float:
    """Relative luminance of an sRGB colour."""
    shares = [value / 255 for value in ImageColor.getrgb(colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_measure() -> None:
    assert contrast("white", "black") == pytest.approx(21)
    assert contrast("#777777", "white") == pytest.approx(4.48, abs=0.01)  # Known just to fail.


@pytest.mark.parametrize("is_dark", [False, True])
@pytest.mark.parametrize(("text", "fill"), PAIRS)
def test_texts_can_be_read(text: str, fill: str, is_dark: bool) -> None:
    light, _, dark = _theme()._get_theme_css().partition(".dark")
    known = dict(re.findall(r"--([\w-]+): ([^;]+);", light))
    known |= dict(re.findall(r"--([\w-]+): ([^;]+);", dark)) if is_dark else {}

    def colour(name: str) -> str:
        value = known[name]
        return colour(value[6:-1]) if value.startswith("var(--") else value

    assert contrast(colour(text), colour(fill)) >= 4.5, (colour(text), colour(fill))
