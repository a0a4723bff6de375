"""Differences between methods for one class: votes per pixel, and pairwise IoU."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import matplotlib
import numpy as np
from matplotlib.colors import to_hex

from ....types import Overlap, Prediction
from .painting import Painting, counted


def class_masks(
    predictions: Sequence[Prediction],
    index: int,
    size: tuple[int, int],
    threshold: float = 0.0,
    overlap: Overlap = "independent",
) -> np.ndarray:
    """Return one class's mask by each method at a common size: bool (N, h, w)."""
    return np.stack([one.class_mask(index, threshold, size, overlap) for one in predictions])


def agreement(masks: np.ndarray) -> Painting:
    """Colour each pixel by the number of methods that predict it: purple for one, yellow for all.

    Args:
        masks: bool (N, h, w), see :func:`class_masks`.
    """
    count = len(masks)
    colours = [None, *vote_colours(count)]
    kinds = [(_voters(number, count), colours[number]) for number in range(count, -1, -1)]
    return counted(np.uint8(count) - masks.sum(axis=0, dtype=np.uint8), kinds)


def vote_colours(count: int) -> list[str]:
    """Return hex colours of one to ``count`` votes, increasingly light."""
    places = np.linspace(0.15, 0.95, count) if count > 1 else [0.95]
    return [to_hex(matplotlib.colormaps["plasma"](index)) for index in places]


def pairwise_iou(masks: np.ndarray) -> np.ndarray:
    """Compute pairwise IoU: bool (N, h, w) → float64 (N, N); NaN where both masks are empty."""
    packed = np.packbits(masks.reshape(len(masks), -1), axis=1)
    both = np.stack([np.bitwise_count(one & packed).sum(axis=1, dtype=np.int64) for one in packed])
    areas = both.diagonal()
    either = areas[:, None] + areas - both
    return np.where(either > 0, both / np.maximum(either, 1), np.nan)


def pairwise_table(ious: np.ndarray, titles: Sequence[str]) -> str:
    """Format :func:`pairwise_iou` with the methods' titles; a dash where both masks are empty."""
    head = "".join(f"<th scope='col'>{escape(title)}</th>" for title in titles)
    rows = "".join(
        f"<tr><th scope='row'>{escape(title)}</th>{''.join(map(_cell, row))}</tr>"
        for title, row in zip(titles, ious, strict=True)
    )
    return (
        "<table class='pairs'><caption>Pairwise IoU of the methods (– if both masks are "
        f"empty)</caption><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _cell(value: float) -> str:
    return f"<td class='number'>{'–' if np.isnan(value) else f'{value:.3f}'}</td>"


def _voters(number: int, count: int) -> str:
    if number == 0:
        return "no method"
    return f"all {count} methods" if number == count else f"{number} of {count} methods"
