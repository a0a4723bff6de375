"""Our modules against the reference implementations, number by number."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from segment_anything.modeling import ImageEncoderViT
from torch import nn
from transformers import CLIPConfig, CLIPModel

from clipsam.models.adapters import Adapter, SemanticCondition
from clipsam.models.clip import (
    SurgeryVision,
    class_text_feature,
    normalize_tokens,
    patch_similarity,
    similarity_grid,
    tokens_to_grid,
)
from clipsam.models.image_encoder import AdaptedImageEncoder, AdapterConfig
from clipsam.weights.convert import adapters_from_reference, clip_from_openai


def assert_close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max().item() <= tolerance


@pytest.mark.parametrize(
    ("prefix", "text", "vision"),
    [("adapter", False, False), ("adapter_text", True, False), ("adapter_text_vis", True, True)],
)
def test_adapters(golden, prefix, text, vision):
    reference = golden("adapters")
    adapter = Adapter(reference.config["D"], reference.config["T"], text, vision)
    weights = {k.removeprefix(f"{prefix}."): v for k, v in reference.weights.items()}
    weights = {k: v for k, v in weights.items() if not k.startswith("adapter")}
    adapter.load_state_dict(adapters_from_reference(weights))
    condition = SemanticCondition(reference.inputs["text"], tokens_to_grid(reference.inputs["vis"]))
    output = adapter(reference.inputs["x"], condition)
    assert_close(output, reference.outputs[f"{prefix}_skip_false"], 1e-5)


ENCODERS = {
    "sam_vanilla": AdapterConfig(last_blocks=0),
    "samptx": AdapterConfig(text=True, block="reference"),
    "clipguided": AdapterConfig(text=True, vision=True, block="reference"),
    "susam_parallel": AdapterConfig(block="reference"),
    "susam_series": AdapterConfig(layout="series", block="reference"),
    "susam_mix": AdapterConfig(layout="mix", block="reference"),
    "susam_lora": AdapterConfig(layout="lora", block="reference"),
}


def plain_encoder(config: dict) -> ImageEncoderViT:
    return ImageEncoderViT(
        img_size=config["img_size"],
        patch_size=config["patch_size"],
        embed_dim=config["embed_dim"],
        depth=config["depth"],
        num_heads=config["num_heads"],
        mlp_ratio=config["mlp_ratio"],
        out_chans=config["out_chans"],
        use_rel_pos=config["use_rel_pos"],
        qkv_bias=config["qkv_bias"],
        window_size=config["window_size"],
        global_attn_indexes=config["global_attn_indexes"],
        norm_layer=partial(nn.LayerNorm, eps=config["norm_eps"]),
    )


@pytest.mark.parametrize("name", ENCODERS)
@torch.no_grad()
def test_encoders(golden, name):
    reference = golden(f"{name}_encoder")
    encoder = AdaptedImageEncoder(plain_encoder(reference.config), ENCODERS[name])
    encoder.load_state_dict(adapters_from_reference(reference.weights))
    condition = None
    if "text" in reference.inputs:
        vision = reference.inputs.get("vis")
        condition = SemanticCondition(
            reference.inputs["text"], None if vision is None else tokens_to_grid(vision)
        )
    embedding = encoder(reference.inputs["image"], condition)
    assert_close(embedding, reference.outputs["embedding"], 2e-5)


def clip_of(config: dict) -> CLIPModel:
    shared = dict(hidden_act="quick_gelu")
    return CLIPModel(
        CLIPConfig(
            projection_dim=config["embed_dim"],
            vision_config=dict(
                hidden_size=config["vision_width"],
                intermediate_size=4 * config["vision_width"],
                num_hidden_layers=config["vision_layers"],
                num_attention_heads=config["vision_heads"],
                image_size=config["image_resolution"],
                patch_size=config["patch"],
                **shared,
            ),
            text_config=dict(
                hidden_size=config["text_width"],
                intermediate_size=4 * config["text_width"],
                num_hidden_layers=config["text_layers"],
                num_attention_heads=config["text_heads"],
                max_position_embeddings=config["context_length"],
                vocab_size=config["vocab"],
                eos_token_id=config["vocab"] - 1,
                **shared,
            ),
        )
    ).eval()


@torch.no_grad()
def test_surgery_features(golden):
    reference = golden("clip_surgery")
    clip = clip_of(reference.config)
    clip.load_state_dict(clip_from_openai(reference.weights))
    surgery = SurgeryVision(clip, surgery_layers=len(reference.config["surgery_blocks"]))
    # Twice the native size first: the position embedding must not be written back.
    double = surgery(reference.inputs["image128"])
    native = surgery(reference.inputs["image64"])
    assert_close(double, reference.outputs["surgery128"], 2e-5)
    assert_close(native, reference.outputs["surgery64"], 2e-5)
    plain = SurgeryVision(clip, surgery_layers=0)(reference.inputs["image64"])
    assert_close(plain, reference.outputs["plain64"], 2e-5)
    assert_close(native[:, 0], plain[:, 0], 2e-5)
    tokens = reference.inputs["tokens"].long()
    text = clip.text_projection(clip.text_model(input_ids=tokens).pooler_output)
    assert_close(text, reference.outputs["text"], 2e-5)


def test_similarity(golden):
    reference = golden("clip_similarity")
    tokens = reference.inputs["image_features"]
    over_tokens = normalize_tokens(tokens, "reference")
    assert_close(over_tokens, reference.outputs["features_dim1"], 1e-5)
    assert_close(normalize_tokens(tokens), reference.outputs["features_dimlast"], 1e-5)
    text = class_text_feature(reference.inputs["text_raw"], reference.inputs["redundant"][0])
    assert_close(text, reference.outputs["text_features"], 1e-5)
    similarity = patch_similarity(over_tokens, text)
    assert_close(similarity[..., None], reference.outputs["similarity"], 1e-5)
    # An adapter that is told features and similarity sees their sum.
    fused = tokens_to_grid(reference.outputs["fused_vis"])
    adapter = Adapter(16, fused.shape[1], text=True, vision=True)
    x = torch.randn(len(fused), 6, 6, 16, generator=torch.Generator().manual_seed(0))
    apart = SemanticCondition(text, tokens_to_grid(over_tokens), similarity_grid(over_tokens, text))
    assert_close(adapter(x, apart), adapter(x, SemanticCondition(text, fused)), 1e-5)
