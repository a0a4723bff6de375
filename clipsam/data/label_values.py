"""What the values of a mask mean, given the names of its ids: one rule for all that read masks.

1. Values that all have a name, or are void (255, 65535), are ids.
2. A mask of 0 and 255 (or 65535) alone is binary, background and foreground, where one class is
   named; unless other masks of the same set hold ids, so that 255 is void in all of them.
3. Grey levels from black to white are a binary mask with soft edges, and are cut in the middle.
4. Anything else is refused, with the id that has no name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..names import fold_name, is_background_name, is_void_name
from .images import ImageError, Loaded
from .samples import BACKGROUND, VOID, VOID_IDS

SOFT_LEVELS = 6
"""Fewest grey levels of a mask with soft edges."""

END_SHARE = 1 / 32
"""Share of the range at either end that counts as black or white: what JPEG adds to an edge."""

WIDEST_GAP = 3 / 8
"""Widest gap between successive levels of a soft mask, as a share of the range."""

LEVELS_AT_ENDS = 2
"""Fewest grey levels near black and near white that compression leaves."""

MAX_NAMES = 30_000
"""Limit of names, since class maps have 16 bits."""


def levels_of(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct values of a mask, ascending, and how many pixels have each."""
    if ids.size and ids.min() >= 0 and ids.max() <= VOID_IDS[-1]:
        counts = np.bincount(ids.ravel())  # Sorting takes seconds for a large mask.
        levels = np.flatnonzero(counts)
        return levels, counts[levels]
    return np.unique(ids, return_counts=True)


def is_binary(found: Sequence[int]) -> bool:
    """Return whether the values of a mask are 0 and one of 255 and 65535, or the latter alone."""
    return any(found and found[-1] == top and set(found) <= {0, top} for top in VOID_IDS)


def is_soft(ids: np.ndarray) -> bool:
    """Return whether a mask's values are grey levels of a binary mask with soft edges.

    Most pixels are then nearly black or nearly white, and the levels between have no wide gap; or,
    after compression, there are several levels near either end, or levels next to white.
    """
    levels, counts = levels_of(ids)
    top = next((top for top in VOID_IDS if levels[-1] <= top), None)
    if top is None or levels[0] < 0:
        return False
    shares = levels / top
    at_end = (shares <= END_SHARE) | (shares >= 1 - END_SHARE)
    if at_end.all() and (at_end & (shares > 0.75) & (shares < 1)).any():
        return True
    few = len(levels) < SOFT_LEVELS or shares[-1] < 0.75
    if few or 2 * counts[at_end].sum() < counts.sum():
        return False
    dark = np.count_nonzero((shares > 0) & (shares < 0.25))
    bright = np.count_nonzero((shares > 0.75) & (shares < 1))
    gap = np.diff(shares, prepend=0.0).max()
    return bool(gap <= WIDEST_GAP or min(dark, bright) >= LEVELS_AT_ENDS)


def cut(ids: np.ndarray, where: str) -> Loaded:
    """Cut a soft mask in the middle of its range: bool (H, W), with a note that says so."""
    top = 255 if ids.max() <= 255 else 65535
    return Loaded(
        ids > top // 2,
        f"{where} has grey levels, so it was read as a binary mask, cut in the middle.",
    )


class LabelNames:
    """Names of the ids of a set of masks.

    Names that are the same but for case and spaces are one class.

    Attributes:
        names: the classes, in order, without background and void.
        values: class value of every id that has a name: index into ``names``,
            :data:`BACKGROUND` or :data:`VOID`.
    """

    def __init__(self, listed: Sequence[str] | Mapping[int, str]) -> None:
        """Sort the names.

        Args:
            listed: names, index = id, of which empty ones are none; or names by id. An id 0
                without a name is background.

        Raises:
            ImageError: there are too many names.
        """
        by_id = listed if isinstance(listed, Mapping) else dict(enumerate(listed))
        if len(by_id) > MAX_NAMES:
            raise ImageError(
                f"{len(by_id):,} class names are more than the limit of {MAX_NAMES:,}."
            )
        places: dict[str, int] = {}
        names: list[str] = []
        self.values: dict[int, int] = {}
        for number, name in by_id.items():
            if not fold_name(name):
                continue
            if is_background_name(name):
                self.values[number] = BACKGROUND
            elif is_void_name(name):
                self.values[number] = VOID
            else:
                self.values[number] = places.setdefault(fold_name(name), len(names))
                if places[fold_name(name)] == len(names):
                    names.append(" ".join(name.split()))
        if self.values:
            self.values.setdefault(0, BACKGROUND)
        self.names = tuple(names)
        self._of_binary = len(self.values) == 1 and len(names) == 1

    def has_ids(self, ids: np.ndarray) -> bool:
        """Return whether a mask shows a named id besides 0 and void, so that it is not binary."""
        named = [number for number in self.values if number and number not in VOID_IDS]
        return bool(np.isin(ids, named).any())

    def read(
        self, ids: np.ndarray, where: str, holds_ids: Callable[[], bool] = lambda: False
    ) -> Loaded:
        """Convert the values of a mask to class values.

        Args:
            ids: int (H, W), as :func:`clipsam.data.images.load_mask` reads it.
            where: how messages begin: the mask's file, or "the ground truth".
            holds_ids: whether another mask of the set has ids, asked only if this one could be
                binary.

        Returns:
            int16 (H, W), index into :attr:`names`, :data:`BACKGROUND` or :data:`VOID`.

        Raises:
            ImageError: an id has no name, or it is unclear which class a binary mask shows.
        """
        found = levels_of(ids)[0].tolist()
        zero_is_background = self._of_binary or self.values.get(0) == BACKGROUND
        maybe_binary = is_binary(found) and found[-1] not in self.values and zero_is_background
        if maybe_binary and not holds_ids():
            self._check_one_class(f"{where} contains only {_listed(found)}", "a binary mask")
            return Loaded(_binary(ids != 0))
        if self._of_binary:
            return self._read_one(ids, found, where)
        unnamed = [value for value in found if value not in self.values and value not in VOID_IDS]
        if not unnamed:
            return Loaded(self._mapped(ids, found))
        if is_soft(ids):
            self._check_one_class(f"{where} has many grey levels", "a soft binary mask")
            soft = cut(ids, where)
            return Loaded(_binary(soft.values), soft.note)
        raise ImageError(
            f"{where} contains the id {unnamed[0]}, but names are given for {self._numbers()} "
            "only. Name all ids in order, including 0: background, dog, cat."
        )

    def _read_one(self, ids: np.ndarray, found: Sequence[int], where: str) -> Loaded:
        """Read a mask of which a single class is named: whatever is not 0 is the class."""
        shown = [value for value in found if value and value not in VOID_IDS]
        if len(shown) > 1 and is_soft(ids):
            soft = cut(ids, where)
            return Loaded(_binary(soft.values), soft.note)
        if len(shown) > 1:
            raise ImageError(
                f"{where} contains the ids {_listed(shown)}, but only “{self.names[0]}” is named. "
                "Name all ids in order: background, dog, cat."
            )
        classes = _binary(ids == shown[0]) if shown else _binary(ids != 0)
        if shown:
            classes[np.isin(ids, VOID_IDS)] = VOID
        return Loaded(classes)

    def _mapped(self, ids: np.ndarray, found: Sequence[int]) -> np.ndarray:
        """Look up the class value of every id; all have one or are void."""
        values = np.array([self.values.get(value, VOID) for value in found], np.int16)
        return values[np.searchsorted(found, ids)]

    def _check_one_class(self, beginning: str, kind: str) -> None:
        if len(self.names) != 1:
            raise ImageError(
                f"{beginning}, as {kind} does, but {len(self.names)} classes are named. Name the "
                "one class that it shows, or save a mask of ids."
            )

    def _numbers(self) -> str:
        """Describe the ids that have names."""
        numbers = sorted(self.values)
        if len(numbers) > 1 and numbers[-1] - numbers[0] == len(numbers) - 1:
            return f"{numbers[0]} to {numbers[-1]}"
        return _listed(numbers) or "no id"


def _binary(inside: np.ndarray) -> np.ndarray:
    """Return class 0 inside and background outside, int16 (H, W)."""
    return np.where(inside, 0, BACKGROUND).astype(np.int16)


def _listed(values: Sequence[int]) -> str:
    shown = ", ".join(str(value) for value in values[:5])
    return shown + (", …" if len(values) > 5 else "")
