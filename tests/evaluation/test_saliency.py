"""What the wrapper adds to pysodmetrics; the figures themselves are checked in tests/golden."""

from __future__ import annotations

import numpy as np
import pytest

from clipsam.evaluation.saliency import saliency_metrics

TRUTH = np.zeros((20, 30), bool)
TRUTH[5:15, 8:20] = True
SCORES = (np.random.default_rng(0).integers(0, 51, TRUTH.shape) + 40 * TRUTH).astype(np.uint8)


def test_only_the_shape_of_a_map_counts():
    low, high = SCORES.min(), SCORES.max()
    bold = (SCORES - low) * 2  # another offset and slope, exact in uint8
    assert high <= 127 + low
    assert saliency_metrics([(SCORES, TRUTH)]) == pytest.approx(saliency_metrics([(bold, TRUTH)]))


def test_means_over_images():
    pairs = [(SCORES, TRUTH), (255 - SCORES, TRUTH)]
    together, (first, second) = saliency_metrics(pairs), (saliency_metrics([p]) for p in pairs)
    for name in together:
        if not name.endswith("max"):  # taken of the mean curve
            assert together[name] == pytest.approx((first[name] + second[name]) / 2), name


@pytest.mark.parametrize(
    "pair",
    [
        (SCORES / 255, TRUTH),
        (SCORES, TRUTH.astype(np.uint8)),
        (SCORES.T, TRUTH),
    ],
    ids=["float map", "uint8 truth", "two shapes"],
)
def test_wrong_pairs_are_refused(pair):
    with pytest.raises(ValueError, match="uint8 map and a bool truth"):
        saliency_metrics([pair])


def test_nothing_to_score():
    with pytest.raises(ValueError, match="no maps to score"):
        saliency_metrics([])
