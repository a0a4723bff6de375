"""A small OWLv2 of random weights, saved as ``google/owlv2-base-patch16-ensemble`` is published."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessor

from tests.weights.conftest import VOCABULARY, save_tokenizer

SIDE = 96
"""Of the square that it sees, pixels."""


def save(folder: Path) -> None:
    """Write weights, configuration, vocabulary, merges and preprocessing."""
    torch.manual_seed(14)
    width = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2)
    config = Owlv2Config(
        text_config=dict(
            **width,
            vocab_size=len(VOCABULARY),
            bos_token_id=len(VOCABULARY) - 2,
            eos_token_id=len(VOCABULARY) - 1,
        ),
        vision_config=dict(**width, image_size=SIDE, patch_size=12),
        projection_dim=32,
    )
    model = Owlv2ForObjectDetection(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter += 0.1 * torch.randn(parameter.shape)
    for layer in model.owlv2.text_model.encoder.layers:
        layer.self_attn.out_proj.weight *= 10  # else the last token hears little of the name
    for layer in model.box_head.children():
        if isinstance(layer, torch.nn.Linear):
            layer.weight *= 0.2  # they start so large that boxes are all or nothing
    model.class_head.logit_shift.weight *= 0.05
    model.class_head.logit_shift.bias -= 0.75
    model.class_head.logit_scale.weight *= 0.2
    model.class_head.logit_scale.bias += 5
    model.save_pretrained(folder)
    Owlv2ImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    save_tokenizer(folder)
