"""A frozen convolutional trunk as the stem of small vision transformers, SAM's and CLIP's alike.

Hybrid ViT (Dosovitskiy et al. 2021, section 3.1): tokens are projections of a convolutional
network's features, not of pixels. The network is timm's EfficientNet-Lite2; only the bundled
preset has it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..memory import LRUCache

ARCHITECTURE = "tf_efficientnet_lite2"
"""timm's name of the trunk's network."""

LEVELS = {4: 24, 8: 48, 16: 120, 32: 352}
"""Channels of the features that are read, by their stride in pixels."""

STRIDE = 32
"""Pixels of a cell of the packed features."""

HEAD_CHANNELS = 1280
"""Channels of the network's head, on which its classifier acts."""


class Trunk(nn.Module):
    """EfficientNet-Lite2 up to its last stage, frozen, its normalisation folded into its weights.

    Its features of four strides are packed into one tensor, so that they pass wherever an image
    does. Copies of a network that holds it share it: see :meth:`__deepcopy__`.
    """

    def __init__(self) -> None:
        super().__init__()
        import timm  # Only the bundled preset has a trunk: others need not wait for it.

        self.network = timm.create_model(
            ARCHITECTURE, features_only=True, out_indices=(1, 2, 3, 4), exportable=True
        )
        fold_batch_norms(self.network.eval())
        self.network.to(memory_format=torch.channels_last)
        self.requires_grad_(False)
        self._memory: LRUCache[Tensor] | None = None

    def __deepcopy__(self, memo: dict) -> Trunk:
        """Itself: frozen weights exist once, however many copies are tuned of what is above."""
        return self

    def remember(self, images: int) -> None:
        """Keep the features of so many images in half precision, for training that repeats them."""
        self._memory = LRUCache(images)

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised images (B, 3, S, S), S divisible by 32 → (B, 3136, S / 32, S / 32).

        Finer levels are laid into channels: first those of strides 4, 8 and 16 into cells of 16
        pixels, then these, four by four, into cells of 32. Coarser levels' channels come later, so
        that who reads coarse levels alone needs only the last channels.
        """
        if self._memory is None:
            return self._compute(pixels)
        features = [
            self._memory.get(_digest(image), partial(self._compute_half, image[None])).float()
            for image in pixels
        ]
        return torch.cat(features)

    def _compute_half(self, pixels: Tensor) -> Tensor:
        return self._compute(pixels).half()

    def _compute(self, pixels: Tensor) -> Tensor:
        *fine, coarse = self.network(pixels.contiguous(memory_format=torch.channels_last))
        strides = list(LEVELS)
        cells = [F.pixel_unshuffle(x, 16 // s) for x, s in zip(fine, strides, strict=False)]
        return torch.cat((F.pixel_unshuffle(torch.cat(cells, 1), 2), coarse), 1).contiguous()


class TrunkStem(nn.Module):
    """Projects a trunk's features to tokens, in the place of a patch embedding's convolution.

    Attributes:
        stride: (rows, columns) of pixels that a token stands for, as a convolution's.
    """

    def __init__(self, trunk: Trunk, dim: int, patch_size: int, strides: Sequence[int]) -> None:
        """Build the layers.

        Args:
            trunk: shared, frozen.
            dim: channels of a token.
            patch_size: side of a token in pixels, 16 or 32.
            strides: levels that are read: the coarsest, and any finer ones without a gap.

        Raises:
            ValueError: other strides or another patch size.
        """
        super().__init__()
        if patch_size not in (16, 32) or tuple(strides) not in _suffixes(tuple(LEVELS)):
            raise ValueError(
                f"a token should be 16 or 32 pixels wide and read the last of {tuple(LEVELS)}, "
                f"got {patch_size} and {tuple(strides)}"
            )
        self.trunk = trunk
        self.stride = (patch_size, patch_size)
        finer = [s for s in strides if s < STRIDE]
        # Packed channels that are read of the finer levels: the last but for the coarsest's.
        self.fine_channels = sum(LEVELS[s] * (STRIDE // s) ** 2 for s in finer)
        self.fine = None
        if finer:
            self.fine = nn.Conv2d(self.fine_channels // (STRIDE // patch_size) ** 2, dim, 1)
        self.coarse = nn.Conv2d(LEVELS[STRIDE], dim, 1)

    @property
    def weight(self) -> Tensor:
        """Tells transformers in which type it computes."""
        return self.coarse.weight

    def see(self, images: Tensor) -> Tensor:
        """Return the trunk's packed features of normalised images, or of packed features."""
        return self.trunk(images) if images.shape[1] == 3 else images

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, S, S), or what the trunk says of them → (B, dim, h, w)."""
        features = self.see(images)
        tokens = self.coarse(features[:, -LEVELS[STRIDE] :])
        factor = STRIDE // self.stride[0]
        if factor > 1:
            tokens = F.interpolate(tokens, scale_factor=factor, mode="bilinear")
        if self.fine is not None:
            fine = features[:, -LEVELS[STRIDE] - self.fine_channels : -LEVELS[STRIDE]]
            tokens = tokens + self.fine(F.pixel_shuffle(fine, factor))
        return tokens


class SemanticSkip(nn.Module):
    """The trunk's own classifier head, mapped into the space of class texts; frozen.

    A cell's head features h say what the trunk's classifier W would call it. With texts T of W's
    class names, A = (TᵀT + λI)⁻¹TᵀW sends h to where those names lie; it is added to what the
    transformer finds, so that names which no mask taught keep their meaning.
    """

    def __init__(self, dim: int) -> None:
        """``dim``: of the text space."""
        super().__init__()
        self.head = nn.Conv2d(LEVELS[STRIDE], HEAD_CHANNELS, 1)
        self.project = nn.Linear(HEAD_CHANNELS, dim, bias=False)
        self.requires_grad_(False)

    def __deepcopy__(self, memo: dict) -> SemanticSkip:
        """Itself, see :class:`Trunk`."""
        return self

    def head_features(self, features: Tensor) -> Tensor:
        """Packed features (B, 3136, h, w) → h of every cell (B, h·w, 1280), row by row."""
        cells = F.relu6(self.head(features[:, -LEVELS[STRIDE] :]))
        return cells.flatten(2).transpose(1, 2)

    def forward(self, features: Tensor) -> Tensor:
        """Packed features (B, 3136, h, w) → (B, 1 + h·w, dim): of their mean, and of every cell."""
        cells = self.head_features(features)
        return self.project(torch.cat((cells.mean(1, keepdim=True), cells), 1))


class SemanticStem(TrunkStem):
    """A :class:`TrunkStem` for CLIP, with a skip from the trunk's head into the joint space."""

    def __init__(
        self, trunk: Trunk, dim: int, patch_size: int, strides: Sequence[int], joint: int
    ) -> None:
        """``joint``: channels of the joint space; the others as in :class:`TrunkStem`."""
        super().__init__(trunk, dim, patch_size, strides)
        self.skip = SemanticSkip(joint)


def fold_batch_norms(module: nn.Module) -> None:
    """Fold every batch normalisation of a network in evaluation mode into the convolution before.

    timm's normalisation layers apply the activation too, which stays in their place.
    """
    last: tuple[str, nn.Module] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and last and isinstance(last[1], nn.Conv2d):
            setattr(module, last[0], fuse_conv_bn_eval(last[1], child))
            setattr(module, name, child.act)
            last = None
        else:
            fold_batch_norms(child)
            last = name, child


def own_state(module: nn.Module) -> dict[str, Tensor]:
    """Return a network's state without its trunk, which has a bundle of its own."""
    return {name: t for name, t in module.state_dict().items() if ".trunk." not in name}


def _digest(pixels: Tensor) -> bytes:
    return hashlib.blake2b(pixels.cpu().contiguous().numpy().data, digest_size=16).digest()


def _suffixes(values: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [values[start:] for start in range(len(values))]
