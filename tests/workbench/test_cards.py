"""Result cards show what was found, and nothing that a class name smuggles in."""

from __future__ import annotations

import numpy as np

from clipsam.geometry import SquareTransform
from clipsam.types import ConceptResult, Prediction, PromptsUsed, prompt_from_classes
from clipsam.workbench import cards
from clipsam.workbench.choices import Choice

CHOICE = Choice("m", "x", "Method · mode", "It does.")
FOUND = np.full((8, 8), 3.0, np.float32)


def prediction(names: list[str], **result: object) -> Prediction:
    used = PromptsUsed(np.zeros((0, 2), np.float32), np.zeros(0, np.int64))
    return Prediction(
        method="m",
        preset="tiny",
        mode="x",
        prompt=prompt_from_classes([[name] for name in names]),
        transform=SquareTransform((8, 8), 8),
        results=tuple(ConceptResult(FOUND, used, **result) for _ in names),
        seconds={"step": 0.25, "other": 0.5},
        peak_memory_mb=123.0,
    )


def test_each_class_has_a_layer_and_a_line() -> None:
    html = cards.overlay(CHOICE, prediction(["dog", "cat"]), 0.0, 0.0)
    assert html.count("class='fill") == 2
    assert "100.0 % of the picture" in html
    assert "presence not calibrated" in html


def test_nothing_above_the_threshold_is_said_and_not_drawn() -> None:
    html = cards.overlay(CHOICE, prediction(["dog"]), 5.0, 0.0)
    assert "<img" not in html
    assert "nothing above the threshold" in html


def test_a_class_that_is_unlikely_present_is_hidden_and_said_so() -> None:
    found = prediction(["dog"], presence=0.2)
    assert "<img" in cards.overlay(CHOICE, found, 0.0, 0.2)
    html = cards.overlay(CHOICE, found, 0.0, 0.21)
    assert "<img" not in html
    assert "hidden" in html
    assert "presence 0.20" in html


def test_unknown_presence_hides_nothing() -> None:
    assert "<img" in cards.overlay(CHOICE, prediction(["dog"]), 0.0, 1.0)


def test_details_tell_the_raw_range_the_seconds_and_the_memory() -> None:
    similarity = np.array([[-0.125, 0.0], [0.25, 0.5]], np.float32)
    html = cards.details(prediction(["dog"], similarity=similarity, note="A note."))
    for text in ("-0.125", "0.500", "0.75 s", "123 MB", "0.250 s", "A note.", "0 points"):
        assert text in html


def test_names_are_shown_as_typed_and_never_run() -> None:
    evil = "<img src=x onerror='alert(1)'>"
    found = prediction([evil], similarity=np.zeros((2, 2), np.float32), note=evil)
    for html in (
        cards.overlay(CHOICE, found, 0.0, 0.0),
        cards.details(found),
        cards.failed(CHOICE, evil),
    ):
        assert "<img src=x" not in html
        assert "&lt;img src=x onerror=&#x27;" in html
