"""SAM of any size, built from segment-anything's classes, with batched decoding."""

from __future__ import annotations

from functools import partial

import torch
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from torch import Tensor, nn

from .sizes import SamConfig
from .trunk import Trunk, TrunkStem

PROMPT_DIM = 256
"""Channels of the image embedding and of every prompt token, in all published SAMs."""


def build_sam(config: SamConfig, trunk: Trunk | None = None) -> Sam:
    """Build a randomly initialised SAM with state-dict names of Meta's checkpoints.

    Args:
        config: its sizes.
        trunk: what its tokens are projected from, if from a trunk; ``None`` makes one of its own.
    """
    grid = config.image_size // config.patch_size
    sam = Sam(
        image_encoder=ImageEncoderViT(
            img_size=config.image_size,
            patch_size=config.patch_size,
            embed_dim=config.embed_dim,
            depth=config.depth,
            num_heads=config.num_heads,
            mlp_ratio=4,
            out_chans=PROMPT_DIM,
            qkv_bias=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=config.window_size,
            global_attn_indexes=config.global_blocks,
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=PROMPT_DIM,
            image_embedding_size=(grid, grid),
            input_image_size=(config.image_size, config.image_size),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(
                depth=2, embedding_dim=PROMPT_DIM, mlp_dim=2048, num_heads=8
            ),
            transformer_dim=PROMPT_DIM,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        ),
    )
    if config.trunk_strides:
        stem = TrunkStem(
            trunk or Trunk(), config.embed_dim, config.patch_size, config.trunk_strides
        )
        sam.image_encoder.patch_embed.proj = stem
    return sam


def decode_masks(
    mask_decoder: MaskDecoder,
    prompt_encoder: PromptEncoder,
    embeddings: Tensor,
    points: tuple[Tensor, Tensor] | None = None,
    boxes: Tensor | None = None,
    dense: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Decode the masks of B (embedding, prompt) pairs.

    Args:
        embeddings: (B, 256, h, w) image embeddings, one per pair.
        points: coordinates (B, N, 2) as (x, y) in input pixels, labels (B, N): 1 foreground,
            0 background, -1 padding.
        boxes: (B, 4) as (x0, y0, x1, y1) in input pixels.
        dense: (B, 1, 4h, 4w) mask logits.

    Returns:
        Logits (B, 4, 4h, 4w) and predicted IoU (B, 4). Mask 0 is SAM's single-mask output, for
        prompts that leave no doubt; masks 1..3 are its candidates for ambiguous ones.
    """
    sparse, dense_embedding = prompt_encoder(points=points, boxes=boxes, masks=dense)
    if points is None and boxes is None:  # then the encoder made an empty prompt for B = 1
        sparse = sparse.expand(len(embeddings), -1, -1)
    # SAM's decoder repeats *one* image over its prompts. It adds image and dense embedding first
    # thing, so pairs with different images ride in on the dense side, exactly.
    return mask_decoder.predict_masks(
        image_embeddings=torch.zeros_like(embeddings[:1]),
        image_pe=prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=embeddings + dense_embedding,
    )
