"""Mapping between an image and a network's square input: pixels, points, boxes and masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

Fit = Literal["pad", "squash"]


@dataclass(frozen=True)
class SquareTransform:
    """How an image of a given size lies in a square input.

    Attributes:
        image_size: (height, width) of the original, pixels.
        side: side of the square input, pixels.
        fit: ``pad`` scales the long side to ``side`` and pads below or to the right, as SAM does;
            ``squash`` scales both sides, as CLIP-Guided SAM's authors do.
        direct: maps are resized to the image in one step, as in SAM 2; only with ``squash``.
    """

    image_size: tuple[int, int]
    side: int
    fit: Fit = "pad"
    direct: bool = False

    @property
    def content(self) -> tuple[int, int]:
        """(height, width) of the part of the square that shows the image, pixels."""
        if self.fit == "squash":
            return self.side, self.side
        height, width = self.image_size
        scale = self.side / max(height, width)
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))

    def image(self, image: np.ndarray) -> np.ndarray:
        """Resize an image without padding: uint8 (H, W, 3) → uint8 (*content, 3)."""
        height, width = self.content
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        return np.array(resized)

    def coordinates(self, points: np.ndarray) -> np.ndarray:
        """Map points (N, 2), (x, y), from original to input pixels, float32."""
        return np.asarray(points, np.float32) * self._scale()

    def coordinates_back(self, points: np.ndarray) -> np.ndarray:
        """Map points (N, 2), (x, y), from input to original pixels, float32."""
        return np.asarray(points, np.float32) / self._scale()

    def _scale(self) -> np.ndarray:
        height, width = self.content
        return np.array([width / self.image_size[1], height / self.image_size[0]], np.float32)

    def to_image(self, maps: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Map maps (B, C, h, w) over the square to the image, bilinearly: (B, C, *size).

        Same two steps as SAM's ``postprocess_masks``: resize to the square, crop the padding, then
        resize to the image (or ``size``); except with ``direct``.
        """
        if self.direct:
            return _resize(maps, size or self.image_size)
        square = _resize(maps, (self.side, self.side))
        height, width = self.content
        return _resize(square[..., :height, :width], size or self.image_size)

    def sampling_grid(self, cells: int) -> Tensor | None:
        """Return where the cells of a grid over the square lie on a grid that spans the image.

        As :meth:`cell_positions`; ``None`` when the two grids coincide.
        """
        if self.content == (self.side, self.side):
            return None
        return self.cell_positions(cells)

    def cell_positions(self, cells: int) -> Tensor:
        """Return the positions in the image of the cells of a grid over the square.

        For ``grid_sample``: float (1, cells, cells, 2), (x, y) in [-1, 1]; cells of the padding
        lie outside.
        """
        height, width = self.content
        centres = (torch.arange(cells) + 0.5) * (self.side / cells)
        x, y = 2 * centres / width - 1, 2 * centres / height - 1
        return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[None]


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


def normalize(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Normalise pixels 0..255 (..., 3, H, W) to float32, with mean and std in 0..1."""
    shape = (3, 1, 1)
    mean_pixels = torch.tensor(mean, device=pixels.device).view(shape) * 255
    std_pixels = torch.tensor(std, device=pixels.device).view(shape) * 255
    return (pixels.float() - mean_pixels) / std_pixels
