"""Marks: the user's points and boxes for a class, in all their input and output formats.

The page's canvas and share links use objects, ``{"class": "dog", "x": 3, "y": 4, "label": 1}`` or
``{"class": "dog", "box": [0, 0, 9, 9]}``; programs rows, ``["dog", 3, 4, 1]``; the command line
text, ``dog:3,4,1``. Coordinates are pixels of the original image. A new kind of mark is one
more class here, listed in :data:`MARKS`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .errors import PromptError
from .names import fold_name
from .types import Concept, Prompt


@dataclass(frozen=True)
class Mark:
    """Base class of marks; the coordinates of a kind are its further fields.

    Attributes:
        name: of the class, any of its names.
    """

    name: str

    kind: ClassVar[str]
    """Name of the kind, in messages and as command-line option."""
    help: ClassVar[str]
    """Help text on the command line."""

    @classmethod
    def fields(cls) -> tuple[str, ...]:
        """Return the names of the kind's numbers, in order."""
        return tuple(field.name for field in dataclasses.fields(cls))[1:]

    @property
    def numbers(self) -> list[float]:
        """The kind's numbers, in order."""
        return [getattr(self, field) for field in self.fields()]

    @classmethod
    def from_row(cls, row: object) -> Mark:
        """Read ``[class, number, …]``.

        Raises:
            PromptError: it is not a valid row.
        """
        if not isinstance(row, list) or not row or not cls._fits(row[0], row[1:]):
            form = ", ".join(("class", *cls.fields()))
            raise PromptError(f"A {cls.kind} is [{form}], got {row!r}.")
        return cls(*row)

    @classmethod
    def from_text(cls, text: str) -> Mark:
        """Read ``CLASS:number,…``; the class name may contain colons.

        Raises:
            PromptError: it is not a valid text.
        """
        name, _, rest = text.rpartition(":")
        try:
            numbers = [float(number) for number in rest.split(",")]
        except ValueError:
            numbers = []
        if not cls._fits(name, numbers):
            expected = f"a class, a colon and {len(cls.fields())} numbers"
            raise PromptError(f"--{cls.kind} {text}: give {expected}.")
        return cls(name, *numbers)

    @classmethod
    def _fits(cls, name: object, numbers: Sequence[object]) -> bool:
        """Return whether the values are a class and as many finite numbers as the kind has."""
        return (
            isinstance(name, str)
            and len(numbers) == len(cls.fields())
            and all(map(_is_finite, numbers))
        )

    def to_text(self) -> str:
        """Format as accepted by :meth:`from_text`, exact in float32."""
        values = (np.format_float_positional(np.float32(n), trim="-") for n in self.numbers)
        return f"{self.name}:{','.join(values)}"

    def to_json(self) -> dict[str, object]:
        """Format as JSON object for canvas and links."""
        return {"class": self.name, **dict(zip(self.fields(), self.numbers, strict=True))}


@dataclass(frozen=True)
class Point(Mark):
    """A point.

    Attributes:
        x, y: pixels of the original image.
        label: 1 foreground, 0 background.
    """

    x: float
    y: float
    label: int

    kind: ClassVar[str] = "point"
    help: ClassVar[str] = "repeatable; label 1 is foreground, 0 background"

    def __post_init__(self) -> None:
        if self.label not in (0, 1):
            raise PromptError(
                f"{self.name}: the label of a point must be 1 (foreground) or 0 (background)."
            )
        object.__setattr__(self, "label", int(self.label))


@dataclass(frozen=True)
class Box(Mark):
    """A box around the class; the last one of a class counts.

    Attributes:
        x0, y0, x1, y1: left, top, right and bottom, pixels of the original image.
    """

    x0: float
    y0: float
    x1: float
    y1: float

    kind: ClassVar[str] = "box"
    help: ClassVar[str] = "repeatable, one per class"

    def to_json(self) -> dict[str, object]:
        """Format as JSON object, see :meth:`Mark.to_json`."""
        return {"class": self.name, "box": self.numbers}


MARKS: tuple[type[Mark], ...] = (Point, Box)
"""All kinds of marks."""

MAX_MARKS = 1000
"""Limit of marks in one prompt."""


def read_mark(value: object) -> Mark:
    """Read the JSON object of canvas and links.

    Raises:
        PromptError: it is not a mark.
    """
    if isinstance(value, dict):
        name = value.get("class")
        for kind in MARKS:
            fields = kind.fields()
            numbers = value.get(kind.kind, [value[f] for f in fields if f in value])
            if isinstance(numbers, list) and len(numbers) == len(fields):
                try:
                    return kind.from_row([name, *numbers])
                except PromptError:
                    break
    raise PromptError(f"A mark on the image is {_neither()}.")


def marks_of(concept: Concept) -> list[Mark]:
    """Return the marks of one class of a prompt."""
    points = zip(concept.points.tolist(), concept.labels.tolist(), strict=True)
    marks: list[Mark] = [Point(concept.text, x, y, label) for (x, y), label in points]
    if concept.box is not None:
        marks.append(Box(concept.text, *concept.box.tolist()))
    return marks


def find_class(name: str, classes: Sequence[Sequence[str]]) -> int | None:
    """Find the class with a name or synonym, ignoring case and extra spaces.

    Args:
        name: as typed.
        classes: the names of each class, the one that is shown first.

    Returns:
        Index of the class with this display name, otherwise of the first one with this synonym,
        otherwise ``None``.
    """
    wanted = fold_name(name)
    for names in ([names[:1] for names in classes], classes):
        for index, synonyms in enumerate(names):
            if wanted in map(fold_name, synonyms):
                return index
    return None


def prompt_with_marks(classes: Sequence[Sequence[str]], marks: Sequence[Mark]) -> Prompt:
    """Combine classes and marks to a prompt.

    Args:
        classes: the names of each class, the one that is shown first.
        marks: of these classes.

    Raises:
        PromptError: no class, a duplicate class, more than :data:`MAX_MARKS` marks, a mark of
            another class, or an invalid one.
    """
    if len(marks) > MAX_MARKS:
        raise PromptError(f"At most {MAX_MARKS} points and boxes can be used, got {len(marks)}.")
    marked: list[list[Mark]] = [[] for _ in classes]
    for mark in marks:
        index = find_class(mark.name, classes)
        if index is None:
            requested = ", ".join("; ".join(names) for names in classes)
            raise PromptError(f"“{mark.name}” is not one of the requested classes ({requested}).")
        marked[index].append(mark)
    pairs = zip(classes, marked, strict=True)
    return Prompt(tuple(_concept(tuple(names), own) for names, own in pairs))


def prompt_json(prompt: Prompt) -> list[dict]:
    """Format the classes of a prompt with their marks, as in ``results.json``."""
    return [
        {
            "synonyms": list(concept.synonyms),
            "points": points_json(concept.points, concept.labels),
            "box": None if concept.box is None else concept.box.tolist(),
        }
        for concept in prompt.concepts
    ]


def points_json(points: np.ndarray, labels: np.ndarray) -> list[list[float]]:
    """Format points (K, 2) and labels (K,) as ``[[x, y, label], …]``."""
    return [[float(x), float(y), int(label)] for (x, y), label in zip(points, labels, strict=True)]


def _concept(names: tuple[str, ...], marks: Sequence[Mark]) -> Concept:
    points = [mark for mark in marks if isinstance(mark, Point)]
    boxes = [mark.numbers for mark in marks if isinstance(mark, Box)]
    return Concept(
        names,
        np.array([(point.x, point.y) for point in points], np.float32).reshape(-1, 2),
        np.array([point.label for point in points], np.int64),
        np.array(boxes[-1], np.float32) if boxes else None,
    )


def _is_finite(number: object) -> bool:
    try:
        return isinstance(number, int | float) and math.isfinite(number)
    except OverflowError:  # an int beyond all floats
        return False


def _neither() -> str:
    """Return ``neither a point nor a box``, for all kinds."""
    return "neither " + " nor ".join(f"a {kind.kind}" for kind in MARKS)
