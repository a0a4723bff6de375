"""A block's picture has its regions and points where they are."""

from __future__ import annotations

import re

import numpy as np

from clipsam import drawing
from clipsam.types import BlockTrace
from clipsam.workbench.compare.views.maps import block_picture, borders_path


def edges(path: str) -> set[tuple[int, int, str]]:
    """The path as edges of single cells: (x, y, direction) of their left or upper ends."""
    cells = set()
    for x, y, way, length in re.findall(r"M(\d+) (\d+)([hv])(\d+)", path):
        for step in range(int(length)):
            right, down = (step, 0) if way == "h" else (0, step)
            edge = (int(x) + right, int(y) + down, way)
            assert edge not in cells
            cells.add(edge)
    return cells


def edges_by_hand(regions: np.ndarray) -> set[tuple[int, int, str]]:
    """Sides of cells at which a region begins or ends, one by one."""
    rows, columns = regions.shape[1:]
    owner = {
        (x, y): index
        for index, region in enumerate(regions)
        for y, x in zip(*np.nonzero(region), strict=True)
    }
    found = set()
    for y in range(rows + 1):
        for x in range(columns + 1):
            here = owner.get((x, y))
            if here != owner.get((x, y - 1)):
                found.add((x, y, "h"))
            if here != owner.get((x - 1, y)):
                found.add((x, y, "v"))
    return found


def test_borders_are_the_sides_at_which_regions_end() -> None:
    owner = np.random.default_rng(0).integers(-1, 3, (6, 9))
    regions = np.stack([owner == index for index in range(3)])
    assert edges(borders_path(regions)) == edges_by_hand(regions)


def test_a_block_of_cells_has_four_strokes() -> None:
    region = np.zeros((1, 4, 5), bool)
    region[0, 1:3, 2:5] = True
    assert borders_path(region) == "M2 1h3M2 3h3M2 1v2M5 1v2"
    assert borders_path(np.zeros((1, 4, 5), bool)) == borders_path(np.zeros((0, 4, 5), bool)) == ""


def test_points_and_cells_are_scaled_to_the_image() -> None:
    regions = np.ones((1, 2, 4), bool)
    seen = BlockTrace(np.eye(2, 4, dtype=np.float32), np.array([[75, 10]], np.float32), regions)
    svg = block_picture(seen, (50, 100), "a <map>")
    assert "viewBox='0 0 160 80'" in svg
    assert "scale(40 40)" in svg
    assert "<circle cx='120.0' cy='16.0'" in svg
    assert drawing.cells(seen.similarity) in svg
    assert "aria-label='a &lt;map&gt;'" in svg
