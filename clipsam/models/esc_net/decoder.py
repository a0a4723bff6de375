"""ESC-Net's decoder: a class's state on CLIP's grid → its logits at four times that resolution.

Paper: the mask decoder; skip features as in CAT-Seg (arXiv 2303.11797).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn


class SkipFeatures(nn.Sequential):
    """An earlier layer of CLIP (B, W, h, w), upsampled and projected: (B, C, scale·h, scale·w)."""

    def __init__(self, in_channels: int, middle: int, out_channels: int, scale: int) -> None:
        super().__init__(
            nn.ConvTranspose2d(in_channels, middle, scale, stride=scale),
            nn.Conv2d(middle, out_channels, 3, padding=1),
            nn.ReLU(),
        )


class DoubleConv(nn.ModuleList):
    """Two convolutions of [x; skip] with group normalisation of 16 channels."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        layers: list[nn.Module] = []
        for channels in (in_channels, out_channels):
            layers += [
                nn.Conv2d(channels, out_channels, 3, padding=1, bias=False),
                nn.GroupNorm(out_channels // 16, out_channels),
                nn.ReLU(),
            ]
        super().__init__(layers)

    def read_skip(self, skip: Tensor) -> Tensor:
        """Compute the contribution of a skip feature (B, C, h, w) to the first convolution.

        It is the same for all of them, and a convolution of [x; skip] is a sum.
        """
        weight = cast(nn.Conv2d, self[0]).weight
        return F.conv2d(skip, weight[:, -skip.shape[1] :], padding=1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Apply to x (B · n, in − C, h, w) and a skip's contribution → (B · n, out, h, w)."""
        first, *others = self
        weight = cast(nn.Conv2d, first).weight
        x = F.conv2d(x, weight[:, : x.shape[1]], padding=1)
        x = (x.unflatten(0, (len(skip), -1)) + skip[:, None]).flatten(0, 1)
        for layer in others:
            x = layer(x)
        return x


class Decoder(nn.Module):
    """Two stages of upsampling by 2, skip feature and convolution; then one logit per cell."""

    def __init__(self, hidden: int, skip_channels: int) -> None:
        """Build the layers.

        Args:
            hidden: channels of a class's state.
            skip_channels: W, width of CLIP's vision tower.
        """
        super().__init__()
        self.skips = nn.ModuleList(
            (SkipFeatures(skip_channels, 256, 32, 2), SkipFeatures(skip_channels, 128, 16, 4))
        )
        self.convolutions = nn.ModuleList((DoubleConv(hidden + 32, 64), DoubleConv(64 + 16, 32)))
        self.head = nn.Conv2d(32, 1, 3, padding=1)

    def read_skips(self, skips: tuple[Tensor, Tensor]) -> list[Tensor]:
        """Prepare CLIP's skip features (B, W, h, w) for :meth:`forward`, once for all classes."""
        convolutions = cast(Iterable[DoubleConv], self.convolutions)
        return [
            convolve.read_skip(read(features))
            for read, convolve, features in zip(self.skips, convolutions, skips, strict=True)
        ]

    def forward(self, state: Tensor, skips: list[Tensor]) -> Tensor:
        """Decode state E (B, n, h, w, C) to logits (B, n, 4h, 4w)."""
        batch, classes = state.shape[:2]
        x = state.flatten(0, 1).permute(0, 3, 1, 2)
        for skip, convolve in zip(skips, self.convolutions, strict=True):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = convolve(x, skip)
        return self.head(x).unflatten(0, (batch, classes))[:, :, 0]
