"""Who gets a pixel that several classes claim; and candidates in place of answers."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from clipsam.errors import PromptError
from clipsam.geometry import SquareTransform
from clipsam.types import (
    OVERLAPS,
    ConceptResult,
    Overlap,
    Prediction,
    SamPrompts,
    prompt_from_classes,
)
from clipsam.workbench.compare.views.overlays import candidate_figures

EXCLUSIVE = OVERLAPS[1:]


def prediction(logits: np.ndarray, presence: list[float]) -> Prediction:
    """Classes c0, c1, … of logits (C, s, s) in an image as large."""
    return Prediction(
        method="m",
        preset="tiny",
        mode="x",
        prompt=prompt_from_classes([[f"c{index}"] for index in range(len(logits))]),
        transform=SquareTransform(logits.shape[1:], logits.shape[1]),
        results=tuple(
            ConceptResult(one.astype(np.float32), SamPrompts(), likely)
            for one, likely in zip(logits, presence, strict=True)
        ),
        seconds={},
        peak_memory_mb=0.0,
    )


def random_prediction(seed: int) -> Prediction:
    rng = np.random.default_rng(seed)
    presence = rng.random(5)
    presence[rng.integers(5)] = np.nan
    return prediction(rng.normal(size=(5, 16, 16)), presence.tolist())


def test_each_rule_by_hand() -> None:
    # Pixels: all claim it; two claim it; one claims it; nobody does.
    logits = np.array([[[3, -1], [-1, -2]], [[1, 1], [-1, -2]], [[2, 2], [0.5, 0]]])
    answer = prediction(logits, [0.2, 0.9, float("nan")])
    assert answer.masks().tolist() == (logits > 0).tolist()
    owners = {rule: answer.masks(0.0, None, rule).argmax(0).tolist() for rule in EXCLUSIVE}
    assert owners["argmax"] == [[0, 2], [2, 0]]
    assert owners["highest-presence"] == [[1, 1], [2, 0]]
    assert not any(answer.masks(0.0, None, rule)[:, 1, 1].any() for rule in OVERLAPS)


def test_equally_present_classes_are_settled_by_the_logit() -> None:
    logits = np.array([[[1.0]], [[2.0]], [[1.5]]])
    for presence in ([0.5] * 3, [float("nan")] * 3):
        masks = prediction(logits, presence).masks(0.0, None, "highest-presence")
        assert masks.ravel().tolist() == [False, True, False]


@pytest.mark.parametrize("threshold", [-1.5, 0.0, 1.0, np.inf])
@pytest.mark.parametrize("rule", EXCLUSIVE)
@pytest.mark.parametrize("seed", range(3))
def test_masks_are_disjoint_and_leave_nothing_unclaimed(
    seed: int, rule: Overlap, threshold: float
) -> None:
    answer = random_prediction(seed)
    alone = answer.masks(threshold, (24, 20))
    masks = answer.masks(threshold, (24, 20), rule)
    assert masks.shape == (5, 24, 20)
    assert masks.sum(axis=0).max() <= 1
    assert not (masks & ~alone).any()
    assert np.array_equal(masks.any(axis=0), alone.any(axis=0))


@pytest.mark.parametrize("rule", OVERLAPS)
@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_classes_does_not_matter(seed: int, rule: Overlap) -> None:
    answer = random_prediction(seed)
    order = np.random.default_rng(seed).permutation(5)
    concepts = tuple(answer.prompt.concepts[place] for place in order)
    turned = replace(
        answer,
        prompt=replace(answer.prompt, concepts=concepts),
        results=tuple(answer.results[place] for place in order),
    )
    masks = answer.masks(-0.5, None, rule)[order]
    assert np.array_equal(turned.masks(-0.5, None, rule), masks)


@pytest.mark.parametrize("rule", OVERLAPS)
def test_one_by_one_and_some_are_the_same_as_all(rule: Overlap) -> None:
    answer = random_prediction(7)
    masks = answer.masks(0.2, None, rule)
    assert np.array_equal(np.stack(list(answer.each_mask(0.2, None, rule))), masks)
    assert np.array_equal(np.stack(list(answer.each_mask(0.2, None, rule, (3, 1)))), masks[[3, 1]])
    assert np.array_equal(answer.class_mask(2, 0.2, None, rule), masks[2])


def with_candidates() -> Prediction:
    """Class c1 has three candidates: one, two and three upper rows of four."""
    answer = prediction(np.full((2, 4, 4), -1.0), [0.5, 0.5])
    rows = np.arange(4)[:, None] < np.array([1, 2, 3])[:, None, None]
    candidates = np.where(rows, 1, -1).repeat(4, axis=2).astype(np.float32)
    scores = np.array([0.9, 0.25, 0.625], np.float32)
    second = replace(answer.results[1], candidates=candidates, candidate_scores=scores)
    return replace(answer, results=(answer.results[0], second))


@pytest.mark.parametrize("candidate", range(3))
def test_a_candidate_takes_the_place_of_one_class_s_answer(candidate: int) -> None:
    before = with_candidates()
    after = before.with_candidate(1, candidate)
    assert after.masks().sum((1, 2)).tolist() == [0, 4 * (candidate + 1)]
    assert after.results[0] is before.results[0]
    assert (before.results[1].candidate, after.results[1].candidate) == (None, candidate)
    assert not before.masks().any()
    # The others are still there to be chosen.
    assert after.with_candidate(1, 0).class_mask(1).sum() == 4


@pytest.mark.parametrize(
    ("index", "candidate", "says"),
    [(0, 0, "no candidate 1 for “c0”; SAM returned none"), (1, 3, "no candidate 4 .* returned 3")],
)
def test_candidates_that_are_not_there(index: int, candidate: int, says: str) -> None:
    with pytest.raises(PromptError, match=says):
        with_candidates().with_candidate(index, candidate)


def test_candidates_are_shown_with_their_predicted_iou() -> None:
    html = candidate_figures(with_candidates().with_candidate(1, 1), 1, 0.0)
    assert html.count("<figure>") == 3
    texts = re.findall(r"<figcaption>(.*?)</figcaption>", html)
    assert texts == [
        "Candidate 1: predicted IoU 0.900",
        "Candidate 2: predicted IoU 0.250, selected",
        "Candidate 3: predicted IoU 0.625",
    ]
    assert candidate_figures(with_candidates(), 0, 0.0) == ""
