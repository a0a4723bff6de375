"""Metrics on cases small enough to count by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import disk
from sklearn.metrics import roc_auc_score

from clipsam.evaluation.metrics import (
    ClassScore,
    Counts,
    boundary_f,
    class_wise_miou,
    count,
    dice,
    iou,
    mean_absolute_error,
    mean_dice,
    mean_image_iou,
    pooled_iou,
    roc_auc,
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


def square(top: int, left: int, side: int = 10, size: int = 40) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_boundary_f_counted_by_hand():
    truth = square(10, 10)  # its outline has 36 pixels
    assert boundary_f(truth, truth) == 1
    # One pixel to the right, with one pixel of tolerance, all outlines are near.
    assert boundary_f(square(10, 11), truth) == 1
    # Three to the right: the rows at top and bottom overlap in 7 columns, and one more column is a
    # pixel away. So 8 + 8 of 36 are near; the side columns are 3 pixels away, but for their ends.
    assert boundary_f(square(10, 13), truth) == pytest.approx(16 / 36 + 2 / 36)
    assert boundary_f(square(28, 28), truth) == 0


def test_boundary_f_of_empty_masks():
    truth, nothing = square(10, 10), np.zeros((40, 40), bool)
    assert boundary_f(nothing, nothing) == 1
    assert boundary_f(nothing, truth) == boundary_f(truth, nothing) == 0
    assert boundary_f(~nothing, nothing) == 1  # the image's edge is no outline
    assert boundary_f(truth, nothing, valid=~truth) == 1


@pytest.mark.parametrize(("seed", "size"), [(0, (90, 120)), (1, (300, 401)), (2, (640, 480))])
def test_boundary_f_like_dilation_with_a_disc(seed, size):
    rng = np.random.default_rng(seed)
    noise = [ndimage.gaussian_filter(rng.normal(size=size), 6) for _ in range(2)]
    mask, truth = noise[0] > 0, noise[0] + noise[1] > 0
    radius = max(1, round(0.0075 * math.hypot(*size)))

    def rim(inside):
        return inside & ~ndimage.binary_erosion(inside, border_value=1)

    def near(inside):
        return ndimage.binary_dilation(rim(inside), disk(radius))

    precision, recall = near(truth)[rim(mask)].mean(), near(mask)[rim(truth)].mean()
    expected = 2 * precision * recall / (precision + recall)
    assert boundary_f(mask, truth) == pytest.approx(expected)


def test_roc_auc():
    scores, positive = np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True])
    assert roc_auc(scores, positive) == (1 + 0.5 + 1 + 1) / 4
    assert math.isnan(roc_auc(scores, np.ones(4, bool)))
    rng = np.random.default_rng(0)
    scores, positive = rng.integers(0, 20, 200) / 20, rng.random(200) < 0.3
    assert roc_auc(scores, positive) == pytest.approx(roc_auc_score(positive, scores))


def test_mean_dice():
    scores = [ClassScore("cat", Counts(2, 3, 4)), ClassScore("dog", Counts(0, 1, 1))]
    assert mean_dice(scores) == (4 / 7 + 0) / 2
    assert mean_dice([*scores, ClassScore("cat", Counts())]) == (4 / 7 + 0 + 1) / 3
    assert math.isnan(mean_dice([]))
