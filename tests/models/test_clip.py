"""CLIP's dense reading and its text side."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from clipsam.models.clip import (
    PROMPT_TEMPLATES,
    ClassTextEncoder,
    SurgeryVision,
    build_clip,
    encode_text,
)
from clipsam.models.sizes import ClipSizes
from tests.standins.bpe import train_tokenizer

SIZES = ClipSizes(
    image_size=64,
    surgery_size=64,
    projection_dim=16,
    vision_width=32,
    vision_layers=4,
    vision_heads=2,
    text_width=32,
    text_layers=2,
    text_heads=2,
    vocab_size=400,
    context_length=20,
    surgery_layers=2,
)
WORDS = ["cat", "a photo of a dining table", "café", "striped star; red ring"]


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    return build_clip(SIZES).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([*WORDS, *PROMPT_TEMPLATES], SIZES.vocab_size)


@torch.no_grad()
def test_without_surgery_it_is_clip(clip):
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    tokens = SurgeryVision(clip, surgery_layers=0)(pixels)
    hidden = clip.vision_model(pixel_values=pixels).last_hidden_state
    expected = clip.visual_projection(clip.vision_model.post_layernorm(hidden))
    torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=1e-5)
    surgery = SurgeryVision(clip, surgery_layers=2)(pixels)
    torch.testing.assert_close(surgery[:, 0], expected[:, 0], atol=1e-5, rtol=1e-5)


def test_tunable_copy_owns_its_attention(clip):
    vision = SurgeryVision(clip, surgery_layers=2)
    copy = vision.tunable_copy()
    trainable = {name for name, p in copy.named_parameters() if p.requires_grad}
    assert trainable == {n for n, _ in copy.named_parameters() if ".self_attn." in n}
    originals = {p.data_ptr() for p in vision.parameters()}
    assert not originals & {p.data_ptr() for p in copy.parameters() if p.requires_grad}
    last = vision.tunable_copy(1)
    layers = [n.split("layers.")[1][0] for n, p in last.named_parameters() if p.requires_grad]
    assert set(layers) == {str(len(vision.vision_model.encoder.layers) - 1)}


@torch.no_grad()
def test_text_does_not_depend_on_padding(clip, tokenizer):
    together = encode_text(clip, tokenizer, WORDS)
    alone = torch.cat([encode_text(clip, tokenizer, [word]) for word in WORDS])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    ids = tokenizer(WORDS, padding="max_length", max_length=20, return_tensors="pt").input_ids
    full = clip.get_text_features(input_ids=ids)
    full = getattr(full, "pooler_output", full)
    torch.testing.assert_close(together, full, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_class_features(clip, tokenizer):
    """Synonyms averaged raw, minus the mean of 85 empty prompts, to unit length."""
    classes = [("cat",), ("dining table", "table")]
    features = ClassTextEncoder(clip, tokenizer)(classes)
    empty = torch.stack(
        [
            F.normalize(encode_text(clip, tokenizer, [t.format("")])[0], dim=0)
            for t in PROMPT_TEMPLATES
        ]
    ).mean(0)
    empty = empty / empty.norm()
    for feature, synonyms in zip(features, classes, strict=True):
        raw = sum(encode_text(clip, tokenizer, [s])[0] for s in synonyms) / len(synonyms)
        expected = (raw - empty) / (raw - empty).norm()
        torch.testing.assert_close(feature, expected, atol=1e-5, rtol=1e-5)


def test_templates():
    assert len(set(PROMPT_TEMPLATES)) == len(PROMPT_TEMPLATES) == 85
    assert all(template.count("{}") == 1 for template in PROMPT_TEMPLATES)
