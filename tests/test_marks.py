"""Every form of a mark says the same, and is read back as it was."""

from __future__ import annotations

import json

import numpy as np
import pytest

from clipsam.errors import PromptError
from clipsam.marks import (
    MARKS,
    Box,
    Point,
    find_class,
    marks_of,
    prompt_with_marks,
    read_mark,
)

CLASSES = (("dog", "puppy"), ("a:b",), ("Dog house", "kennel"))
EXAMPLES = [Point("a:b", 0.1, 470, 0), Point("dog", 3, 4, 1), Box("kennel", 0, 0.25, 10.5, 20)]


@pytest.mark.parametrize("mark", EXAMPLES, ids=lambda mark: mark.to_text())
def test_each_form_is_read_back(mark):
    assert read_mark(json.loads(json.dumps(mark.to_json()))) == mark
    assert type(mark).from_row([mark.name, *mark.numbers]) == mark
    text = type(mark).from_text(mark.to_text())
    # Of this form float32 is asked: what a prompt holds.
    assert text.name == mark.name
    np.testing.assert_array_equal(np.float32(text.numbers), np.float32(mark.numbers))


def test_there_is_an_example_of_every_kind():
    assert {type(mark) for mark in EXAMPLES} == set(MARKS)


def test_what_a_prompt_holds_is_what_was_marked():
    prompt = prompt_with_marks(CLASSES, EXAMPLES)
    dog, other, house = prompt.concepts
    assert dog.points.tolist() == [[3, 4]] and dog.labels.tolist() == [1]
    assert other.labels.tolist() == [0]
    assert house.box.tolist() == [0, 0.25, 10.5, 20]
    again = prompt_with_marks(
        CLASSES, [m for concept in prompt.concepts for m in marks_of(concept)]
    )
    assert again.keys == prompt.keys


@pytest.mark.parametrize(
    ("name", "index"),
    [("dog", 0), (" PUPPY ", 0), ("dog  House", 2), ("Kennel", 2), ("cat", None), ("", None)],
)
def test_a_class_has_many_names(name, index):
    assert find_class(name, CLASSES) == index


def test_a_shown_name_comes_before_a_synonym():
    assert find_class("dog", [("animal", "dog"), ("Dog",)]) == 1


@pytest.mark.parametrize(
    ("read", "wrong", "says"),
    [
        (Point.from_text, "dog:1,2", "--point dog:1,2: give a class, a colon and 3 numbers"),
        (Point.from_text, "dog:1,2,x", "3 numbers"),
        (Point.from_text, "dog:1,2,nan", "3 numbers"),
        (Point.from_text, "dog:1,2,7", "must be 1 (foreground) or 0"),
        (Box.from_text, "1,2,3", "4 numbers"),
        (Point.from_row, ["dog", 1, 1], "A point is [class, x, y, label], got ['dog', 1, 1]"),
        (Point.from_row, [7, 1, 1, 1], "A point is"),
        (Box.from_row, "dog", "A box is [class, x0, y0, x1, y1]"),
        (read_mark, {"class": "dog"}, "neither a point nor a box"),
        (read_mark, [], "neither a point nor a box"),
    ],
)
def test_what_is_wrong_is_said(read, wrong, says):
    with pytest.raises(PromptError) as caught:
        read(wrong)
    assert says in str(caught.value)


def test_too_many_marks_are_refused():
    with pytest.raises(PromptError, match="At most 1000 points and boxes can be used, got 1001"):
        prompt_with_marks(CLASSES, [Point("dog", 1, 1, 1)] * 1001)


def test_a_mark_of_another_class_is_refused():
    with pytest.raises(
        PromptError, match=r"“cat” is not one of the requested classes \(dog; puppy, a:b"
    ):
        prompt_with_marks(CLASSES, [Point("cat", 1, 1, 1)])
