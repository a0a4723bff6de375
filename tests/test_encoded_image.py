"""What a scene keeps at the size of the published networks, and what that spares."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from clipsam.encoded_image import EncodedImage, clip_input
from clipsam.models.image_encoder import AdaptedImageEncoder
from clipsam.predictor import PredictOptions
from clipsam.registry import load_predictor
from clipsam.types import Concept, Prompt
from clipsam.weights.presets import IMAGENET_MEAN, IMAGENET_STD, PRESETS

CLASSES = 20


def test_twenty_classes_of_base_fit():
    """Embeddings of 20 classes, and all else that CLIP-Guided SAM makes on the way."""
    base = PRESETS["base"]
    cells = (base.sam.image_size // base.sam.patch_size) ** 2
    patches = (base.clip.surgery_size // base.clip.patch_size) ** 2
    encoded = EncodedImage(np.zeros((9, 9, 3), np.uint8))
    sizes = {
        "tokens": cells * base.sam.embed_dim,
        "attended": cells * base.sam.embed_dim,
        "begun": 2 * cells * base.sam.embed_dim,
        "embedding": cells * 256,
        "clip": (1 + patches) * base.clip.projection_dim,
        "patches": base.sam.depth * cells * base.sam.embed_dim // 4,
        **{index: cells * 256 for index in range(CLASSES)},
    }
    for key, size in sizes.items():
        encoded.cached(key, lambda size=size: torch.empty(size))
    for key in sizes:
        encoded.cached(key, lambda key=key: pytest.fail(f"{key} was forgotten"))


def test_a_click_runs_no_encoder_even_where_the_prefix_is_forgotten(tiny, monkeypatch):
    """Only class embeddings are needed for another click, not what they were made from."""
    predictor = load_predictor("clip-guided-sam", tiny)
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    encoded = EncodedImage(image)
    names = [f"class {index}" for index in range(CLASSES)]

    def ask(x: float) -> np.ndarray:
        prompt = Prompt(tuple(Concept((name,), points=[[x, 60]], labels=[1]) for name in names))
        return predictor.predict(encoded, prompt, PredictOptions(mode="manual")).logits()

    first = ask(40)
    for key in [key for key in encoded._features if key[0] in ("sam", "sam attended", "begun")]:
        del encoded._features[key]
    calls = []
    for part in ("begin_adapted", "finish_adapted"):
        monkeypatch.setattr(AdaptedImageEncoder, part, lambda *args: calls.append(args))
    monkeypatch.setattr("clipsam.encoded_image.embed_patches", lambda *args: calls.append(args))
    assert np.abs(ask(120) - first).max() > 1e-3
    np.testing.assert_allclose(ask(40), first, atol=1e-5)
    assert not calls


def test_clip_sees_half_the_square_of_sam_as_the_authors_code_has_it():
    """Scaled down by two without antialiasing, bilinear is the mean of each four pixels."""
    preset = PRESETS["base-reference"]
    image = np.random.default_rng(5).integers(0, 256, (300, 500, 3), dtype=np.uint8)
    square = np.asarray(Image.fromarray(image).resize((1024, 1024), Image.Resampling.BILINEAR))
    pixels = (square / 255.0 - IMAGENET_MEAN) / IMAGENET_STD
    expected = pixels.reshape(512, 2, 512, 2, 3).mean((1, 3)).transpose(2, 0, 1)
    np.testing.assert_allclose(clip_input(image, preset)[0].numpy(), expected, atol=1e-5)
