"""A small SAM3-LiteText of random weights, saved as transformers 5 saves model and processor."""

from __future__ import annotations

from pathlib import Path

from transformers import CLIPTokenizer, Sam3LiteTextConfig, Sam3LiteTextModel

from tests.standins.filling import fill, save_model
from tests.standins.sam3 import HEADS, VISION, WIDTH, enliven
from tests.weights.conftest import VOCABULARY, save_tokenizer


def save(folder: Path) -> None:
    """Write weights, configuration and tokenizer."""
    text = dict(
        **WIDTH,
        vocab_size=len(VOCABULARY),
        num_hidden_layers=3,
        projection_dim=16,
        layer_scale_init_value=0.5,
    )
    model = Sam3LiteTextModel(Sam3LiteTextConfig(vision_config=VISION, text_config=text, **HEADS))
    fill(model, seed=4)
    enliven(model)
    save_model(model, folder)
    save_tokenizer(folder)
    # Another padding than CLIP's, which the text tower would notice.
    tokenizer = CLIPTokenizer.from_pretrained(folder, pad_token="!", local_files_only=True)
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()
    tokenizer.save_pretrained(folder)
