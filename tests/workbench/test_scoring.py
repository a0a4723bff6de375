"""The table of scores, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from clipsam.evaluation.truth import Truth, TruthError
from clipsam.geometry import SquareTransform
from clipsam.types import ConceptResult, Prediction, PromptsUsed, prompt_from_classes
from clipsam.workbench.scoring import HEADERS, MEAN, read_names, score_table, table_html


def prediction(*logits: np.ndarray) -> Prediction:
    """Of classes a, b, … with given logits, in an image as large as the network's input."""
    used = PromptsUsed()
    side = logits[0].shape[0]
    names = [[chr(ord("a") + index)] for index in range(len(logits))]
    return Prediction(
        method="m",
        preset="tiny",
        mode="x",
        prompt=prompt_from_classes(names),
        transform=SquareTransform((side, side), side),
        results=tuple(ConceptResult(one.astype(np.float32), used, 0.5) for one in logits),
        seconds={},
        peak_memory_mb=0.0,
    )


def test_rows_are_iou_dice_presence_area_and_the_mean() -> None:
    left, top = np.full((4, 4), -1.0), np.full((4, 4), -1.0)
    left[:, :2] = 1
    top[:1] = 1
    half = np.zeros((4, 4), bool)
    half[:2] = True
    truth = Truth({"a": half, "b": half}, np.ones((4, 4), bool))
    rows = score_table({"k": prediction(left, top)}, {"k": "M"}, truth, 0.0)
    assert len(HEADERS) == 6
    assert rows == [
        ["M", "a", pytest.approx(4 / 12, abs=1e-4), 0.5, 0.5, 50.0],
        ["M", "b", 0.5, pytest.approx(8 / 12, abs=1e-4), 0.5, 25.0],
        ["M", MEAN, pytest.approx((4 / 12 + 0.5) / 2, abs=1e-4), None, None, None],
    ]


def test_the_threshold_moves_the_scores() -> None:
    logits = np.array([[3.0, 1.0], [-1.0, -3.0]])
    truth = Truth({"a": np.array([[True, False], [False, False]])}, np.ones((2, 2), bool))
    ious = [
        score_table({"k": prediction(logits)}, {"k": "M"}, truth, threshold)[0][2]
        for threshold in (2.0, 0.0, -2.0, -4.0)
    ]
    assert ious == [1.0, 0.5, pytest.approx(1 / 3, abs=1e-4), 0.25]


def test_an_absent_class_rightly_not_found_has_no_iou_and_is_left_out_of_the_mean() -> None:
    nothing, full = np.full((2, 2), -1.0), np.full((2, 2), 1.0)
    truth = Truth({"a": np.zeros((2, 2), bool), "b": np.ones((2, 2), bool)}, np.ones((2, 2), bool))
    rows = score_table({"k": prediction(nothing, full)}, {"k": "M"}, truth, 0.0)
    assert [row[2] for row in rows] == [None, 1.0, 1.0]


def test_a_class_that_the_truth_does_not_know_has_no_row() -> None:
    full = np.full((2, 2), 1.0)
    truth = Truth({"b": np.ones((2, 2), bool)}, np.ones((2, 2), bool))
    rows = score_table({"k": prediction(full, full)}, {"k": "M"}, truth, 0.0)
    assert [row[1] for row in rows] == ["b", MEAN]


def test_the_table_shows_names_as_typed_and_unknown_numbers_as_nothing() -> None:
    html = table_html([["M", "<img src=x>", 0.25, None, None, 12.5]])
    assert "<td>&lt;img src=x&gt;</td><td class='number'>0.2500</td>" in html
    assert "<td class='number'></td>" in html
    assert table_html([]) == ""


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", None),
        ("background, dog , cat", ("background", "dog", "cat")),
        ('["background", "dog"]', ("background", "dog")),
        ('{"0": "background", "2": "dog"}', ("background", "", "dog")),
    ],
)
def test_names(text: str, names: tuple[str, ...] | None) -> None:
    assert read_names(text) == names


@pytest.mark.parametrize("text", ["[1, ", '{"x": "dog"}', '{"99999999": "dog"}', '{"-1": "dog"}'])
def test_broken_json_is_one_sentence(text: str) -> None:
    with pytest.raises(TruthError, match="not valid JSON"):
        read_names(text)
