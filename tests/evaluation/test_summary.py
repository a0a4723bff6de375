"""Figures of a few samples, counted by hand."""

from __future__ import annotations

import csv
import io
import math

import pytest

from clipsam.evaluation.metrics import Counts, SampleScore, dice, iou
from clipsam.evaluation.rows import Row
from clipsam.evaluation.summary import (
    absent_figures,
    present_figures,
    results_csv,
    samples_csv,
    summarize,
)


def score(image, name, counts, presence=math.nan, present=True, **fields) -> SampleScore:
    seconds, counts = fields.pop("seconds", 1.0), Counts(*counts)
    values = {"mae": 0.1, "boundary_f": 0.5, "iou": iou(counts), "dice": dice(counts), **fields}
    return SampleScore(name, counts, image, values, seconds, present, presence)


PRESENT = [
    score("1", "cat", (10, 10, 10), 0.9, mae=0.0, boundary_f=1.0, seconds=2.0),
    score("1", "dog", (5, 5, 10), 0.4, mae=0.2, boundary_f=0.6),
    score("2", "cat", (0, 10, 20), 0.6, mae=0.7, boundary_f=0.2),
]
ABSENT = [
    score("2", "dog", (0, 10, 0), 0.5, False),
    score("1", "cow", (0, 99, 0), 0.8, False),
    score("2", "cow", (0, 0, 0), 0.1, False),
]


def test_with_the_oracle():
    figures = present_figures([*PRESENT, *ABSENT])
    assert figures == pytest.approx(
        {
            "miou": (10 / 40 + 5 / 10) / 2,
            "mean_iou": (1 + 0.5 + 0) / 3,
            "dice": (1 + 10 / 15 + 0) / 3,
            "mae": 0.3,
            "boundary_f": 0.6,
            "images": 2,
            "seconds_per_image": 4 / 2,
        }
    )


def test_with_absent_classes():
    assert absent_figures(PRESENT) is None
    figures = absent_figures([*PRESENT, *ABSENT])
    # cow occurs nowhere and has no IoU; the dog that is not there adds 10 to the dogs' union
    assert figures["miou"] == pytest.approx((10 / 40 + 5 / 20) / 2)
    # presence empties the true dog (0.4), not the false one (0.5)
    assert figures["miou_by_presence"] == pytest.approx((10 / 40 + 0 / 20) / 2)
    # 0.9 beats 0.5, 0.8, 0.1; 0.4 beats 0.1; 0.6 beats 0.5 and 0.1
    assert figures["presence_auc"] == pytest.approx(6 / 9)
    assert figures["false_alarms"] == pytest.approx(2 / 3)
    assert figures["asked"] == 3


def test_a_method_that_cannot_tell_presence():
    figures = absent_figures([*PRESENT, score("3", "cat", (0, 5, 0), present=False)])
    assert figures["miou"] == pytest.approx((10 / 45 + 5 / 10) / 2)
    assert math.isnan(figures["presence_auc"]) and math.isnan(figures["miou_by_presence"])


def test_single_objects_average_over_images():
    names = ("s_measure", "e_measure", "weighted_f", "saliency_mae")
    values = [(0.1, 0.2, 0.3, 0.4), (0.3, 0.4, 0.5, 0.8)]
    figures = present_figures(
        [
            score(str(i), "cat", (1, 1, 1), **dict(zip(names, own, strict=True)))
            for i, own in enumerate(values)
        ]
    )
    assert [figures[name] for name in names] == pytest.approx([0.2, 0.3, 0.4, 0.6])
    assert figures["mae"] == pytest.approx(0.1)


def rows() -> list[Row]:
    other = [score("1", "cat", (5, 10, 10)), score("1", "dog", (0, 5, 10))]
    return [
        *(Row("surgery", "vanilla", 1, s) for s in other),
        *(Row("surgery", "vanilla", 0, s) for s in [*PRESENT, *ABSENT]),
        *(Row("sam", "manual", 0, s) for s in PRESENT),
    ]


def test_methods_and_seeds():
    surgery, sam = summarize(rows(), "tiny")
    assert (surgery["method"], surgery["mode"], surgery["preset"]) == ("surgery", "vanilla", "tiny")
    zero, one = surgery["seeds"]
    assert (zero["seed"], one["seed"]) == (0, 1)
    assert zero["classes"] == {"cat": 0.25, "dog": 0.5}
    assert one["present"]["miou"] == pytest.approx((5 / 15 + 0) / 2)
    assert surgery["mean"]["miou"] == pytest.approx((0.375 + 1 / 6) / 2)
    assert surgery["std"]["miou"] == pytest.approx((0.375 - 1 / 6) / 2)
    assert one["with_absent"] is None and zero["with_absent"]["asked"] == 3
    assert sam["std"]["miou"] == 0


def test_tables():
    text = results_csv(summarize(rows(), "tiny"))
    assert text.splitlines()[0] == (
        "method,preset,mode,seed,miou,mean_iou,dice,mae,boundary_f,images,seconds_per_image"
    )
    listed = list(csv.DictReader(io.StringIO(text)))
    assert [(line["method"], line["seed"]) for line in listed] == [
        ("surgery", "0"),
        ("surgery", "1"),
        ("sam", "0"),
    ]
    assert float(listed[0]["miou"]) == pytest.approx(0.375) and listed[0]["images"] == "2"
    samples = list(csv.DictReader(io.StringIO(samples_csv(rows()))))
    assert len(samples) == len(rows())
    assert samples[3]["iou"] == "0.500000" and samples[3]["presence"] == "0.400000"
    assert samples[0]["presence"] == ""
    assert "s_measure" not in samples[0]
