"""The question of every campaign: right answer or one sentence, and never anything else."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from clipsam.errors import ClipsamError

T = TypeVar("T")

LONGEST = 700
"""Characters of a message; names in it may be long."""

_OF_PROGRAMS = re.compile(
    r"Traceback|\b[A-Z][A-Za-z]*(Error|Exception|Warning)\b|\bNoneType\b|0x[0-9a-f]{6}"
)


def right_or_sentence(
    act: Callable[[], T], right: Callable[[T], bool], may_refuse: bool = True
) -> str:
    """Do something with an odd input.

    Args:
        act: what a person does; any exception but a ``ClipsamError`` passes through.
        right: whether the answer is right.
        may_refuse: whether a refusal is right, too.

    Returns:
        The sentence of the refusal, or nothing.
    """
    try:
        answer = act()
    except ClipsamError as error:
        check_sentence(str(error))
        assert may_refuse, f"refused what it should read: {error}"
        return str(error)
    assert right(answer), "read wrongly without a word"
    return ""


def check_sentence(text: str) -> None:
    """Check that a message is for people."""
    assert text.strip(), "an empty message"
    assert len(text) <= LONGEST, f"a message of {len(text)} characters"
    assert "\n" not in text, f"a message of several lines: {text!r}"
    assert not _OF_PROGRAMS.search(text), f"a message for programmers: {text!r}"
