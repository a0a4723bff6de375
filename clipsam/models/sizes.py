"""Sizes of SAM and CLIP, without the networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FeatureNorm = Literal["cosine", "reference"]
"""How CLIP's features are normalised before they meet the text."""


@dataclass(frozen=True)
class SamConfig:
    """Sizes of a SAM; the defaults are ViT-B's.

    Attributes:
        image_size: side of the square input, pixels.
        patch_size: side of a patch, pixels.
        embed_dim, depth, num_heads: of the image encoder.
        global_blocks: indices of the blocks with global attention; the others use windows.
        window_size: side of a window, in tokens.
        trunk_strides: of the levels of a frozen convolutional trunk that tokens are projected
            from; none of them means that tokens are projected from patches of pixels.
    """

    image_size: int = 1024
    patch_size: int = 16
    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    global_blocks: tuple[int, ...] = (2, 5, 8, 11)
    window_size: int = 14
    trunk_strides: tuple[int, ...] = ()

    @property
    def mask_side(self) -> int:
        """Side of SAM's low-resolution masks and of its mask prompt."""
        return 4 * self.image_size // self.patch_size


@dataclass(frozen=True)
class ClipSizes:
    """Sizes of a CLIP; the defaults are ViT-B/16's.

    Attributes:
        image_size: side of the image at which it was trained, pixels.
        surgery_size: side at which dense features are read, pixels.
        surgery_layers: number of last vision layers with the value-value path.
        trunk_strides: of the levels of a frozen convolutional trunk that tokens are projected
            from; none of them means that tokens are projected from patches of pixels.
        text_tower: CLIP's own, or a ``sentence`` encoder whose space is the joint one.
    """

    image_size: int = 224
    surgery_size: int = 512
    patch_size: int = 16
    projection_dim: int = 512
    vision_width: int = 768
    vision_layers: int = 12
    vision_heads: int = 12
    text_width: int = 512
    text_layers: int = 12
    text_heads: int = 8
    vocab_size: int = 49408
    context_length: int = 77
    surgery_layers: int = 6
    trunk_strides: tuple[int, ...] = ()
    text_tower: Literal["clip", "sentence"] = "clip"
