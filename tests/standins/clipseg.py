"""A small CLIPSeg of random weights, saved as ``CIDAS/clipseg-rd64-refined`` is published."""

from __future__ import annotations

from pathlib import Path

from transformers import CLIPSegConfig, CLIPSegForImageSegmentation, ViTImageProcessor

from tests.standins.filling import fill, save_model
from tests.weights.conftest import VOCABULARY, save_tokenizer

SIDE = 128
"""Of the square that it sees, pixels; its own positions are for half of that, as the real ones."""


def save(folder: Path) -> None:
    """Write weights, configuration, vocabulary, merges and preprocessing."""
    width = dict(hidden_size=32, intermediate_size=64, num_attention_heads=2)
    config = CLIPSegConfig(
        text_config=dict(
            **width,
            vocab_size=len(VOCABULARY),
            num_hidden_layers=2,
            bos_token_id=len(VOCABULARY) - 2,
            eos_token_id=len(VOCABULARY) - 1,
        ),
        vision_config=dict(**width, num_hidden_layers=4, image_size=SIDE // 2, patch_size=16),
        projection_dim=24,
        extract_layers=[0, 1, 3],
        reduce_dim=16,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=32,
        use_complex_transposed_convolution=True,
    )
    model = CLIPSegForImageSegmentation(config)
    fill(model, seed=11)
    # Probabilities that are not all about one half.
    model.decoder.transposed_convolution[-1].weight.data *= 4
    save_model(model, folder)
    imagenet = dict(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
    ViTImageProcessor(size={"height": SIDE, "width": SIDE}, **imagenet).save_pretrained(folder)
    save_tokenizer(folder)
