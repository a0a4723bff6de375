"""Metrics on cases small enough to count by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from clipsam.evaluation.metrics import (
    ClassScore,
    Counts,
    class_wise_miou,
    count,
    dice,
    iou,
    mean_absolute_error,
    mean_image_iou,
    pooled_iou,
)

TRUTH = np.array([[1, 1, 1, 0], [1, 0, 0, 0]], bool)
MASK = np.array([[1, 1, 0, 1], [0, 0, 0, 0]], bool)
EMPTY = np.zeros((2, 4), bool)


def test_counts():
    counts = count(MASK, TRUTH)
    assert counts == Counts(intersection=2, predicted=3, truth=4)
    assert counts.union == 5
    assert iou(counts) == 2 / 5
    assert dice(counts) == 4 / 7
    assert counts + Counts(1, 1, 1) == Counts(3, 4, 5)


def test_void_is_not_scored():
    valid = np.ones((2, 4), bool)
    valid[0, 3] = valid[1, 0] = False  # the false alarm and one miss
    assert count(MASK, TRUTH, valid) == Counts(2, 2, 3)
    logits = np.where(MASK, 100.0, -100.0).astype(np.float32)
    assert mean_absolute_error(logits, TRUTH) == pytest.approx(3 / 8)
    assert mean_absolute_error(logits, TRUTH, valid) == pytest.approx(1 / 6)


def test_empty_masks():
    assert iou(count(EMPTY, TRUTH)) == 0
    assert iou(count(MASK, EMPTY)) == 0
    assert math.isnan(iou(count(EMPTY, EMPTY)))
    assert math.isnan(dice(count(EMPTY, EMPTY)))
    assert mean_absolute_error(np.zeros((2, 4), np.float32), EMPTY) == 0.5


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"\(2, 4\)"):
        count(MASK, TRUTH.T)


def test_reductions_differ_as_named():
    scores = [
        ClassScore("cat", Counts(10, 10, 10)),  # IoU 1
        ClassScore("cat", Counts(0, 10, 20)),  # IoU 0; pooled 10 / 40
        ClassScore("dog", Counts(3, 3, 6)),  # IoU 1/2
        ClassScore("absent", Counts()),
    ]
    assert pooled_iou(scores) == {"cat": 0.25, "dog": 0.5}
    assert class_wise_miou(scores) == 0.375
    assert mean_image_iou(scores) == (1 + 0 + 0.5 + 1) / 4
    assert math.isnan(class_wise_miou([]))
    assert math.isnan(mean_image_iou([]))
    assert math.isnan(class_wise_miou(scores[-1:]))
