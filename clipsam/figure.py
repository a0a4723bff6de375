"""Figures at a page's width: panels in rows, optional maps below them, and a legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import shorten, wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from . import drawing
from .types import ConceptResult, Prediction

WIDTH = 7.0
"""Width of the page's text, inches: two columns of most journals."""

MAX_COLUMNS = 5

WIDEST, HIGHEST = 2.2, 2.6
"""Largest width and height of a panel, inches."""

GAP, CAPTION = 0.06, 0.27
"""Space between panels and height of a caption, inches."""

FONT, SMALL = 7, 6
"""Font sizes, points."""

LETTER = 0.56
"""Average width of a letter as a fraction of the font size."""

LAYOUT: Mapping[str, Any] = {"bbox_inches": "tight", "pad_inches": 0.02}
"""Settings to save a figure with its legend, which lies outside the panels."""


class FigurePage:
    """Grid of cells, each a titled panel with an optional second one below it."""

    def __init__(self, size: tuple[int, int], titles: Sequence[str], two_rows: bool) -> None:
        """Lay out the cells.

        Args:
            size: (height, width) of the images, which gives the proportions.
            titles: of each cell; the text after a “·” starts a new line.
            two_rows: whether there are panels below the first.
        """
        rows = -(-len(titles) // MAX_COLUMNS)
        columns = -(-len(titles) // rows)  # As many in each row, rather than a rest in the last.
        ratio = size[0] / size[1]
        self.columns = columns
        self.panel_width = min(
            (WIDTH - (columns - 1) * GAP) / columns, WIDEST, max(HIGHEST / ratio, 0.3)
        )
        self.panel_height = min(self.panel_width * ratio, HIGHEST)
        self.titles = [
            "\n".join(line for part in title.split(" · ") for line in wrap(part, self._fits(FONT)))
            for title in titles
        ]
        self.top = (max(title.count("\n") for title in self.titles) + 1) * FONT * 1.2 / 72 + GAP
        self.cell_height = self.top + self.panel_height
        if two_rows:
            self.cell_height += GAP + self.panel_height + CAPTION
        self.width = columns * (self.panel_width + GAP) - GAP
        self.height = rows * self.cell_height
        # Without pyplot, which would keep every figure, and with it a global state.
        self.figure = Figure(figsize=(self.width, self.height))

    def show(self, cell: int, picture: np.ndarray) -> None:
        """Draw an image, uint8 (h, w, 3), below the cell's title."""
        self._axes(cell, self.top, self.panel_height).imshow(picture, aspect="auto")
        self._write(cell, 0.5, self.top - 0.02, self.titles[cell], FONT, "center", "bottom")

    def show_below(self, cell: int, picture: np.ndarray, caption: str) -> None:
        """Draw an image, uint8 (h, w, 3), as second panel with a caption."""
        self._second(cell).imshow(picture, aspect="auto")
        self._write(cell, 0.5, self._below + 0.02, caption, FONT, "center", "top")

    def show_map(self, cell: int, prediction: Prediction, index: int) -> None:
        """Draw one class's similarity map as second panel, with SAM prompts and its raw range."""
        result = prediction.results[index]
        if result.similarity is None:
            middle = self._below - self.panel_height / 2
            self._write(cell, 0.5, middle, "no similarity map", SMALL, "center", "center")
            return
        height, width = prediction.transform.image_size
        axes = self._second(cell)
        axes.imshow(
            result.similarity,
            aspect="auto",
            interpolation="bilinear",
            extent=(0, width, height, 0),
        )
        axes.autoscale(False)  # Marks at the rim must not widen the view.
        _mark(axes, result)
        low, high = float(result.similarity.min()), float(result.similarity.max())
        bar = self._axes(cell, self._below + 0.05, 0.05, (0.27, 0.46))
        bar.imshow(np.linspace(0, 1, 256)[None], aspect="auto")
        line = self._below + 0.075
        self._write(cell, 0.25, line, f"{low:.3f}", SMALL, "right", "center_baseline")
        self._write(cell, 0.75, line, f"{high:.3f}", SMALL, "left", "center_baseline")
        caption = f"{prediction.texts[index]}, {result.similarity_unit}"
        caption = shorten(caption, self._fits(SMALL), placeholder="…")
        self._write(cell, 0.5, self._below + 0.13, caption, SMALL, "center", "top")

    def add_legend(self, texts: Sequence[str]) -> None:
        """Draw the classes and their colours below all panels."""
        patches = [Patch(color=drawing.class_colour(index)) for index in range(len(texts))]
        entry = 0.4 + max(map(len, texts)) * FONT * LETTER / 72
        legend = self.figure.legend(
            patches,
            texts,
            loc="upper center",
            bbox_to_anchor=(0.5, 0),
            ncols=min(len(texts), max(1, int(self.width / entry))),
            fontsize=FONT,
            frameon=False,
            handlelength=1,
            handleheight=1,
            borderpad=0.3,
        )
        for text in legend.get_texts():
            text.set_parse_math(False)

    @property
    def _below(self) -> float:
        """Lower edge of a cell's second panel, inches from the cell's top."""
        return self.top + 2 * self.panel_height + GAP

    def _fits(self, size: int) -> int:
        """Return how many letters of a font size in points fit into a panel's width."""
        return max(1, int(self.panel_width * 72 / (size * LETTER)))

    def _second(self, cell: int) -> Axes:
        return self._axes(cell, self.top + self.panel_height + GAP, self.panel_height)

    def _axes(
        self, cell: int, top: float, height: float, across: tuple[float, float] = (0, 1)
    ) -> Axes:
        """Create axes without ticks or frame.

        Args:
            cell: index of the cell.
            top, height: inches, from the cell's top.
            across: left end and width, as shares of the cell's.
        """
        left, bottom = self._place(cell, across[0], top + height)
        width = across[1] * self.panel_width
        axes = self.figure.add_axes((left, bottom, width / self.width, height / self.height))
        axes.set_axis_off()
        return axes

    def _write(
        self, cell: int, across: float, top: float, text: str, size: int, ha: str, va: str
    ) -> None:
        x, y = self._place(cell, across, top)
        self.figure.text(x, y, text, fontsize=size, ha=ha, va=va, parse_math=False)

    def _place(self, cell: int, across: float, top: float) -> tuple[float, float]:
        """Convert a position in a cell to figure fractions from the lower left corner."""
        row, column = divmod(cell, self.columns)
        x = column * (self.panel_width + GAP) + across * self.panel_width
        return x / self.width, 1 - (row * self.cell_height + top) / self.height


def _mark(axes: Axes, result: ConceptResult) -> None:
    """Draw SAM prompts as discs, crosses and rectangles, in pixels of the original image."""
    used = result.prompts
    inside, outside = used.points[used.labels == 1], used.points[used.labels == 0]
    x, y = inside.T
    axes.scatter(x, y, s=9, c="#ff3860", edgecolors="white", linewidths=0.5)
    x, y = outside.T
    axes.scatter(x, y, s=9, c="white", marker="X", edgecolors="black", linewidths=0.5)
    for x0, y0, x1, y1 in used.boxes:
        axes.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color="white", linewidth=0.8)
