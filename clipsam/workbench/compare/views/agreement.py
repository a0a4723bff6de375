"""Where methods differ about one class: how many say yes to each pixel, and how alike two are."""

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
    """One class's mask by each method, whatever their networks' resolutions: bool (N, h, w)."""
    return np.stack([one.class_mask(index, threshold, size, overlap) for one in predictions])


def agreement(masks: np.ndarray) -> Painting:
    """How many methods say yes to each pixel, from purple, one, to yellow, all; clear where none.

    Args:
        masks: bool (N, h, w), see :func:`class_masks`.
    """
    count = len(masks)
    colours = [None, *vote_colours(count)]
    kinds = [(_voters(number, count), colours[number]) for number in range(count, -1, -1)]
    return counted(np.uint8(count) - masks.sum(axis=0, dtype=np.uint8), kinds)


def vote_colours(count: int) -> list[str]:
    """Colours of one vote to ``count`` votes, ever lighter: hex."""
    places = np.linspace(0.15, 0.95, count) if count > 1 else [0.95]
    return [to_hex(matplotlib.colormaps["plasma"](index)) for index in places]


def pairwise_iou(masks: np.ndarray) -> np.ndarray:
    """IoU of every two masks: bool (N, h, w) → float64 (N, N); NaN where both are empty."""
    packed = np.packbits(masks.reshape(len(masks), -1), axis=1)
    both = np.stack([np.bitwise_count(one & packed).sum(axis=1, dtype=np.int64) for one in packed])
    areas = both.diagonal()
    either = areas[:, None] + areas - both
    return np.where(either > 0, both / np.maximum(either, 1), np.nan)


def pairwise_table(ious: np.ndarray, titles: Sequence[str]) -> str:
    """HTML of :func:`pairwise_iou` under the methods' titles; a dash where both are empty."""
    head = "".join(f"<th scope='col'>{escape(title)}</th>" for title in titles)
    rows = "".join(
        f"<tr><th scope='row'>{escape(title)}</th>{''.join(map(_cell, row))}</tr>"
        for title, row in zip(titles, ious, strict=True)
    )
    return (
        "<table class='pairs'><caption>IoU of every two methods; – if neither finds anything"
        f"</caption><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _cell(value: float) -> str:
    return f"<td class='number'>{'–' if np.isnan(value) else f'{value:.3f}'}</td>"


def _voters(number: int, count: int) -> str:
    if number == 0:
        return "no method"
    return f"all {count} methods" if number == count else f"{number} of {count} methods"
