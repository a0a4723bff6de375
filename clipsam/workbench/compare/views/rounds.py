"""What one block saw and told SAM, as a small SVG: a square per cell, lines sharp at any size."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import numpy as np

from .... import drawing
from ....types import Round

SIDE = 160
"""Long side of the picture in its own units: about one pixel each on the page."""


def round_picture(seen: Round, image_size: tuple[int, int], title: str) -> str:
    """A block's map with the borders of its regions and their points drawn in.

    Args:
        seen: map, points and regions.
        image_size: (height, width) of the original image, which gives the proportions.
        title: what the picture is, for those who do not see it.
    """
    height, width = drawing.fitted(image_size, SIDE)
    rows, columns = seen.similarity.shape
    marks = ""
    if seen.regions is not None:
        path = borders_path(seen.regions)
        fit = f"scale({width / columns:g} {height / rows:g})"
        marks = f"<g transform='{fit}'><path class='under' d='{path}'/><path d='{path}'/></g>"
    for x, y in seen.points * (width / image_size[1], height / image_size[0]):
        marks += f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3.5'/>"
    return (
        f"<svg class='map' viewBox='0 0 {width} {height}' role='img' aria-label='{escape(title)}'>"
        f"<image href='{drawing.cells(seen.similarity)}' width='{width}' height='{height}' "
        f"preserveAspectRatio='none'/>{marks}</svg>"
    )


def borders_path(regions: np.ndarray) -> str:
    """SVG path along the edges of cells where a region begins or ends.

    Args:
        regions: bool (K, gh, gw), disjoint.

    Returns:
        Horizontal, then vertical strokes, in cells from the top left corner.
    """
    numbers = np.arange(1, len(regions) + 1)[:, None, None]
    owner = np.pad((regions * numbers).sum(0), 1)
    across = (f"M{start} {line}h{length}" for line, start, length in _strokes(owner))
    down = (f"M{line} {start}v{length}" for line, start, length in _strokes(owner.T))
    return "".join((*across, *down))


def _strokes(owner: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Line, start and length of every unbroken edge between one row's owners and the next's.

    Args:
        owner: int (gh + 2, gw + 2), 0 for nobody, as all around.
    """
    for line, differs in enumerate(owner[1:] != owner[:-1]):
        # False at both ends, as all around is nobody's: strokes begin and end in turns.
        for start, end in np.flatnonzero(differs[1:] != differs[:-1]).reshape(-1, 2):
            yield line, start, end - start
