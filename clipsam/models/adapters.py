"""Adapters that sit inside SAM's image encoder.

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
    """What CLIP tells the image encoder about one (image, class) pair; B pairs at once.

    Attributes:
        text: float (B, T), unit-norm class text features.
        vision: float (B, T, h, w), what the adapters see of CLIP's patches, on CLIP's own grid:
            features, the class similarity on every channel, or their sum; ``None`` for text-only
            adapters (SAM-PTx).
        sampling_grid: float (B, H, W, 2) in [-1, 1], where on CLIP's grid each cell of SAM's grid
            lies, as (x, y) for ``grid_sample``; ``None`` when both grids span the same picture.
    """

    text: Tensor
    vision: Tensor | None = None
    sampling_grid: Tensor | None = None


class Adapter(nn.Module):
    """Bottleneck adapter W2 GELU(W1 x + b1) + b2, optionally conditioned on text and vision.

    With text the input becomes ``x + GELU(W_t t)`` (SAM-PTx); with vision as well, it becomes
    ``x + GELU(W_t t) + up(W_v e)`` where e are CLIP's patch features plus the similarity
    (CLIP-Guided SAM, section 3.3).
    """

    def __init__(
        self, dim: int, semantic_dim: int = 0, text: bool = False, vision: bool = False
    ) -> None:
        """
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

    def forward(self, x: Tensor, condition: SemanticCondition | None = None) -> Tensor:
        """x: (B, H, W, dim) → (B, H, W, dim)."""
        injected = x
        if self.text_projection is not None:
            if condition is None:
                raise ValueError("this adapter is conditioned on text: pass a SemanticCondition")
            injected = injected + F.gelu(self.text_projection(condition.text))[:, None, None]
        if self.vision_projection is not None:
            injected = injected + self._project_vision(condition, x.shape[1:3])
        return self.up(F.gelu(self.down(injected)))

    def _project_vision(self, condition: SemanticCondition, grid: torch.Size) -> Tensor:
        """Project on CLIP's coarse grid first, then resample to SAM's: same sum, fewer products."""
        projected = self.vision_projection(condition.vision.permute(0, 2, 3, 1))
        projected = projected.permute(0, 3, 1, 2)
        if condition.sampling_grid is None:
            resampled = F.interpolate(projected, tuple(grid), mode="bilinear", align_corners=False)
        else:
            resampled = F.grid_sample(
                projected,
                condition.sampling_grid.to(projected.dtype),
                mode="bilinear",
                padding_mode="border",
                align_corners=False,
            )
        return resampled.permute(0, 2, 3, 1)


class LoraQkv(nn.Module):
    """Low-rank updates of q and v beside a frozen fused qkv projection (no scaling, SU-SAM)."""

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
        """x: (..., dim) → (..., 3 · dim)."""
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        query = query + self.query_up(self.query_down(x))
        value = value + self.value_up(self.value_down(x))
        return torch.cat((query, key, value), dim=-1)
