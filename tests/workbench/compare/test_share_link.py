"""What is asked goes into an address and comes back as it was, or is refused in a sentence."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qsl

import pytest

from clipsam.errors import PromptError
from clipsam.marks import Box, Point
from clipsam.workbench.compare.share_link import (
    FORMER_TITLES,
    MAX_LENGTH,
    SharedState,
    read_link,
    write_link,
)
from clipsam.workbench.compare.views.display_settings import DisplaySettings
from clipsam.workbench.examples import all_examples

EXAMPLES = ("Lion", "One & only")
QUESTION = SharedState(
    example="One & only",
    size=(480, 640),
    classes="Größe; size, a=b&c, 犬",
    marks=(
        Point("犬", 1.25, 470, 0),
        Box("a=b&c", 0, 0, 10.5, 20),
    ),
    preset="tiny",
    keys=("sam/manual", "clip-guided-sam/semi-automatic"),
    display=DisplaySettings(-1.5, 0.25, "errors", "argmax", "a=b&c"),
)


def opened(query: str) -> SharedState | None:
    """As a server that follows RFC 3986 and HTML forms reads it."""
    return read_link(dict(parse_qsl(query, keep_blank_values=True)), EXAMPLES)


@pytest.mark.parametrize("example", ["One & only", ""])
def test_a_link_brings_back_what_was_asked(example: str) -> None:
    question = SharedState(**{**vars(QUESTION), "example": example})
    query = write_link(question)
    assert query.isascii()
    assert opened(query) == question


def test_an_address_without_a_question_asks_nothing() -> None:
    assert opened("") is None
    assert opened("__theme=dark") is None


def test_a_link_of_version_0_1_opens() -> None:
    query = (
        "picture=One+%26+only&size=640x480&classes=Gr%C3%B6%C3%9Fe%3B+size%2C+a%3Db%26c%2C+%E7%8A%AC"
        "&marks=%5B%7B%22class%22%3A%22%E7%8A%AC%22%2C%22x%22%3A1.25%2C%22y%22%3A470%2C%22label%22"
        "%3A0%7D%2C%7B%22class%22%3A%22a%3Db%26c%22%2C%22box%22%3A%5B0%2C0%2C10.5%2C20%5D%7D%5D"
        "&preset=tiny&methods=sam%2Fmanual+clip-guided-sam%2Fsemi-automatic&threshold=-1.5"
        "&presence=0.25&view=errors&overlap=argmax&class=a%3Db%26c"
    )
    assert opened(query) == QUESTION
    assert write_link(QUESTION) == query


def test_a_link_with_an_examples_former_title_opens() -> None:
    titles = {example.title for example in all_examples()}
    assert set(FORMER_TITLES.values()) <= titles and not FORMER_TITLES.keys() & titles
    query = dict(parse_qsl(write_link(replace(QUESTION, example="One is absent"))))
    assert read_link(query, titles).example == "One class is absent"


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("view=errors", "view=x", "is incomplete or was changed"),
        ("size=640x480", "size=0x480", "is incomplete or was changed"),
        ("threshold=-1.5", "threshold=nan", "is incomplete or was changed"),
        ("&overlap=argmax", "", "is incomplete or was changed"),
        ("preset=tiny", "preset=giant", "There is no preset “giant”"),
        (
            "picture=One+%26+only",
            "picture=Tiger",
            "The example “Tiger” of this link does not exist",
        ),
        ("marks=%5B", "marks=", "is incomplete or was changed"),
        ("%22x%22%3A1.25", "%22x%22%3A%22a%22", "neither a point nor a box"),
    ],
)
def test_what_was_changed_on_the_way_is_said(old: str, new: str, sentence: str) -> None:
    query = write_link(QUESTION)
    assert old in query
    with pytest.raises(PromptError, match=sentence):
        opened(query.replace(old, new))


def test_too_much_for_an_address() -> None:
    mark = Point("犬", 1.25, 470.0, 1)
    with pytest.raises(PromptError, match="too many classes and marks for a link"):
        write_link(SharedState(**{**vars(QUESTION), "marks": (mark,) * (MAX_LENGTH // 30)}))
