"""Adapters inside SAM's image encoder.

Sources: SU-SAM (plain adapters, LoRA), SAM-PTx (arXiv 2508.00213, text adapter) and
CLIP-Guided SAM (arXiv 2605.24807, section 3.3, semantic adapter).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class SemanticCondition:
    """CLIP's features of B (image, class) pairs that condition the image encoder.

    Attributes:
        text: float (B, T), unit-norm class text features.
        vision: float (B, T, h, w), CLIP's patch features, on its own grid, if adapters see them.
        similarity: float (B, h, w), of the class with each patch, if adapters see it: they see it
            on every channel of ``vision``.
        sampling_grid: float (B, H, W, 2) in [-1, 1], where on CLIP's grid each cell of SAM's grid
            lies, as (x, y) for ``grid_sample``; ``None`` when both grids span the same picture.
    """

    text: Tensor
    vision: Tensor | None = None
    similarity: Tensor | None = None
    sampling_grid: Tensor | None = None


class Adapter(nn.Module):
    """Bottleneck adapter W2 GELU(W1 x + b1) + b2, optionally conditioned on text and vision.

    With text the input becomes ``x + GELU(W_t t)`` (SAM-PTx); with vision as well, it becomes
    ``x + GELU(W_t t) + up(W_v (V + s))`` where V are CLIP's patch features and s their similarity
    with the class (CLIP-Guided SAM, section 3.3).

    As W1 is linear, each term goes through it on its own: W1 up(W_v V) is the same for all classes
    of an image, and the similarity, equal on all channels, is a map times one vector.
    """

    def __init__(
        self, dim: int, semantic_dim: int = 0, text: bool = False, vision: bool = False
    ) -> None:
        """Build the layers.

        Args:
            dim: channels of the tokens; the bottleneck has ``dim // 4``.
            semantic_dim: channels of CLIP's joint embedding space; used with text or vision.
            text: add the projected class text.
            vision: add the projected CLIP patch features.
        """
        super().__init__()
        self.down = nn.Linear(dim, dim // 4)
        self.up = nn.Linear(dim // 4, dim)
        self.text_projection = nn.Linear(semantic_dim, dim) if text else None
        self.vision_projection = nn.Linear(semantic_dim, dim) if vision else None

    def forward(
        self, x: Tensor, condition: SemanticCondition | None = None, patches: Tensor | None = None
    ) -> Tensor:
        """Apply to tokens (B, H, W, dim), keeping the shape.

        Args:
            x: tokens.
            condition: needed by an adapter with text or vision.
            patches: what :meth:`see_patches` says of the condition's ``vision``, if known already.
        """
        hidden = self.down(x)
        if condition is None:
            if self.text_projection is not None or self.vision_projection is not None:
                raise ValueError("this adapter is conditioned, expected a SemanticCondition")
            return self.up(F.gelu(hidden))
        if self.text_projection is not None:
            text = F.gelu(self.text_projection(condition.text))
            hidden = hidden + F.linear(text, self.down.weight)[:, None, None]
        if self.vision_projection is not None:
            grid = x.shape[1], x.shape[2]
            if patches is None:
                patches = self.see_patches(condition.vision, condition.sampling_grid, grid)
            hidden = hidden + patches
            if condition.similarity is not None:
                map_ = condition.similarity[:, None]
                direction = self.down.weight @ self.vision_projection.weight.sum(1)
                hidden = hidden + _resample(map_, condition.sampling_grid, grid) * direction
        return self.up(F.gelu(hidden))

    def see_patches(
        self, vision: Tensor | None, sampling_grid: Tensor | None, grid: tuple[int, int]
    ) -> Tensor:
        """Project CLIP's patches to the bottleneck, independent of the class: (B, H, W, dim // 4).

        Without ``vision`` only the projection's bias is left, the same everywhere: (1, 1, 1, …).
        Projected on CLIP's coarse grid and resampled to SAM's afterwards: the same sum, fewer
        products.
        """
        if self.vision_projection is None:
            raise ValueError("this adapter does not see patches")
        if vision is None:
            return F.linear(self.vision_projection.bias, self.down.weight)[None, None, None]
        projected = self.vision_projection(vision.permute(0, 2, 3, 1))
        projected = F.linear(projected, self.down.weight).permute(0, 3, 1, 2)
        return _resample(projected, sampling_grid, grid)


def _resample(maps: Tensor, sampling_grid: Tensor | None, grid: tuple[int, int]) -> Tensor:
    """Resample maps from CLIP's grid (B, C, h, w) to SAM's (B, H, W, C)."""
    if sampling_grid is None:
        resampled = F.interpolate(maps, grid, mode="bilinear", align_corners=False)
    else:
        resampled = F.grid_sample(
            maps,
            sampling_grid.to(maps.dtype),
            mode="bilinear",
            padding_mode="border",
            align_corners=False,
        )
    return resampled.permute(0, 2, 3, 1)


class LoraQkv(nn.Module):
    """Low-rank updates of q and v in a frozen fused qkv projection (no scaling, SU-SAM)."""

    def __init__(self, qkv: nn.Linear, rank: int) -> None:
        super().__init__()
        dim = qkv.in_features
        self.qkv = qkv
        self.query_down = nn.Linear(dim, rank, bias=False)
        self.query_up = nn.Linear(rank, dim, bias=False)
        self.value_down = nn.Linear(dim, rank, bias=False)
        self.value_up = nn.Linear(rank, dim, bias=False)
        nn.init.zeros_(self.query_up.weight)
        nn.init.zeros_(self.value_up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Project tokens (..., dim) to (..., 3 · dim)."""
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        query = query + self.query_up(self.query_down(x))
        value = value + self.value_up(self.value_down(x))
        return torch.cat((query, key, value), dim=-1)
