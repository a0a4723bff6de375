"""Figures of maps and words, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from clipsam.training.map_figures import roc_auc
from clipsam.training.synonyms import SYNONYMS


def test_auc_is_the_share_of_pairs_in_the_right_order():
    rng = np.random.default_rng(0)
    scores, truth = rng.integers(0, 6, 60) / 5, rng.random(60) < 0.4
    pairs = [
        1.0 if high > low else 0.5 if high == low else 0.0
        for high in scores[truth]
        for low in scores[~truth]
    ]
    assert roc_auc(scores, truth) == pytest.approx(np.mean(pairs))
    assert roc_auc(np.array([0.1, 0.9]), np.array([False, True])) == 1
    assert roc_auc(np.array([0.1, 0.9]), np.array([True, True])) is None


def test_fifty_synonyms_none_of_which_is_a_name():
    assert len(SYNONYMS) == 50
    assert not set(SYNONYMS) & set(SYNONYMS.values())
