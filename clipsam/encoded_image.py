"""An image with the features that methods and classes share, each computed once."""

from __future__ import annotations

import copy
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .data.images import ImageLike, as_pixels
from .geometry import SquareTransform, normalize
from .models.clip import SurgeryVision, normalize_tokens
from .models.image_encoder import (
    apply_neck,
    attend_plainly,
    embed_patches,
    finish_plain_block,
    run_plain_blocks,
)
from .models.sizes import FeatureNorm
from .models.trunk import TrunkStem
from .weights.backbones import Backbones
from .weights.presets import Preset


class EncodedImage:
    """An image with a bounded cache of features; one per image and user, never shared."""

    def __init__(self, image: ImageLike, max_bytes: int = 512 * 2**20) -> None:
        """Start with an empty cache.

        Args:
            image: path, PIL image, or uint8 (H, W, 3), RGB.
            max_bytes: limit of the cache; the least recently used features are removed first.

        Raises:
            ImageError: not an image that can be used.
        """
        self._pixels = as_pixels(image)
        self.max_bytes = max_bytes
        self._features: OrderedDict[Hashable, Tensor] = OrderedDict()

    @property
    def image(self) -> np.ndarray:
        """The pixels, uint8 (H, W, 3), RGB."""
        return self._pixels

    def shows_same(self, other: EncodedImage) -> bool:
        """Return whether two images have the same pixels."""
        return np.array_equal(self.image, other.image)

    def without_features(self) -> EncodedImage:
        """Return the same image with an empty cache."""
        other = copy.copy(self)
        other._features = OrderedDict()
        return other

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), pixels."""
        return self.image.shape[:2]

    def known(self, key: Hashable) -> Tensor | None:
        """Return the tensor cached under ``key``, if any."""
        if key in self._features:
            self._features.move_to_end(key)
        return self._features.get(key)

    def cached(self, key: Hashable, compute: Callable[[], Tensor]) -> Tensor:
        """Return the tensor cached under ``key``, computing it on first use."""
        if key not in self._features:
            self._features[key] = compute()
        self._features.move_to_end(key)
        while len(self._features) > 1 and self._bytes() > self.max_bytes:
            self._features.popitem(last=False)
        return self._features[key]

    def to(self, device: torch.device) -> None:
        """Move all features to a device."""
        for key, tensor in self._features.items():
            self._features[key] = tensor.to(device)

    def _bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self._features.values())

    def sam_transform(self, preset: Preset) -> SquareTransform:
        """Return how this image lies in the preset's SAM input."""
        return SquareTransform(self.size, preset.sam.image_size, preset.fit)

    @torch.no_grad()
    def sam_tokens(self, backbones: Backbones, blocks: int) -> Tensor:
        """Return tokens (1, H, W, D) after the first ``blocks`` blocks of the plain SAM encoder.

        Continues from the deepest cached block, and caches the input of the block where the
        preset's adapted encoders branch off, together with its attention.
        """
        name = backbones.preset.name
        encoder = backbones.sam.image_encoder
        branch = len(encoder.blocks) - (backbones.preset.last_blocks or len(encoder.blocks))

        def compute() -> Tensor:
            if blocks > branch:
                self.sam_tokens(backbones, branch)
            for known in range(blocks - 1, -1, -1):
                tokens = self.known(("sam", name, known))
                if tokens is not None:
                    break
            else:
                known = 0
                pixels = sam_input(self.image, backbones.preset).to(backbones.device)
                pixels = self.stem_input(encoder.patch_embed.proj, pixels)
                with backbones.encoding():
                    tokens = embed_patches(encoder, pixels)
            compiled = backbones.compiled
            with backbones.encoding():
                if known == branch < blocks and not compiled:  # Compiled, a block is one piece.
                    attended = self.sam_attended(backbones, branch)
                    tokens = finish_plain_block(encoder.blocks[branch], tokens, attended)
                    known += 1
                return run_plain_blocks(encoder, tokens, known, blocks, compiled).float()

        return self.cached(("sam", name, blocks), compute)

    @torch.no_grad()
    def sam_attended(self, backbones: Backbones, block: int) -> Tensor:
        """Return what plain SAM's attention adds to its tokens in a block, (1, H, W, D)."""

        def compute() -> Tensor:
            tokens = self.sam_tokens(backbones, block)
            with backbones.encoding():
                return attend_plainly(backbones.sam.image_encoder.blocks[block], tokens).float()

        return self.cached(("sam attended", backbones.preset.name, block), compute)

    @torch.no_grad()
    def sam_embedding(self, backbones: Backbones) -> Tensor:
        """Return plain SAM's image embedding (1, 256, h, w)."""
        encoder = backbones.sam.image_encoder

        def compute() -> Tensor:
            tokens = self.sam_tokens(backbones, len(encoder.blocks))
            with backbones.encoding():
                return apply_neck(encoder, tokens).float()

        return self.cached(("sam embedding", backbones.preset.name), compute)

    @torch.no_grad()
    def clip_tokens(
        self,
        backbones: Backbones,
        vision: SurgeryVision,
        name: str,
        norm: FeatureNorm | None = None,
    ) -> Tensor:
        """Return normalised CLIP tokens (1, 1 + N, T), CLS first, of the image resized to a square.

        Args:
            backbones: the preset's networks.
            vision: the vision tower: the preset's own, or a method's tuned copy.
            name: cache key of the tower.
            norm: see :func:`~clipsam.models.clip.normalize_tokens`; ``None`` for the preset's.
        """
        preset = backbones.preset
        norm = norm or preset.feature_norm

        def compute() -> Tensor:
            stem = vision.vision_model.embeddings.patch_embedding
            pixels = clip_input(self.image, preset).to(backbones.device)
            tokens = vision(self.stem_input(stem, pixels))
            return normalize_tokens(tokens, norm)

        return self.cached(("clip", preset.name, name, norm), compute)

    def stem_input(self, stem: nn.Module, pixels: Tensor) -> Tensor:
        """Return the input of a network's first layer for this image.

        Args:
            stem: that layer.
            pixels: the image, prepared for the network.

        Returns:
            The pixels; or, where tokens come from a trunk, its features of them, computed once for
            all networks that see the image alike.
        """
        if not isinstance(stem, TrunkStem):
            return pixels
        content = pixels.cpu().contiguous().numpy().data
        digest = hashlib.blake2b(content, digest_size=16).digest()
        return self.cached(("trunk", digest), lambda: stem.trunk(pixels))


def clip_input(image: np.ndarray, preset: Preset) -> Tensor:
    """Resize to a square and normalise for CLIP: uint8 (H, W, 3) → (1, 3, R, R)."""
    side = preset.clip.surgery_size
    if preset.clip_from_sam_input:
        return F.interpolate(sam_input(image, preset), (side, side), mode="bilinear")
    square = SquareTransform(image.shape[:2], side, "squash")
    return normalize(_to_tensor(square.image(image)), preset.clip_mean, preset.clip_std)


def sam_input(image: np.ndarray, preset: Preset) -> Tensor:
    """Resize, normalise and zero-pad for SAM: uint8 (H, W, 3) → (1, 3, S, S)."""
    transform = SquareTransform(image.shape[:2], preset.sam.image_size, preset.fit)
    pixels = normalize(_to_tensor(transform.image(image)), preset.sam_mean, preset.sam_std)
    height, width = transform.content
    return F.pad(pixels, (0, transform.side - width, 0, transform.side - height))


def _to_tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None]
