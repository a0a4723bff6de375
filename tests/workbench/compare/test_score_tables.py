"""The table of scores, against numbers worked out by hand."""

from __future__ import annotations

import re

import numpy as np
import pytest

from clipsam.evaluation.map_scores import score_maps
from clipsam.evaluation.saliency import saliency_score
from clipsam.evaluation.truth import Truth
from clipsam.geometry import SquareTransform
from clipsam.types import ConceptResult, Prediction, SamPrompts, prompt_from_classes
from clipsam.workbench.compare.score_tables import (
    MEAN,
    bar_charts,
    headers,
    method_headers,
    method_table,
    method_table_html,
    score_table,
    table_html,
)


def prediction(*logits: np.ndarray) -> Prediction:
    """Of classes a, b, … with given logits, in an image as large as the network's input."""
    used = SamPrompts()
    side = logits[0].shape[0]
    names = [[chr(ord("a") + index)] for index in range(len(logits))]
    return Prediction(
        method="m",
        preset="tiny",
        mode="x",
        prompt=prompt_from_classes(names),
        transform=SquareTransform((side, side), side),
        results=tuple(ConceptResult(one.astype(np.float32), used, 0.5) for one in logits),
        seconds={"a": 0.5, "b": 0.25},
        peak_memory_mb=12.0,
    )


def test_rows_are_iou_dice_presence_area_and_the_mean() -> None:
    left, top = np.full((4, 4), -1.0), np.full((4, 4), -1.0)
    left[:, :2] = 1
    top[:1] = 1
    half = np.zeros((4, 4), bool)
    half[:2] = True
    truth = Truth({"a": half, "b": half}, np.ones((4, 4), bool))
    rows = score_table({"k": prediction(left, top)}, {"k": "M"}, truth, 0.0)
    assert len(headers()) == 6
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


def test_overlapping_classes_may_be_told_apart_first() -> None:
    weaker, stronger = np.full((2, 2), 1.0), np.full((2, 2), -1.0)
    stronger[0] = 2
    lower = np.array([[False, False], [True, True]])
    truth = Truth({"a": lower, "b": ~lower}, np.ones((2, 2), bool))
    found = {"k": prediction(weaker, stronger)}
    ious = [
        [row[2] for row in score_table(found, {"k": "M"}, truth, 0.0, rule)]
        for rule in ("independent", "argmax")
    ]
    assert ious == [[0.5, 1.0, 0.75], [1.0, 1.0, 1.0]]


def row_of(rows: list[list]) -> dict[str, object]:
    (row,) = rows
    return dict(zip(method_headers(), row, strict=True))


def test_costs_are_known_without_a_truth() -> None:
    found = {"k": prediction(np.zeros((2, 2)))}
    row = row_of(method_table(found, {"k": "M"}, {"k": {"total": 3_000_000, "trainable": 5}}))
    assert row == {
        **dict.fromkeys(method_headers()),
        "Method": "M",
        "Seconds": 0.75,
        "Peak MB": 12.0,
        "Parameters": 3_000_000,
        "Trained": 5,
    }
    assert row_of(method_table(found, {"k": "M"}, {}))["Parameters"] is None


def test_scores_are_means_over_the_classes_that_the_truth_knows() -> None:
    left, unknown, top = np.full((3, 4, 4), -1.0)
    left[:, :2] = top[:1] = 1
    half = np.zeros((4, 4), bool)
    half[:2] = True
    truth = Truth({"a": half, "c": half}, np.ones((4, 4), bool))
    found = prediction(left, unknown, top)
    maps = {"k": score_maps(found, truth)}
    row = row_of(method_table({"k": found}, {"k": "M"}, {}, truth, 0.0, maps))
    assert row["IoU"] == pytest.approx((4 / 12 + 4 / 8) / 2, abs=1e-4)
    assert row["Dice"] == pytest.approx((8 / 16 + 8 / 12) / 2, abs=1e-4)
    # |sigmoid(±1) − truth| is 0.2689 where right and 0.7311 where wrong: in 8, then 4 of 16 pixels.
    assert row["MAE"] == pytest.approx((0.5 + 0.75 * 0.268941 + 0.25 * 0.731059) / 2, abs=1e-4)
    assert row["S-measure"] is None


def test_one_class_alone_gets_the_camouflage_papers_figures() -> None:
    logits = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
    wanted = np.zeros((16, 16), bool)
    wanted[4:12, 4:12] = True
    all_scored = np.ones((16, 16), bool)
    truth = Truth({"a": wanted}, all_scored)
    maps = {"k": score_maps(prediction(logits), truth)}
    row = row_of(method_table({"k": prediction(logits)}, {"k": "M"}, {}, truth, 0.0, maps))
    expected = saliency_score(logits, wanted)
    assert row["S-measure"] == round(expected.s_measure, 4)
    assert row["E-measure"] == round(expected.e_measure, 4)
    assert row["Weighted F"] == round(expected.weighted_f, 4)
    part = all_scored.copy()
    part[0] = False
    for other in (Truth({"a": wanted}, part), Truth({"a": np.zeros_like(wanted)}, all_scored)):
        assert "s_measure" not in score_maps(prediction(logits), other)["a"]


def test_the_methods_table_leaves_out_what_nobody_has_and_shows_names_as_typed() -> None:
    found = {"k": prediction(np.zeros((2, 2))), "l": prediction(np.zeros((2, 2)))}
    rows = method_table(found, {"k": "<img src=x>", "l": "L"}, {"l": {"total": 12_340_000}})
    html = method_table_html(rows)
    assert "<img" not in html and html.count("&lt;img src=x&gt;") == 1
    assert "IoU" not in html and "Trained" not in html
    assert "<td class='number'>12.34 M</td>" in html
    assert "<td class='number'></td>" in html
    assert html.count("<td class='number'>0.75</td>") == 2
    assert method_table_html([]) == bar_charts([]) == ""


def test_bars_are_as_long_as_their_numbers() -> None:
    rows = [
        ["<A>", 0.25, *[None] * 5, 1.0, 100.0, None, None],
        ["B", None, *[None] * 5, 4.0, 300.0, None, None],
    ]
    html = bar_charts(rows)
    charts = html.split("<table")[1:]
    lengths = [re.findall(r"width:([0-9.]+)%'></div>", chart) for chart in charts]
    assert lengths == [["25.0"], ["25.0", "100.0"], ["33.3", "100.0"]]
    assert "<A>" not in html
    assert "0.2500" in charts[0] and "4.00" in charts[1] and "300" in charts[2]
