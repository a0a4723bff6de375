"""Tuned weights as small differences from the weights that they were tuned from, in 4 bits.

A tuned mask decoder has four million weights, nearly what it was before. Stored as differences,
a bundle takes a quarter of its half-precision size, and many of them fit in the repository.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

GROUP = 64
"""Weights that share a scale."""

LEVELS = 7
"""Steps on either side of zero: −7 … 7."""


def pack(difference: Tensor) -> tuple[Tensor, Tensor]:
    """Round a difference of any shape to 15 levels per group of 64 weights.

    Returns:
        Codes uint8 (groups, 32), two to a byte, and scales float16 (groups,).
    """
    flat = difference.detach().float().flatten()
    groups = F.pad(flat, (0, -len(flat) % GROUP)).view(-1, GROUP)
    scales = (groups.abs().amax(1) / LEVELS).half()
    steps = groups / scales.float().clamp(min=torch.finfo(torch.float16).tiny)[:, None]
    codes = (steps.round().clamp(-LEVELS, LEVELS) + LEVELS + 1).to(torch.uint8)
    return codes[:, ::2] << 4 | codes[:, 1::2], scales


def unpack(codes: Tensor, scales: Tensor, shape: torch.Size) -> Tensor:
    """What :func:`pack` stored: float32 of ``shape``.

    Raises:
        ValueError: the shape has another number of weights.
    """
    if len(codes) != -(-shape.numel() // GROUP):
        raise ValueError(f"{len(codes)} groups of {GROUP} weights cannot be {tuple(shape)}")
    pairs = torch.stack((codes >> 4, codes & 15), dim=-1).flatten(1)
    steps = pairs.float() - (LEVELS + 1)
    return (steps * scales.float()[:, None]).flatten()[: shape.numel()].view(shape)
