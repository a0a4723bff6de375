"""A small Grounding DINO of random weights, saved as ``IDEA-Research/grounding-dino-tiny`` is."""

from __future__ import annotations

import string
from pathlib import Path

import torch
from transformers import (
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
)

SHORTEST, LONGEST = 96, 160
"""Sides of the image that it sees, pixels."""

_LETTERS = [*string.digits, *string.ascii_lowercase]
_SYMBOLS = sorted({*string.punctuation, *_LETTERS})
VOCABULARY = [
    "[PAD]",
    *(f"[unused{index}]" for index in range(99)),
    *("[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *(f"[unused{index}]" for index in range(99, 994)),
    *_SYMBOLS,  # from 999 on, as in BERT's: the full stop is 1012, the question mark 1029
    *(f"##{letter}" for letter in _LETTERS),
    *("red", "blue", "striped", "star", "disc", "square", "dog", "cat"),
]


def save(folder: Path) -> None:
    """Write weights, configuration, vocabulary and preprocessing."""
    torch.manual_seed(13)
    heads = dict(encoder_attention_heads=2, decoder_attention_heads=2)
    layers = dict(encoder_layers=2, decoder_layers=2, encoder_ffn_dim=64, decoder_ffn_dim=64)
    backbone = dict(
        model_type="swin",
        image_size=64,
        embed_dim=16,
        depths=[1, 1, 2, 1],
        num_heads=[1, 2, 2, 4],
        window_size=4,
        out_features=["stage2", "stage3", "stage4"],
    )
    text = dict(
        model_type="bert",
        vocab_size=len(VOCABULARY),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    config = GroundingDinoConfig(
        backbone_config=backbone,
        text_config=text,
        d_model=32,
        num_queries=24,
        max_text_len=48,
        **heads,
        **layers,
    )
    model = GroundingDinoForObjectDetection(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter += 0.1 * torch.randn(parameter.shape)
    # A score is the product of what these two give: a part of it that is always the same.
    model.model.decoder.layer_norm.weight *= 0.3
    model.model.decoder.layer_norm.bias -= 0.33
    model.model.encoder.layers[-1].text_enhancer_layer.layer_norm_after.bias += 0.33
    model.save_pretrained(folder)
    size = {"shortest_edge": SHORTEST, "longest_edge": LONGEST}
    GroundingDinoImageProcessor(size=size).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
