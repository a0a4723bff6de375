"""Class names: when two of them are the same, and which of them are no class."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

BACKGROUND_NAMES = frozenset({"background"})
"""Names of pixels that show none of the classes, folded, without underscores around them."""

VOID_NAMES = frozenset({"unlabelled", "unlabeled", "void", "ignore"})
"""Names of pixels that are neither trained on nor scored, folded likewise."""


SEPARATORS = str.maketrans({"，": ",", "、": ",", "،": ",", "\n": ",", "；": ";", "؛": ";"})
"""What separates typed names, for ``str.translate``: to commas and semicolons."""


def fold_name(name: str) -> str:
    """Return a class name composed, in lower case, and without extra spaces."""
    return " ".join(unicodedata.normalize("NFC", name).split()).lower()


def canonical_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the synonyms of a class folded, sorted, and each once.

    However they were typed, they ask the same question and get the same answer.
    """
    return tuple(sorted({fold_name(name) for name in names}))


def is_background_name(name: str) -> bool:
    """Return whether a name means the background; labelme writes ``_background_``."""
    return fold_name(name).strip("_") in BACKGROUND_NAMES


def is_void_name(name: str) -> bool:
    """Return whether a name means pixels to ignore; labelme writes ``__ignore__``."""
    return fold_name(name).strip("_") in VOID_NAMES
