"""The outline of a mask as a single polygon."""

from __future__ import annotations

from typing import Any

import numpy as np
from contourpy import FillType, contour_generator
from scipy.spatial import KDTree


def polygon_around(mask: np.ndarray) -> np.ndarray:
    """Return one polygon around a mask, whatever its parts and holes.

    It runs halfway between pixels inside and outside. Parts and holes are joined to it by lines
    that are walked there and back, as ultralytics joins the parts of COCO's objects; filled by the
    even-odd rule, they enclose nothing.

    Args:
        mask: bool (H, W), not empty.

    Returns:
        float64 (N, 2), (x, y) in pixels, not closed: the image reaches from (0, 0) to (W, H).
    """
    padded = np.pad(mask, 1).astype(np.float64)
    contours: Any = contour_generator(z=padded, fill_type=FillType.OuterOffset)
    shapes, offsets = contours.filled(0.5, 2)
    rings = [
        _corners(ring)
        for points, starts in zip(shapes, offsets, strict=True)
        for ring in np.split(points, starts[1:-1])
    ]
    path, *others = sorted(rings, key=len, reverse=True)
    for ring in others:
        distances, nearest = map(np.asarray, KDTree(path).query(ring))
        start = int(distances.argmin())
        place = int(nearest[start])
        tour = np.roll(ring, -start, axis=0)
        path = np.concatenate((path[: place + 1], tour, tour[:1], path[place:]))
    return path - 0.5  # The centre of the pixel at index 1 of the padded mask is (0.5, 0.5).


def _corners(ring: np.ndarray) -> np.ndarray:
    """Return the corners of a closed ring (N + 1, 2), without points on straight lines."""
    ring = ring[:-1]
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return ring[turns != 0]
