"""MaskCLIP, SCLIP and ClearCLIP against their formulas, written out from transformers' weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel

from baselines.clearclip import ClearClipPredictor
from baselines.map_prompted import ReadoutPredictor
from baselines.maskclip import MaskClipPredictor
from baselines.sclip import SclipPredictor
from clipsam.data.synthetic import SceneData
from clipsam.encoded_image import EncodedImage, clip_input
from clipsam.models.clip import SurgeryVision, build_clip
from clipsam.models.sizes import ClipSizes
from clipsam.predictor import PredictOptions
from clipsam.types import Concept, Prompt
from clipsam.weights.backbones import load_backbones
from clipsam.weights.checkpoints import find_checkpoint
from clipsam.weights.presets import HYBRID, TINY

SIZES = ClipSizes(
    image_size=64,
    surgery_size=64,
    projection_dim=16,
    vision_width=32,
    vision_layers=3,
    vision_heads=4,
    text_width=32,
    text_layers=1,
    text_heads=2,
    vocab_size=400,
    context_length=20,
)
SIZE = (150, 220)
IMAGE = SceneData(1, seed=5)[0].image[: SIZE[0], : SIZE[1]]
STAR = Concept(("striped star",))


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return x @ layer.weight.T + layer.bias


def heads_of(attention: nn.Module, x: Tensor, name: str) -> list[Tensor]:
    """The queries, keys or values of each head, (N, d)."""
    return list(linear(getattr(attention, f"{name}_proj"), x).chunk(attention.num_heads, dim=-1))


def joined(attention: nn.Module, heads: list[Tensor]) -> Tensor:
    return linear(attention.out_proj, torch.cat(heads, dim=-1))


def softmax(x: Tensor) -> Tensor:
    return x.exp() / x.exp().sum(-1, keepdim=True)


def maskclip(x: Tensor, layer: nn.Module) -> Tensor:
    """Value and output projection as 1 × 1 convolutions, then the layer goes on as always."""
    attention, hidden = layer.self_attn, layer.layer_norm1(x)
    x = x + linear(attention.out_proj, linear(attention.v_proj, hidden))
    return x + layer.mlp(layer.layer_norm2(x))


def sclip(x: Tensor, layer: nn.Module) -> Tensor:
    attention, hidden = layer.self_attn, layer.layer_norm1(x)
    q, k, v = (heads_of(attention, hidden, name) for name in "qkv")
    s = v[0].shape[-1] ** -0.5
    mixed = [
        (softmax(a @ a.T * s) + softmax(b @ b.T * s)) @ c for a, b, c in zip(q, k, v, strict=True)
    ]
    x = x + joined(attention, mixed)
    return x + layer.mlp(layer.layer_norm2(x))


def clearclip(x: Tensor, layer: nn.Module) -> Tensor:
    attention, hidden = layer.self_attn, layer.layer_norm1(x)
    q, v = (heads_of(attention, hidden, name) for name in "qv")
    s = v[0].shape[-1] ** -0.5
    return joined(attention, [softmax(a @ a.T * s) @ c for a, c in zip(q, v, strict=True)])


def patches(clip: CLIPModel, pixels: Tensor, last: Callable[[Tensor, nn.Module], Tensor]) -> Tensor:
    """The patches of one image (1, 3, S, S) in the joint space, (N, T).

    Of transformers' own output comes what enters the last layer, whose formula is ``last``.
    """
    vision = clip.vision_model
    states = vision(pixel_values=pixels, output_hidden_states=True).hidden_states
    read = last(states[-2][0], vision.encoder.layers[-1])
    return clip.visual_projection(vision.post_layernorm(read))[1:]


readouts = pytest.mark.parametrize(
    ("predictor_type", "last"),
    [(MaskClipPredictor, maskclip), (SclipPredictor, sclip), (ClearClipPredictor, clearclip)],
    ids=["maskclip", "sclip", "clearclip"],
)


@readouts
@torch.no_grad()
def test_the_last_layer_is_read_as_published(predictor_type, last):
    torch.manual_seed(0)
    clip = build_clip(SIZES).eval()
    for parameter in clip.vision_model.parameters():
        parameter += 0.1 * torch.randn_like(parameter)  # Biases begin as zeros.
    pixels = torch.randn(2, 3, 64, 64)
    plain = SurgeryVision(clip, 2)
    tokens = plain.with_readout(predictor_type.readout)(pixels)
    for index in range(2):
        expected = patches(clip, pixels[index : index + 1], last)
        torch.testing.assert_close(tokens[index, 1:], expected, atol=1e-5, rtol=1e-5)
    cls = clip.visual_projection(clip.vision_model(pixel_values=pixels).pooler_output)
    torch.testing.assert_close(tokens[:, 0], cls, atol=1e-5, rtol=1e-5)
    assert plain.surgery_layers == 2  # The tower that lent its weights is read as before.


@readouts
@torch.no_grad()
def test_the_map_is_the_cosine_of_these_patches(tiny, predictor_type, last):
    read = F.normalize(patches(tiny.clip, clip_input(IMAGE, TINY), last), dim=-1)
    side = TINY.clip.surgery_size // TINY.clip.patch_size
    expected = (read @ tiny.text([STAR.synonyms])[0]).view(side, side).numpy()
    shown = predictor_type(tiny).predict(EncodedImage(IMAGE), Prompt((STAR,))).results[0].similarity
    np.testing.assert_allclose(shown, expected, atol=1e-5)


def test_without_sam_the_mask_is_the_map_above_a_threshold(tiny, monkeypatch):
    """A ramp from left to right; the default is three fifths of the way, and SAM is not asked."""
    ramp = torch.linspace(0.1, 0.4, 16).expand(1, 16, 16)
    monkeypatch.setattr(ReadoutPredictor, "_map", lambda *_: ramp)
    monkeypatch.setattr(ReadoutPredictor, "_segment", None)
    predictor = MaskClipPredictor(tiny)
    for threshold, share in ((None, 0.6), (0.25, 0.25)):
        options = PredictOptions(point_threshold=threshold)
        prediction = predictor.predict(EncodedImage(IMAGE), Prompt((STAR,)), options)
        assert prediction.mode == "without-sam"
        columns = prediction.masks()[0].mean(0)
        # Cells are read at their centres: the first lies half a cell from the edge.
        edge = SIZE[1] * (share * 15 + 0.5) / 16
        assert not columns[: int(edge) - 3].any()
        assert columns[int(edge) + 3 :].all()
        assert np.isnan(prediction.presence).all()
        assert not len(prediction.results[0].prompts.points)


@readouts
def test_the_hybrid_preset_has_them_too(predictor_type, last):
    """Its CLIP adds what its trunk says of a cell, whichever way the transformer is read."""
    if not find_checkpoint(HYBRID.name, "clip").is_dir():
        pytest.skip("the parts of the hybrid preset are not here")
    predictor = predictor_type(load_backbones(HYBRID))
    encoded, prompt = EncodedImage(IMAGE), Prompt((STAR,))
    maps = set()
    for mode in predictor.info.modes:
        prediction = predictor.predict(encoded, prompt, PredictOptions(mode=mode))
        assert np.isfinite(prediction.logits()).all()
        maps.add(prediction.results[0].similarity.tobytes())
    assert len(maps) == 1
    plain = predictor.backbones.vision.with_layers(0)
    tokens = encoded.clip_tokens(predictor.backbones, plain, "plain")
    text = predictor.backbones.text([STAR.synonyms])
    other = (tokens[0, 1:] @ text[0]).numpy().reshape(16, 16)
    assert np.abs(prediction.results[0].similarity - other).max() > 1e-3
