"""Ground truths as people have them."""

from __future__ import annotations

import numpy as np
import pytest

from clipsam.evaluation.metrics import Counts
from clipsam.evaluation.truth import TruthError, match_truth, read_names
from clipsam.geometry import SquareTransform
from clipsam.types import ConceptResult, Prediction, SamPrompts, prompt_from_classes

ONE = prompt_from_classes([("Cat", "kitten")])
TWO = prompt_from_classes([("cat",), ("dog", "puppy")])
SIZE = (2, 3)


def ids(*values: int) -> np.ndarray:
    return np.array(values).reshape(SIZE)


@pytest.mark.parametrize("value", [1, 255, 7])
def test_binary_with_one_class(value):
    truth = match_truth(ids(0, value, value, 0, 0, value), SIZE, ONE)
    assert list(truth.masks) == ["Cat"]
    np.testing.assert_array_equal(truth.masks["Cat"], ids(0, 1, 1, 0, 0, 1) == 1)
    assert truth.valid.all()


def test_binary_with_several_classes_needs_to_know_which():
    mask = ids(0, 255, 255, 0, 0, 0)
    with pytest.raises(TruthError, match=r"binary.*several classes"):
        match_truth(mask, SIZE, TWO)
    truth = match_truth(mask, SIZE, TWO, binary_class="dog")
    assert list(truth.masks) == ["dog"]
    assert truth.masks["dog"].sum() == 2


def test_numbers_in_the_order_asked():
    truth = match_truth(ids(0, 1, 2, 2, 255, 3), SIZE, TWO)
    np.testing.assert_array_equal(truth.masks["cat"], ids(0, 1, 0, 0, 0, 0) == 1)
    np.testing.assert_array_equal(truth.masks["dog"], ids(0, 0, 1, 1, 0, 0) == 1)
    np.testing.assert_array_equal(truth.valid, ids(1, 1, 1, 1, 0, 1) == 1)


def test_numbers_that_fit_no_class():
    with pytest.raises(TruthError, match=r"11, 12.*1 to 2.*class names"):
        match_truth(ids(0, 11, 12, 0, 0, 0), SIZE, TWO)


@pytest.mark.parametrize(
    ("names", "cat", "dog"),
    [
        (["background", "CAT", "dog", "sky"], [1], [2]),
        (["cat", "unlabelled", "Puppy", "sky"], [0], [2]),  # by synonym; id 1 is void
        (["sky", " cat ", "puppy", "Dog"], [1], [2, 3]),
    ],
)
def test_names(names, cat, dog):
    mask = ids(0, 1, 2, 3, 2, 255)
    truth = match_truth(mask, SIZE, TWO, names=names)
    np.testing.assert_array_equal(truth.masks["cat"], np.isin(mask, cat))
    np.testing.assert_array_equal(truth.masks["dog"], np.isin(mask, dog))
    void = [255] + [i for i, name in enumerate(names) if name == "unlabelled"]
    np.testing.assert_array_equal(truth.valid, ~np.isin(mask, void))


def test_an_id_without_a_name_is_named():
    with pytest.raises(TruthError, match="contains the id 3, but names are given for 0 to 2 only"):
        match_truth(ids(0, 1, 2, 3, 2, 255), SIZE, TWO, names=["background", "cat", "dog"])
    with pytest.raises(TruthError, match="contains the id 1, but names are given for 0, 2 only"):
        match_truth(ids(0, 1, 2, 0, 2, 255), SIZE, TWO, names=["background", "", "dog"])


def test_names_without_any_asked_class():
    with pytest.raises(TruthError, match=r"cat, dog.*sky, road"):
        match_truth(ids(0, 1, 1, 0, 0, 0), SIZE, TWO, names=["sky", "road"])


def test_sixteen_bit_void():
    truth = match_truth(ids(0, 1, 2, 65535, 2, 1), SIZE, TWO, names=["x", "cat", "dog"])
    assert truth.valid.sum() == 5


def test_wrong_size_names_both_sizes():
    with pytest.raises(TruthError, match=r"3 × 2 pixels.*40 × 30"):
        match_truth(ids(0, 1, 0, 0, 0, 0), (30, 40), ONE)


def test_score():
    nothing = SamPrompts()
    everything = ConceptResult(np.ones((8, 8), np.float32), nothing)
    prediction = Prediction(
        "m", "p", "x", TWO, SquareTransform(SIZE, 32), (everything, everything), {}, 1.0
    )
    truth = match_truth(ids(1, 1, 0, 255, 0, 0), SIZE, TWO, names=["sky", "cat"])
    assert truth.score(prediction, 0) == Counts(intersection=2, predicted=5, truth=2)
    assert truth.score(prediction, 0, threshold=2.0) == Counts(0, 0, 2)
    assert truth.score(prediction, 1) is None


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", None),
        ("background, dog , cat", ("background", "dog", "cat")),
        ('["background", "dog"]', ("background", "dog")),
        ('{"0": "background", "2": "dog"}', ("background", "", "dog")),
    ],
)
def test_typed_names(text: str, names: tuple[str, ...] | None) -> None:
    assert read_names(text) == names


BROKEN = ("[1, ", '{"x": "dog"}', '{"99999999": "dog"}', '{"-1": "dog"}', "[1]")


@pytest.mark.parametrize("text", [*BROKEN, pytest.param("[" * 10**5, id="deep")])
def test_typed_names_that_are_broken_json(text: str) -> None:
    with pytest.raises(TruthError, match="not valid JSON"):
        read_names(text)
