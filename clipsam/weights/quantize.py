"""Quantized weights: differences from other weights in 4 bits, own weights in 8 bits.

The four million weights of a tuned mask decoder differ little from the original. Stored as
differences, a bundle takes a quarter of its half-precision size, so many fit in the repository.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

GROUP = 64
"""Number of weights that share a scale."""


def quantize(weights: Tensor, bits: Literal[4, 8]) -> tuple[Tensor, Tensor]:
    """Quantize weights of any shape to 15 or 255 levels per group of 64.

    Returns:
        Codes uint8, (groups, 32), two to a byte, or (groups, 64), and scales float16 (groups,).
    """
    most = 2 ** (bits - 1) - 1
    flat = weights.detach().float().flatten()
    groups = F.pad(flat, (0, -len(flat) % GROUP)).view(-1, GROUP)
    scales = (groups.abs().amax(1) / most).half()
    steps = groups / scales.float().clamp(min=torch.finfo(torch.float16).tiny)[:, None]
    codes = (steps.round().clamp(-most, most) + most + 1).to(torch.uint8)
    return codes if bits == 8 else codes[:, ::2] << 4 | codes[:, 1::2], scales


def dequantize(codes: Tensor, scales: Tensor, shape: torch.Size) -> Tensor:
    """Restore the result of :func:`quantize`: float32 of ``shape``.

    Raises:
        ValueError: the shape has another number of weights.
    """
    if len(codes) != -(-shape.numel() // GROUP):
        raise ValueError(
            f"{len(codes)} groups of {GROUP} weights do not fit the shape {tuple(shape)}"
        )
    middle = 128
    if codes.shape[1] < GROUP:
        codes, middle = torch.stack((codes >> 4, codes & 15), dim=-1).flatten(1), 8
    steps = codes.float() - middle
    return (steps * scales.float()[:, None]).flatten()[: shape.numel()].view(shape)
