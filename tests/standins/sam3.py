"""A small SAM 3 of random weights, saved as ``facebook/sam3`` is published: with video parts."""

from __future__ import annotations

from pathlib import Path

from torch import nn
from transformers import Sam3VideoConfig, Sam3VideoModel

from tests.standins.filling import fill, save_model
from tests.weights.conftest import VOCABULARY, save_tokenizer

SIDE = 112
"""Of the square that it sees, pixels."""

WIDTH = dict(hidden_size=32, intermediate_size=64, num_attention_heads=2)
SQUARE = dict(image_size=SIDE, patch_size=14)
VISION = dict(
    backbone_config=dict(
        model_type="sam3_vit_model",
        **WIDTH,
        **SQUARE,
        num_hidden_layers=2,
        window_size=4,
        global_attn_indexes=[1],
        pretrain_image_size=SIDE // 2,
    ),
    fpn_hidden_size=32,
    backbone_feature_sizes=[[side, side] for side in (32, 16, 8)],
)
HEADS = dict(
    geometry_encoder_config=dict(**WIDTH, num_layers=1),
    detr_encoder_config=dict(**WIDTH, num_layers=2),
    detr_decoder_config=dict(**WIDTH, num_layers=2, num_queries=12),
    mask_decoder_config=dict(hidden_size=32, num_attention_heads=2),
)
"""Configurations of the parts that are common to all SAM 3."""


def save(folder: Path) -> None:
    """Write weights, configuration, vocabulary and merges."""
    text = dict(
        model_type="clip_text_model",
        **WIDTH,
        vocab_size=len(VOCABULARY),
        bos_token_id=len(VOCABULARY) - 2,
        eos_token_id=len(VOCABULARY) - 1,
        num_hidden_layers=2,
        max_position_embeddings=32,
        projection_dim=16,
    )
    detector = dict(model_type="sam3", vision_config=VISION, text_config=text, **HEADS)
    tracker = dict(
        model_type="sam3_tracker_video",
        vision_config=dict(model_type="sam3_vision_model", **VISION),
        prompt_encoder_config=dict(hidden_size=32, **SQUARE),
        mask_decoder_config=dict(
            hidden_size=32, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=32
        ),
        memory_attention_hidden_size=32,
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=32,
        memory_encoder_hidden_size=32,
        memory_encoder_output_channels=16,
        mask_downsampler_embed_dim=32,
        memory_fuser_num_layers=1,
        memory_fuser_embed_dim=32,
        memory_fuser_intermediate_dim=32,
    )
    config = Sam3VideoConfig(detector_config=detector, tracker_config=tracker)
    model = Sam3VideoModel(config)
    fill(model, seed=12)
    enliven(model.detector_model)
    save_model(model, folder)
    save_tokenizer(folder)


def enliven(detector: nn.Module) -> None:
    """Make queries differ, and some phrases find something."""
    detector.detr_decoder.query_embed.weight.data *= 10
    detector.detr_decoder.presence_head.layer3.bias.data += 3
    detector.dot_product_scoring.query_proj.weight.data *= 5
