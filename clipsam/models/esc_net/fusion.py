"""Vision-Language Fusion: attention of a class's map to the image, then to all classes' texts.

Paper: the Vision-Language Fusion module (VLF). Swin blocks and linear attention are CAT-Seg's
(arXiv 2303.11797).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from segment_anything.modeling.image_encoder import window_partition, window_unpartition
from torch import Tensor, nn

from ..sam_model import PROMPT_DIM
from .config import EscNetConfig

HEADS = 4


class JointLinear(nn.Linear):
    """W [x; y] + b, where y is shared by many x: its half is computed before it is repeated."""

    def join(self, x: Tensor, y: Tensor) -> Tensor:
        """Apply to x (..., C) and y (..., in_features − C), broadcast → (..., out_features)."""
        own, other = self.weight.split((x.shape[-1], y.shape[-1]), dim=1)
        return F.linear(x, own, self.bias) + F.linear(y, other)


class SwinBlock(nn.Module):
    """Window attention with queries and keys from the class's state and the image."""

    mask: Tensor | None

    def __init__(self, dim: int, guidance_dim: int, grid: int, window: int, shift: int) -> None:
        """Build the layers.

        Args:
            dim: channels of the state.
            guidance_dim: channels of the image features.
            grid, window, shift: in cells; with a shift, windows are moved by it.
        """
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(dim)
        self.query = JointLinear(dim + guidance_dim, dim)
        self.key = JointLinear(dim + guidance_dim, dim)
        self.value = nn.Linear(dim, dim)
        self.projection = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        mask = shifted_window_mask(grid, window, shift) if shift else None
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, state: Tensor, guidance: Tensor) -> Tensor:
        """Apply to state (B, n, h, w, C) and guidance (B, 1, h, w, G) → (B, n, h, w, C)."""
        attended = self._attend(self._windows(self.norm1(state)), self._windows(guidance))
        state = state + self.projection(self._cells(attended, state.shape))
        return state + self.mlp(self.norm2(state))

    def _attend(self, hidden: Tensor, guidance: Tensor) -> Tensor:
        """Attend within each window: (B, n, windows, L, C), (B, 1, windows, L, G) → first shape."""
        query, key, value = self._project(hidden, guidance)
        if self.mask is None:
            query, key, value = (x.flatten(0, 2).transpose(1, 2) for x in (query, key, value))
            mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
        else:
            # Windows as further heads, so that one mask serves all rows.
            query, key, value = (
                x.flatten(0, 1).transpose(2, 3).flatten(1, 2) for x in (query, key, value)
            )
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=self.mask)
            mixed = mixed.unflatten(1, (-1, HEADS)).transpose(2, 3)
        return mixed.reshape(hidden.shape)

    def _project(self, hidden: Tensor, guidance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project queries, keys and values (B, n, windows, L, heads, C / heads) at once."""
        dim = hidden.shape[-1]
        joint = torch.cat((self.query.weight, self.key.weight))
        own, other = joint.split((dim, guidance.shape[-1]), dim=1)
        bias = torch.cat((self.query.bias, self.key.bias, self.value.bias))
        projected = F.linear(hidden, torch.cat((own, self.value.weight)), bias)
        seeing, value = projected.split((2 * dim, dim), dim=-1)
        query, key = (seeing + F.linear(guidance, other)).chunk(2, dim=-1)
        query, key, value = (x.unflatten(-1, (HEADS, -1)) for x in (query, key, value))
        return query, key, value

    def _windows(self, x: Tensor) -> Tensor:
        """Split (B, n, h, w, C) into (B, n, windows, L, C), L cells per window."""
        if self.shift:
            x = x.roll((-self.shift, -self.shift), dims=(2, 3))
        windows, _ = window_partition(x.flatten(0, 1), self.window)
        return windows.flatten(1, 2).unflatten(0, (*x.shape[:2], -1))

    def _cells(self, windows: Tensor, shape: torch.Size) -> Tensor:
        """Merge windows; inverts :meth:`_windows`."""
        size = tuple(shape[2:4])
        sides = self.window, self.window
        x = window_unpartition(windows.flatten(0, 2).unflatten(1, sides), self.window, size, size)
        x = x.view(shape)
        return x.roll((self.shift, self.shift), dims=(2, 3)) if self.shift else x


def shifted_window_mask(grid: int, window: int, shift: int) -> Tensor:
    """Return which cells of a shifted window may attend to each other: previous neighbours.

    Shifting rolls the far edge of the image next to the near one.

    Returns:
        bool (1, windows · heads, L, L); of fewer dimensions, torch would take a slower way.
    """
    steps = torch.arange(grid)
    band = (steps >= grid - window).int() + (steps >= grid - shift).int()
    region = (3 * band[:, None] + band)[None, ..., None]
    region = window_partition(region, window)[0].flatten(1)
    same = region[:, :, None] == region[:, None, :]
    return same.repeat_interleave(HEADS, dim=0)[None]


class SwinPair(nn.Module):
    """Two Swin blocks, the second with windows shifted by half, guided by the image."""

    def __init__(self, dim: int, guidance_dim: int, grid: int, window: int) -> None:
        super().__init__()
        # One window that spans the image has no neighbour to shift towards.
        shift = window // 2 if window < grid else 0
        self.blocks = nn.ModuleList(
            SwinBlock(dim, guidance_dim, grid, window, s) for s in (0, shift)
        )

    def forward(self, state: Tensor, guidance: Tensor) -> Tensor:
        """Apply to state (B, n, h, w, C) and guidance (B, 1, h, w, G) → (B, n, h, w, C)."""
        for block in self.blocks:
            state = block(state, guidance)
        return state


@dataclass(frozen=True)
class ClassMemory:
    """Summary of all classes for linear attention, of constant size.

    Attributes:
        values: S, mean of φ(k) vᵀ, float32 (heads, C / heads, C / heads).
        keys: z, mean of φ(k), float32 (heads, C / heads).
    """

    values: Tensor
    keys: Tensor


class ClassAttention(nn.Module):
    """Linear attention of every cell to the texts of all classes.

    Keys and values are the text features, without position: so the classes may come in any number
    and order, and what they say is summed up once for all cells.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.query = JointLinear(2 * dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.projection = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.ReLU(), nn.Linear(4 * dim, dim))

    def remember(self, words: Tensor) -> ClassMemory:
        """Summarise t of all classes (N_c, C); averages make it independent of N_c."""
        key, value = (f(words).float().unflatten(1, (HEADS, -1)) for f in (self.key, self.value))
        key = _feature(key)
        with torch.autocast(words.device.type, enabled=False):
            values = torch.einsum("nhc,nhd->hcd", key, value) / len(words)
        return ClassMemory(values, key.mean(0))

    def forward(self, state: Tensor, words: Tensor, memory: ClassMemory) -> Tensor:
        """Apply to state (B, n, h, w, C) and words t (n, C) of its classes → (B, n, h, w, C)."""
        query = _feature(self.query.join(self.norm1(state), words[:, None, None]).float())
        with torch.autocast(state.device.type, enabled=False):
            # All heads in one multiplication: zeros are cheaper than laying heads apart.
            read = query @ torch.block_diag(*memory.values)
            weight = query @ torch.block_diag(*memory.keys[..., None])
            read = read.unflatten(-1, (HEADS, -1)) / (weight + 1e-6)[..., None]
        state = state + self.projection(read.flatten(-2))
        return state + self.mlp(self.norm2(state))


def _feature(x: Tensor) -> Tensor:
    """Compute φ of linear attention: positive everywhere."""
    return F.elu(x) + 1


class VisionLanguageFusion(nn.Module):
    """Fusion of one block: E^{k-1}, M^{k-1} → E^k, M^k of each class."""

    def __init__(self, config: EscNetConfig, grid: int, last: bool) -> None:
        """Build the layers.

        Args:
            config: of the network.
            grid: side of CLIP's grid, cells.
            last: whether it is the last block, without a next map.
        """
        super().__init__()
        dim = config.hidden
        self.embed = nn.Linear(1, dim)
        self.guidance_norm = nn.LayerNorm(PROMPT_DIM)
        self.spatial = SwinPair(dim, PROMPT_DIM, grid, config.window)
        self.classes = ClassAttention(dim)
        self.next_map = None
        if not last:  # at first, maps stay CLIP's own
            self.next_map = nn.Linear(dim, 1)
            nn.init.zeros_(self.next_map.weight)
            nn.init.zeros_(self.next_map.bias)

    def forward(
        self, state: Tensor, maps: Tensor, guidance: Tensor, words: Tensor, memory: ClassMemory
    ) -> tuple[Tensor, Tensor]:
        """Process one chunk of n classes; others enter through ``guidance`` and ``memory`` only.

        Args:
            state: E^{k-1} (B, n, h, w, C), in addition to the map, so that a class is not reduced
                to one channel between blocks; 0 before the first.
            maps: M^{k-1}, float32 (B, n, h, w).
            guidance: F'_v (B, 256, h, w).
            words: t (n, C).
            memory: of all classes.

        Returns:
            E^k, and M^k in float32; M^{k-1} again after the last block.
        """
        state = state + self.embed(maps[..., None])
        guidance = self.guidance_norm(guidance.permute(0, 2, 3, 1))[:, None]
        state = self.spatial(state, guidance)
        state = self.classes(state, words, memory)
        if self.next_map is not None:
            maps = maps + self.next_map(state)[..., 0].float()
        return state, maps
