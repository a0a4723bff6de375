"""Where methods differ, against votes counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from clipsam.geometry import SquareTransform
from clipsam.types import ConceptResult, Prediction, SamPrompts, prompt_from_classes
from clipsam.workbench.compare.views.agreement import (
    agreement,
    class_masks,
    pairwise_iou,
    pairwise_table,
    vote_colours,
)


def prediction(logits: np.ndarray, image_size: tuple[int, int]) -> Prediction:
    return Prediction(
        method="m",
        preset="tiny",
        mode="x",
        prompt=prompt_from_classes([["a"]]),
        transform=SquareTransform(image_size, logits.shape[0], "squash"),
        results=(ConceptResult(logits.astype(np.float32), SamPrompts()),),
        seconds={},
        peak_memory_mb=0.0,
    )


def rows(*counts: int) -> np.ndarray:
    """Masks (N, 4, 4) of so many upper rows."""
    return np.stack([np.repeat(np.arange(4)[:, None] < count, 4, axis=1) for count in counts])


def test_votes_are_counted_and_the_legend_begins_with_all() -> None:
    painting = agreement(rows(1, 2, 2))
    names = [part.name for part in painting.parts]
    assert names == ["all 3 methods", "2 of 3 methods", "1 of 3 methods", "no method"]
    assert [part.share for part in painting.parts] == [0.25, 0.25, 0, 0.5]
    assert painting.places[:, 0].tolist() == [0, 1, 3, 3]
    assert painting.parts[-1].colour is None


@pytest.mark.parametrize("count", [1, 2, 7, 25])
def test_colours_of_votes_differ_and_grow_lighter(count: int) -> None:
    colours = vote_colours(count)
    assert len(set(colours)) == count
    light = [np.dot(list(bytes.fromhex(one[1:])), (0.2126, 0.7152, 0.0722)) for one in colours]
    assert (np.diff(light) > 0).all()


def test_methods_of_different_resolutions_meet_at_the_picture_s_size() -> None:
    coarse, fine = np.full((2, 2), -1.0), np.full((8, 8), -1.0)
    coarse[0], fine[:4] = 1, 1
    masks = class_masks([prediction(one, (40, 60)) for one in (coarse, fine)], 0, (20, 30))
    assert masks.shape == (2, 20, 30)
    expected = np.repeat(np.arange(20)[:, None] < 10, 30, axis=1)
    assert np.array_equal(masks[0], expected)
    assert np.array_equal(masks[1], expected)


def test_pairwise_iou_of_rows() -> None:
    # 1, 2 and 4 of 4 rows, and two empty masks.
    expected = [
        [1, 1 / 2, 1 / 4, 0, 0],
        [1 / 2, 1, 2 / 4, 0, 0],
        [1 / 4, 2 / 4, 1, 0, 0],
        [0, 0, 0, np.nan, np.nan],
        [0, 0, 0, np.nan, np.nan],
    ]
    np.testing.assert_allclose(pairwise_iou(rows(1, 2, 4, 0, 0)), expected)


def test_pairwise_iou_of_any_masks() -> None:
    masks = np.random.default_rng(0).random((4, 37, 53)) > 0.5
    ious = pairwise_iou(masks)
    assert np.array_equal(ious, ious.T)
    assert (ious.diagonal() == 1).all()
    for i in range(4):
        for j in range(4):
            both, either = (masks[i] & masks[j]).sum(), (masks[i] | masks[j]).sum()
            assert ious[i, j] == both / either


def test_the_table_shows_titles_as_typed_and_a_dash_for_no_number() -> None:
    html = pairwise_table(np.array([[1, 0.25], [0.25, np.nan]]), ["<x>", "y"])
    assert html.count("<th scope='row'>") == html.count("<th scope='col'>") == 2
    assert html.count("&lt;x&gt;") == 2
    assert html.count(">0.250<") == 2
    assert html.count(">–<") == 1
