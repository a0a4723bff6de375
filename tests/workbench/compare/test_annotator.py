"""What a browser sends is checked before it becomes a prompt."""

from __future__ import annotations

import numpy as np
import pytest

from clipsam.errors import PromptError
from clipsam.workbench.compare.annotator import active_class, nothing_marked, read_prompt


def value(*marks: object) -> dict:
    return {"active": "dog", "marks": list(marks)}


def test_points_and_boxes_go_to_their_class() -> None:
    prompt = read_prompt(
        "dog; puppy, cat",
        value(
            {"class": "dog", "x": 1, "y": 2.5, "label": 1},
            {"class": "cat", "x": 3, "y": 4, "label": 0},
            {"class": "cat", "box": [0, 1, 5, 6]},
        ),
    )
    dog, cat = prompt.concepts
    assert dog.synonyms == ("dog", "puppy")
    assert np.array_equal(dog.points, [[1, 2.5]])
    assert np.array_equal(dog.labels, [1])
    assert dog.box is None
    assert np.array_equal(cat.labels, [0])
    assert np.array_equal(cat.box, [0, 1, 5, 6])


def test_the_last_box_counts() -> None:
    marks = value({"class": "dog", "box": [0, 0, 1, 1]}, {"class": "dog", "box": [2, 2, 4, 4]})
    assert np.array_equal(read_prompt("dog", marks).concepts[0].box, [2, 2, 4, 4])


def test_a_mark_belongs_to_a_class_by_any_of_its_names() -> None:
    """As when a synonym is put before the name under which the mark was made."""
    value_ = value({"class": "Puppy", "x": 1, "y": 1, "label": 1})
    assert len(read_prompt("dog; puppy, cat", value_).concepts[0].points) == 1


def test_marks_of_classes_that_are_not_asked_are_left_out() -> None:
    prompt = read_prompt("cat", value({"class": "dog", "x": 1, "y": 1, "label": 1}))
    assert len(prompt.concepts[0].points) == 0


@pytest.mark.parametrize("text", ["", "  ", ",;,", "\n"])
def test_no_class_is_told(text: str) -> None:
    with pytest.raises(PromptError, match="at least one class"):
        read_prompt(text, nothing_marked())


@pytest.mark.parametrize(
    "forged",
    [
        None,
        "dog",
        {"marks": "x"},
        value(7),
        value({"class": "dog"}),
        value({"class": "dog", "x": "1", "y": 2, "label": 1}),
        value({"class": "dog", "x": float("nan"), "y": 2, "label": 1}),
        value({"class": "dog", "x": 10**400, "y": 2, "label": 1}),
        value({"class": "dog", "x": 1, "y": 2}),
        value({"class": ["dog"], "x": 1, "y": 2, "label": 1}),
        value({"class": "dog", "box": [1, 2, 3]}),
        value({"class": "dog", "box": [4, 4, 1, 1]}),
        value(*[{"class": "dog", "x": 1, "y": 1, "label": 1}] * 1001),
    ],
)
def test_forged_values_are_refused(forged: object) -> None:
    with pytest.raises(PromptError):
        read_prompt("dog", forged)


@pytest.mark.parametrize("forged", [None, [], {"active": 3}, {}])
def test_no_active_class(forged: object) -> None:
    assert active_class(forged) is None
