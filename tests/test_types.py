"""Prompts and predictions check themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clipsam.errors import PromptError
from clipsam.geometry import SquareTransform
from clipsam.types import (
    Concept,
    ConceptResult,
    Prediction,
    Prompt,
    SamPrompts,
    parse_classes,
    prompt_from_classes,
)


@pytest.mark.parametrize(
    ("typed", "classes"),
    [
        ("dog; puppy, grass", (("dog", "puppy"), ("grass",))),
        ("  traffic   light ,,\n sky\n", (("traffic light",), ("sky",))),
        ("café; , ;;", (("café",),)),
        (" ,; ", ()),
        ("犬；子犬，猫、草", (("犬", "子犬"), ("猫",), ("草",))),
    ],
)
def test_parse_classes(typed, classes):
    assert parse_classes(typed) == classes


def test_concept_keeps_canonical_arrays():
    concept = Concept(("  wild   cat", "lynx"), points=[[1, 2]], labels=[0], box=[0, 0, 3, 4])
    assert concept.synonyms == ("wild cat", "lynx")
    assert concept.text == "wild cat"
    assert (concept.points.dtype, concept.labels.dtype) == (np.float32, np.int64)
    assert concept.box.dtype == np.float32


@pytest.mark.parametrize(
    ("given", "pointed"),
    [
        ({}, False),
        (dict(points=[[1, 1]], labels=[0]), False),
        (dict(points=[[1, 1], [2, 2]], labels=[0, 1]), True),
        (dict(box=[0, 0, 1, 1]), True),
    ],
)
def test_is_pointed_at(given, pointed):
    assert Concept(("cat",), **given).has_user_prompt is pointed


@pytest.mark.parametrize(
    ("synonyms", "given", "message"),
    [
        ((), {}, "needs a name"),
        (("cat", "  "), {}, "needs a name"),
        (("cat",), dict(points=[1, 2], labels=[1]), r"cat: points must be \(K, 2\)"),
        (("cat",), dict(points=[[1, 2]], labels=[1, 1]), "cat: 1 points need 1 labels"),
        (("cat",), dict(points=[[1, 2]], labels=[2]), "1 .foreground. or 0 .background."),
        (("cat",), dict(box=[5, 0, 1, 9]), "x0 < x1"),
        (("cat",), dict(box=[0, 0, 9]), "x0 < x1"),
        (("cat",), dict(box=[0, 0, np.nan, 9]), "x0 < x1"),
    ],
)
def test_bad_concepts(synonyms, given, message):
    with pytest.raises(PromptError, match=message):
        Concept(synonyms, **given)


def test_bad_prompts():
    with pytest.raises(PromptError, match="at least one class"):
        Prompt(())
    with pytest.raises(PromptError, match="given twice"):
        prompt_from_classes([("Cat",), ("dog",), ("cat",)])


@pytest.mark.parametrize(
    ("given", "inside"),
    [
        (dict(points=[[0, 0], [20, 10]], labels=[1, 1]), True),
        (dict(box=[0, 0, 20, 10]), True),
        (dict(points=[[20.5, 5]], labels=[1]), False),
        (dict(points=[[5, 11]], labels=[1]), False),
        (dict(points=[[np.nan, 1]], labels=[1]), False),
        (dict(box=[-1, 0, 5, 5]), False),
        (dict(box=[0, 0, 5, np.inf]), False),
    ],
)
def test_check_inside(given, inside):
    prompt = Prompt((Concept(("dog",)), Concept(("cat",), **given)))
    if inside:
        prompt.check_inside((10, 20))
    else:
        with pytest.raises(PromptError, match=r"cat: .* 20 × 10 pixels"):
            prompt.check_inside((10, 20))


def prediction(*logits: np.ndarray) -> Prediction:
    nothing = SamPrompts()
    return Prediction(
        method="m",
        preset="p",
        mode="x",
        prompt=prompt_from_classes([("left",), ("right",)]),
        transform=SquareTransform((20, 40), 64),
        results=tuple(ConceptResult(values, nothing) for values in logits),
        seconds={"a": 1.5, "b": 0.25},
        peak_memory_mb=1.0,
    )


def test_prediction_brings_logits_to_any_size():
    ramp = np.broadcast_to(np.arange(16, dtype=np.float32) - 7.5, (16, 16)).copy()
    answer = prediction(ramp, -ramp)
    assert answer.texts == ("left", "right")
    assert np.isnan(answer.presence).all()
    assert answer.total_seconds == 1.75
    assert answer.logits().shape == (2, 20, 40)
    assert answer.logits((5, 10)).shape == (2, 5, 10)
    # The ramp crosses zero in the middle of the square, here the middle column of the image.
    masks = answer.masks()
    assert not masks[0, :, :20].any()
    assert masks[0, :, 20:].all()
    np.testing.assert_array_equal(masks[1], ~masks[0])
    np.testing.assert_array_equal(answer.class_mask(1, threshold=2.0), answer.masks(2.0)[1])
    assert answer.candidate_masks(0).shape == (0, 20, 40)


def test_label_map_is_the_best_class_and_the_first_of_equals():
    left = np.array([[1, -2, 0], [3, 3, -5], [-1, -1, -1]], np.float32)
    right = np.array([[0.5, -1, -3], [3, 4, -5], [-2, 0, -0.5]], np.float32)
    answer = replace(prediction(left, right), transform=SquareTransform((3, 3), 3, "squash"))
    best = answer.label_map()
    assert best.dtype == np.int64
    assert best.tolist() == [[0, 1, 0], [0, 1, 0], [0, 1, 1]]
    # Above the threshold, not at it: a best logit of 0 is background.
    assert answer.label_map(0.0).tolist() == [[0, -1, -1], [0, 1, -1], [-1, -1, -1]]
    assert answer.label_map(-0.5).tolist() == [[0, -1, 0], [0, 1, -1], [-1, 1, -1]]
    assert answer.label_map(-np.inf).tolist() == best.tolist()
    logits = answer.logits((6, 9))
    np.testing.assert_array_equal(answer.label_map(size=(6, 9)), logits.argmax(0))


@pytest.mark.parametrize(
    "logits",
    [
        (np.zeros((4, 4), np.float32),),
        (np.zeros((4, 4), np.float64),) * 2,
        (np.zeros((1, 4, 4), np.float32),) * 2,
    ],
    ids=["one of two classes", "float64", "three axes"],
)
def test_malformed_predictions_are_refused(logits):
    with pytest.raises(ValueError, match="m: "):
        prediction(*logits)
