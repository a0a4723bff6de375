"""Prediction in overlapping tiles, for images much larger than a network sees.

A tile is predicted as an image of its own. The logits of neighbours are averaged where they
overlap, with weights that fall towards a tile's edge, so that no seam is left.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import product
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import PromptError
from .geometry import SquareTransform
from .types import NOTHING, Concept, ConceptResult, SamPrompts

Blend = Literal["linear", "mean"]

MIN_TILE = 64
"""Smallest side of a tile, pixels."""


@dataclass(frozen=True)
class Tiling:
    """How an image is divided into tiles.

    Attributes:
        size: side of a tile, pixels of the image; an image that is no larger is predicted whole.
        overlap: share of its side, at least, that a tile has in common with the next one.
        blend: ``linear`` weights fall linearly over the overlap; ``mean`` weights are equal.
    """

    size: int
    overlap: float = 0.25
    blend: Blend = "linear"

    def __post_init__(self) -> None:
        if self.size < MIN_TILE:
            raise PromptError(f"The tile size is {self.size}, expected at least {MIN_TILE} pixels.")
        if not 0 <= self.overlap <= 0.5:
            raise PromptError(f"The overlap of tiles is {self.overlap}, expected 0 to 0.5.")
        if self.blend not in get_args(Blend):
            kinds = " or ".join(get_args(Blend))
            raise PromptError(f"The blending of tiles is “{self.blend}”, expected {kinds}.")

    def divides(self, image_size: tuple[int, int]) -> bool:
        """Return whether an image of (height, width) is larger than a tile."""
        return max(image_size) > self.size

    def tiles(self, image_size: tuple[int, int]) -> list[Tile]:
        """Return the tiles of an image of (height, width), row by row, evenly spaced."""
        rows, columns = (self._spans(length) for length in image_size)
        return [Tile(y0, x0, y1, x1) for (y0, y1), (x0, x1) in product(rows, columns)]

    def _spans(self, length: int) -> list[tuple[int, int]]:
        if length <= self.size:
            return [(0, length)]
        shared = round(self.overlap * self.size)
        count = math.ceil((length - shared) / (self.size - shared))
        starts = np.linspace(0, length - self.size, count).round().astype(int).tolist()
        return [(start, start + self.size) for start in starts]


@dataclass(frozen=True)
class Tile:
    """A part of an image: rows ``top`` to ``bottom``, columns ``left`` to ``right``, exclusive."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), pixels."""
        return self.bottom - self.top, self.right - self.left

    @property
    def corner(self) -> np.ndarray:
        """(x, y) of its first pixel, float32."""
        return np.array([self.left, self.top], np.float32)

    def crop(self, image: np.ndarray) -> np.ndarray:
        """Cut the tile out of an image (H, W, 3)."""
        return np.ascontiguousarray(image[self.top : self.bottom, self.left : self.right])

    def concept(self, concept: Concept) -> Concept:
        """Return a class with those of its points, and that part of its box, that lie inside."""
        height, width = self.size
        points = concept.points - self.corner
        inside = ((points >= 0) & (points <= [width, height])).all(1)
        box = None
        if concept.box is not None:
            box = np.clip(concept.box - np.tile(self.corner, 2), 0, [width, height] * 2)
            box = box if box[0] < box[2] and box[1] < box[3] else None
        return replace(concept, points=points[inside], labels=concept.labels[inside], box=box)

    def prompts(self, prompts: SamPrompts) -> SamPrompts:
        """Return SAM's prompts in the tile as those in the whole image, without the dense one."""
        boxes = prompts.boxes + np.tile(self.corner, 2)
        return SamPrompts(prompts.points + self.corner, prompts.labels, boxes)


@dataclass(frozen=True)
class TileResult:
    """Result for one class in one tile, with how the tile lies in the square of its logits."""

    tile: Tile
    transform: SquareTransform
    result: ConceptResult


class Mosaic:
    """What the tiles of one image are put together to.

    Attributes:
        tiles: where they are.
        transform: how the image lies in the logits that are put together.
    """

    def __init__(self, image_size: tuple[int, int], tiling: Tiling, mask_side: int) -> None:
        """Choose the resolution: that of the network's own logits in a tile.

        Args:
            image_size: (height, width).
            tiling: how the image is divided.
            mask_side: side of the logits of a tile.
        """
        self.tiles = tiling.tiles(image_size)
        self.transform = SquareTransform(image_size, tiling.size, "squash", direct=True)
        self._tiling = tiling
        self._mask_side = mask_side

    def result(self, parts: Sequence[TileResult]) -> ConceptResult:
        """Put the results of one class together, those of the tiles where it was asked for.

        Logits are blended, and :data:`~clipsam.types.NOTHING` where no tile was asked. So are
        similarities if every tile has some. Presence is the highest of any tile. What belongs to
        one run of a network is left out: SAM's candidates, dense prompts, states of blocks.
        """
        places = [part.tile for part in parts]
        # One at a time: a tile's logits at its own size are the largest of all.
        logits = (part.transform.to_image(_batch(part.result.logits)) for part in parts)
        known = [one for part in parts if (one := part.result.similarity) is not None]
        similarity = None
        if len(known) == len(self.tiles):
            side = max(max(one.shape) for one in known)
            similarity = self._blended(map(_batch, known), places, side)
        notes = dict.fromkeys(part.result.note for part in parts)
        presence = [part.result.presence for part in parts if not math.isnan(part.result.presence)]
        prompts = [part.tile.prompts(part.result.prompts) for part in parts]
        return ConceptResult(
            logits=self._blended(logits, places, self._mask_side),
            prompts=reduce(_together, prompts, SamPrompts()),
            presence=max(presence, default=math.nan),
            similarity=similarity,
            similarity_unit=parts[0].result.similarity_unit if parts else "cosine",
            note="" if "" in notes else " ".join(notes),
        )

    def _blended(self, maps: Iterable[Tensor], tiles: Sequence[Tile], side: int) -> np.ndarray:
        """Blend maps (1, 1, h, w), each over its tile, with about ``side`` cells a tile.

        Each cell of the whole is the weighted mean of the maps, read bilinearly at its centre.

        Returns:
            float32 (h, w) over the image.
        """
        step = max(1.0, self._tiling.size / side)
        cells = [math.ceil(length / step) for length in self.transform.image_size]
        y, x = (
            (np.arange(count) + 0.5) * (length / count)
            for count, length in zip(cells, self.transform.image_size, strict=True)
        )
        total, weights = (np.zeros(cells, np.float32) for _ in range(2))
        for one, tile in zip(maps, tiles, strict=True):
            rows = slice(*np.searchsorted(y, (tile.top, tile.bottom)))
            columns = slice(*np.searchsorted(x, (tile.left, tile.right)))
            height, width = tile.size
            down, across = y[rows] - tile.top, x[columns] - tile.left
            weight = np.outer(self._weights(down, height), self._weights(across, width))
            total[rows, columns] += weight * _read(
                one, 2 * down / height - 1, 2 * across / width - 1
            )
            weights[rows, columns] += weight
        return np.divide(total, weights, out=np.full_like(total, NOTHING), where=weights > 0)

    def _weights(self, positions: np.ndarray, length: int) -> np.ndarray:
        """Return the weights of positions in a tile's height or width, pixels from its start."""
        shared = self._tiling.overlap * self._tiling.size
        if self._tiling.blend == "mean" or not shared:
            return np.ones(len(positions), np.float32)
        edge = np.minimum(positions, length - positions)
        # Never 0, for at the image's own edge there is no other tile.
        return (np.clip(edge, 1e-3, shared) / shared).astype(np.float32)


def _batch(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values)[None, None]


def _read(values: Tensor, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Read a map (1, 1, h, w) bilinearly at rows y and columns x in [-1, 1]: (len(y), len(x))."""
    across, down = torch.meshgrid(torch.from_numpy(x), torch.from_numpy(y), indexing="xy")
    grid = torch.stack((across, down), dim=-1)[None].to(values)
    return F.grid_sample(values, grid, padding_mode="border", align_corners=False)[0, 0].numpy()


def _together(one: SamPrompts, other: SamPrompts) -> SamPrompts:
    return SamPrompts(
        np.concatenate((one.points, other.points)),
        np.concatenate((one.labels, other.labels)),
        np.concatenate((one.boxes, other.boxes)),
    )
