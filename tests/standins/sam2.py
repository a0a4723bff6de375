"""A small SAM 2.1 of random weights, saved as ``facebook/sam2.1-hiera-…`` are published."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    Sam2HieraDetConfig,
    Sam2Model,
    Sam2VideoConfig,
    Sam2VideoModel,
    Sam2VideoPromptEncoderConfig,
    Sam2VisionConfig,
)

from clipsam.models.sam2_model import Sam2Config
from tests.conftest import randomize

SMALL = Sam2Config(
    image_size=128,
    embed_dim=16,
    stages=(1, 2, 3, 1),
    global_att_blocks=(4,),
    window_spec=(8, 4, 7, 3),
    window_pos_embed_bkg_spatial_size=(5, 5),
)


def vision_config(sizes: Sam2Config) -> Sam2VisionConfig:
    """Of these sizes, in transformers' words."""
    widths = [sizes.embed_dim * 2**stage for stage in range(4)]
    backbone = Sam2HieraDetConfig(
        hidden_size=sizes.embed_dim,
        image_size=[sizes.image_size] * 2,
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[sizes.num_heads * 2**stage for stage in range(4)],
        blocks_per_stage=list(sizes.stages),
        global_attention_blocks=list(sizes.global_att_blocks),
        window_size_per_stage=list(sizes.window_spec),
        window_positional_embedding_background_size=list(sizes.window_pos_embed_bkg_spatial_size),
    )
    return Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=widths[::-1],
        backbone_feature_sizes=[[sizes.image_size // stride] * 2 for stride in (4, 8, 16)],
    )


def published(sizes: Sam2Config, seed: int = 0) -> Sam2VideoModel:
    """The video model of random weights, which is what repositories hold."""
    torch.manual_seed(seed)
    config = Sam2VideoConfig(
        vision_config=vision_config(sizes),
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(image_size=sizes.image_size),
        image_size=sizes.image_size,
    )
    return with_noise(Sam2VideoModel(config), seed)


def with_noise(network: Sam2Model | Sam2VideoModel, seed: int) -> Sam2Model | Sam2VideoModel:
    randomize(network, seed)
    # One matrix in Meta's files; transformers begins with two, each at random.
    positions = network.shared_image_embedding.positional_embedding
    network.prompt_encoder.shared_embedding.positional_embedding.copy_(positions)
    return network.eval().requires_grad_(False)


def save(folder: Path) -> None:
    """Write weights and configuration."""
    published(SMALL).save_pretrained(folder)
