"""SAM's image encoder with adapters and semantic conditioning, on segment-anything's modules.

An adapted encoder *borrows* the modules of a plain encoder: the frozen weights exist once in
memory however many methods use them, and state-dict names stay those of published checkpoints.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal, cast

import torch
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import Attention, Block
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .adapters import Adapter, LoraQkv, SemanticCondition
from .attention import attend

MLP_TOKENS = 1024
"""Tokens per MLP call on a CPU, which limits its hidden layer to 13 MB."""


@dataclass(frozen=True)
class AdapterConfig:
    """Placement of adapters in the encoder.

    Attributes:
        layout: ``parallel`` (to attention and MLP), ``series`` (after both), ``mix`` (after
            attention, parallel to the MLP) or ``lora`` (inside q and v).
        text: the MLP adapter sees the class text (SAM-PTx, CLIP-Guided SAM).
        vision: the MLP adapter sees CLIP's patch features (CLIP-Guided SAM).
        similarity: the MLP adapter sees the class's similarity, on every channel of what it sees
            of CLIP's patches (CLIP-Guided SAM, U = V + s).
        block: ``preserving`` starts exactly as SAM (SAM's norm order, zero-initialised
            up-projections); ``reference`` reproduces the authors' code to the letter: windows
            are cut before the first norm, and attention is scaled by 1.5.
        last_blocks: adapt only the last S blocks (the paper's Table 7); ``None`` adapts all.
            Everything before them is plain SAM, shared by every class and method.
        semantic_dim: channels of CLIP's joint space.
        lora_rank: rank of the updates with ``layout="lora"``.
    """

    layout: Literal["parallel", "series", "mix", "lora"] = "parallel"
    text: bool = False
    vision: bool = False
    similarity: bool = False
    block: Literal["preserving", "reference"] = "preserving"
    last_blocks: int | None = None
    semantic_dim: int = 512
    lora_rank: int = 4

    @property
    def sees_patches(self) -> bool:
        """Whether adapters use features on CLIP's grid."""
        return self.vision or self.similarity

    @property
    def sees_class(self) -> bool:
        """Whether the image embedding depends on the class."""
        return self.text or self.sees_patches

    @property
    def attends_plainly(self) -> bool:
        """Whether attention is unchanged, with all adapters after it."""
        return self.layout != "lora" and self.block == "preserving"


class AdaptedBlock(nn.Module):
    """SAM's transformer block with one adapter at attention and one at the MLP, or with LoRA."""

    def __init__(self, block: Block, config: AdapterConfig) -> None:
        super().__init__()
        self.norm1 = block.norm1
        self.attn = block.attn
        self.norm2 = block.norm2
        self.mlp = block.mlp
        self.window_size = block.window_size
        self.layout = config.layout
        self.reference = config.block == "reference"
        if self.layout == "lora":
            self.attn = _with_lora(block.attn, config.lora_rank)
            return
        dim = block.norm1.normalized_shape[0]
        self.attention_adapter = Adapter(dim)
        self.mlp_adapter = Adapter(dim, config.semantic_dim, config.text, config.sees_patches)
        if not self.reference:
            for adapter in (self.attention_adapter, self.mlp_adapter):
                nn.init.zeros_(adapter.up.weight)
                nn.init.zeros_(adapter.up.bias)

    def forward(
        self, x: Tensor, condition: SemanticCondition | None = None, patches: Tensor | None = None
    ) -> Tensor:
        """Apply to tokens (B, H, W, D), keeping the shape; ``patches`` as in :class:`Adapter`."""
        return self.finish(*self.begin(x), condition, patches)

    def begin(self, x: Tensor, attended: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute the part of the block that does not depend on the class.

        Args:
            x: (B, H, W, D).
            attended: what :func:`attend_plainly` gives, if known already and the same here, see
                :class:`AdapterConfig`.

        Returns:
            The block's output but for its MLP adapter's share, and what that adapter reads, both
            (B, H, W, D).
        """
        if attended is None:
            # The reference pads before the norm, so that padding enters attention as norm1's bias.
            padding = self.norm1.bias if self.reference else None
            attended = attend(self.attn, self.norm1(x), self.window_size, padding)
        x = x + self._adapt_attention(attended)
        normed = self.norm2(x)
        hidden = _run_mlp(self.mlp, normed)
        if self.layout != "series":
            return x + hidden, normed
        return x if self.reference else x + hidden, hidden

    def finish(
        self,
        x: Tensor,
        read: Tensor,
        condition: SemanticCondition | None,
        patches: Tensor | None,
    ) -> Tensor:
        """Complete the result of :meth:`begin` for a class → (B, H, W, D)."""
        if self.layout == "lora":
            return x
        return x + 0.5 * self.mlp_adapter(read, condition, patches)

    def _adapt_attention(self, attended: Tensor) -> Tensor:
        if self.layout == "lora":
            return attended
        adapted = self.attention_adapter(attended)
        if self.layout != "parallel":
            return attended + adapted
        if self.reference:
            return attended + 0.5 * (attended + adapted)
        return attended + 0.5 * adapted


def _with_lora(attention: Attention, rank: int) -> Attention:
    """Return a view of ``attention`` with low-rank updates of qkv; the original is unchanged."""
    view = copy.copy(attention)
    view._modules = dict(attention._modules)
    view.qkv = LoraQkv(attention.qkv, rank)
    return view


class AdaptedImageEncoder(nn.Module):
    """SAM's image encoder with adapters in its last blocks.

    The blocks before ``first_adapted`` are plain SAM: callers may compute them once per image with
    :func:`run_plain_blocks`, :meth:`begin_adapted` there, and go on with :meth:`finish_adapted` for
    every class.
    """

    def __init__(self, encoder: ImageEncoderViT, config: AdapterConfig) -> None:
        """Add adapters to an encoder.

        Args:
            encoder: a plain SAM encoder; its modules are borrowed, not copied.
            config: the adapters to add.
        """
        super().__init__()
        depth = len(encoder.blocks)
        adapted = depth if config.last_blocks is None else config.last_blocks
        if not 0 <= adapted <= depth:
            raise ValueError(f"last_blocks must lie in 0..{depth} (the depth), got {adapted}")
        self.img_size = encoder.img_size
        self.grid = (encoder.img_size // encoder.patch_embed.proj.stride[0],) * 2
        self.patch_embed = encoder.patch_embed
        self.pos_embed = encoder.pos_embed
        self.first_adapted = depth - adapted
        self.blocks = nn.ModuleList(
            block if index < self.first_adapted else AdaptedBlock(block, config)
            for index, block in enumerate(encoder.blocks)
        )
        self.neck = encoder.neck
        self.checkpoint_activations = False
        """Recompute the adapted blocks in the backward pass instead of storing activations."""

    def see_patches(self, vision: Tensor | None, sampling_grid: Tensor | None) -> Tensor:
        """Project CLIP's patches for the adapters, once per image.

        Args:
            vision, sampling_grid: see :class:`SemanticCondition`.

        Returns:
            float (S, B, H, W, D / 4), for each of the S adapted blocks.
        """
        adapters = [block.mlp_adapter for block in self._adapted_blocks()]
        return torch.stack([one.see_patches(vision, sampling_grid, self.grid) for one in adapters])

    def _adapted_blocks(self) -> list[AdaptedBlock]:
        return [cast(AdaptedBlock, block) for block in self.blocks[self.first_adapted :]]

    def begin_adapted(self, tokens: Tensor, attended: Tensor | None = None) -> Tensor:
        """Compute the part of the encoder shared by all classes of an image.

        Args:
            tokens: (B, H, W, D) before block ``first_adapted``; there must be such a block.
            attended: see :meth:`AdaptedBlock.begin`.

        Returns:
            (2, B, H, W, D), see :meth:`AdaptedBlock.begin`.
        """
        return torch.stack(self._adapted_blocks()[0].begin(tokens, attended))

    def finish_adapted(
        self,
        begun: Tensor,
        condition: SemanticCondition | None = None,
        patches: Tensor | None = None,
    ) -> Tensor:
        """Complete the result of :meth:`begin_adapted` → image embedding (B, 256, H, W).

        ``patches``: what :meth:`see_patches` says of the condition's image, if known already.
        """
        before, attended = begun
        first = self._adapted_blocks()[0]
        tokens = first.finish(before, attended, condition, None if patches is None else patches[0])
        return self._run_blocks(tokens, 1, condition, patches)

    def run_adapted(self, tokens: Tensor, condition: SemanticCondition | None = None) -> Tensor:
        """Encode tokens (B, H, W, D) before block ``first_adapted`` → embedding (B, 256, H, W)."""
        return self._run_blocks(tokens, 0, condition, None)

    def _run_blocks(
        self,
        tokens: Tensor,
        start: int,
        condition: SemanticCondition | None,
        patches: Tensor | None,
    ) -> Tensor:
        """Run the adapted blocks from ``start`` on, and the neck."""
        for index, block in enumerate(self.blocks[self.first_adapted + start :], start):
            arguments = tokens, condition, None if patches is None else patches[index]
            if self.checkpoint_activations and torch.is_grad_enabled():
                tokens = checkpoint(block, *arguments, use_reentrant=False)
            else:
                tokens = block(*arguments)
        return apply_neck(self, tokens)

    def forward(self, images: Tensor, condition: SemanticCondition | None = None) -> Tensor:
        """Encode normalised images (B, 3, S, S) → image embedding (B, 256, H, W)."""
        tokens = run_plain_blocks(self, embed_patches(self, images), 0, self.first_adapted)
        return self.run_adapted(tokens, condition)


def embed_patches(encoder: ImageEncoderViT | AdaptedImageEncoder, images: Tensor) -> Tensor:
    """Embed normalised images (B, 3, S, S) as tokens (B, H, W, D) with positions."""
    # The convolution leaves channels apart from each other, and every block would gather them.
    tokens = encoder.patch_embed(images).contiguous()
    return tokens if encoder.pos_embed is None else tokens + encoder.pos_embed


def run_plain_blocks(
    encoder: ImageEncoderViT | AdaptedImageEncoder,
    tokens: Tensor,
    start: int,
    stop: int,
    compiled: bool = False,
) -> Tensor:
    """Run the unadapted blocks ``start..stop-1`` on tokens (B, H, W, D).

    ``compiled``: with kernels made for this shape, for which its first tokens wait.
    """
    run = _compiled_block() if compiled else _run_plain_block
    for block in encoder.blocks[start:stop]:
        tokens = run(block, tokens)
    return tokens


def attend_plainly(block: Block, tokens: Tensor) -> Tensor:
    """Compute what attention adds to tokens (B, H, W, D) in an unadapted block."""
    return attend(block.attn, block.norm1(tokens), block.window_size)


def finish_plain_block(block: Block, tokens: Tensor, attended: Tensor) -> Tensor:
    """Complete a block for tokens (B, H, W, D), with ``attended`` from :func:`attend_plainly`."""
    tokens = tokens + attended
    return tokens + _run_mlp(block.mlp, block.norm2(tokens))


def _run_plain_block(block: Block, tokens: Tensor) -> Tensor:
    return finish_plain_block(block, tokens, attend_plainly(block, tokens))


@cache
def _compiled_block() -> Callable[[Block, Tensor], Tensor]:
    return torch.compile(_run_plain_block, dynamic=False)


def encode_images(encoder: ImageEncoderViT, images: Tensor, compiled: bool = False) -> Tensor:
    """Encode normalised images (B, 3, S, S) with plain SAM → image embedding (B, 256, H, W)."""
    depth, tokens = len(encoder.blocks), embed_patches(encoder, images)
    return apply_neck(encoder, run_plain_blocks(encoder, tokens, 0, depth, compiled))


def _run_mlp(mlp: nn.Module, tokens: Tensor) -> Tensor:
    """Run the MLP on tokens (B, H, W, D), on a CPU in parts to limit the hidden layer."""
    if tokens.device.type != "cpu" or torch.is_grad_enabled():
        return mlp(tokens)
    parts = [mlp(some) for some in tokens.flatten(0, 2).split(MLP_TOKENS)]
    return torch.cat(parts).view_as(tokens)


def apply_neck(encoder: ImageEncoderViT | AdaptedImageEncoder, tokens: Tensor) -> Tensor:
    """Apply the neck to tokens (B, H, W, D) → image embedding (B, 256, H, W)."""
    return encoder.neck(tokens.permute(0, 3, 1, 2))
