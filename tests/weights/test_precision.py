"""SAM's encoders in bfloat16: on request, everywhere the same, and everything else in float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clipsam.data.synthetic import SceneData
from clipsam.encoded_image import EncodedImage
from clipsam.evaluation.metrics import class_wise_miou
from clipsam.evaluation.runner import MethodRun, evaluate, prompt_of
from clipsam.predictor import PredictOptions
from clipsam.registry import load_predictor
from clipsam.weights.backbones import (
    Backbones,
    assemble,
    load_backbones,
    made_for_bfloat16,
)
from clipsam.weights.presets import PRESETS, TINY

RUNS = [
    MethodRun("clip-guided-sam", "semi-automatic"),
    MethodRun("clip-guided-sam", "manual", clicks=1),
]
METHODS = ["sam", "clip-surgery-sam", "clip-guided-sam", "sam-lora", "sam-proposals-clip"]


@pytest.fixture(scope="module")
def halved(tiny) -> Backbones:
    return load_backbones(TINY, precision="bfloat16")


def test_tiny_computes_in_float32_unless_asked(tiny, halved):
    assert not tiny.bfloat16
    assert halved.bfloat16


GPUS = {"Ampere": ((8, 0), True), "Turing": ((7, 5), False)}
CPUS = {
    "Zen 4": ({"avx512_bf16": True, "amx_bf16": False}, True),
    "Sapphire Rapids": ({"avx512_bf16": True, "amx_bf16": True}, True),
    "Cascade Lake": ({"avx512_bf16": False, "avx512_f": True}, False),
}


@pytest.mark.parametrize("name", [*GPUS, *CPUS])
def test_auto_is_bfloat16_for_published_sizes_where_the_hardware_has_it(monkeypatch, tiny, name):
    device = torch.device("cuda" if name in GPUS else "cpu")
    able, expected = (GPUS | CPUS)[name]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: able)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    monkeypatch.setattr(torch.nn.Module, "to", lambda network, _: network)

    def chosen(preset: str, *precision: str) -> bool:
        networks = tiny.sam, tiny.clip, None, None
        return assemble(PRESETS[preset], *networks, device, *precision).bfloat16

    assert chosen("base") == expected
    assert not chosen("tiny")
    for preset in ("base", "tiny"):
        assert chosen(preset, "bfloat16") and not chosen(preset, "float32")


def test_auto_is_float32_where_torch_cannot_tell(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not made_for_bfloat16(torch.device("cpu"))


@pytest.mark.parametrize("method", METHODS)
def test_encoders_in_bfloat16_decoders_in_float32(halved, method):
    sample = SceneData(1, seed=7)[0]
    prompt = prompt_of(sample, clicks=1, seed=0)
    predictor = load_predictor(method, halved)
    seen = {}

    def note(name: str):
        return lambda module, inputs, output: seen.setdefault(name, []).append(output)

    block = halved.sam.image_encoder.blocks[0]
    upscaling = [m for m in predictor.network().modules() if hasattr(m, "output_upscaling")]
    hooks = [block.attn.qkv.register_forward_hook(note("qkv"))]
    hooks += [m.output_upscaling.register_forward_hook(note("masks")) for m in upscaling]
    encoded = EncodedImage(sample.image)
    mode = predictor.info.modes[0]
    try:
        halves = predictor.predict(encoded, prompt, PredictOptions(mode=mode))
    finally:
        for hook in hooks:
            hook.remove()
    assert {output.dtype for output in seen["qkv"]} == {torch.bfloat16}
    assert {output.dtype for output in seen.get("masks", [])} <= {torch.float32}
    assert np.isfinite(halves.logits()).all()


def test_features_are_nearly_the_same(halved, tiny):
    """To the eight bits of bfloat16, summed up over the layers; and kept in float32."""
    image = SceneData(1, seed=7)[0].image
    exact, halves = (EncodedImage(image).sam_embedding(own) for own in (tiny, halved))
    assert halves.dtype == torch.float32
    assert 0 < (halves - exact).norm() < 0.03 * exact.norm()


def test_points_are_drawn_where_they_were(halved, tiny):
    """CLIP stays as it is."""
    sample = SceneData(1, seed=7)[0]
    prompt, found = prompt_of(sample, clicks=0, seed=0), []
    for backbones in (tiny, halved):
        predictor = load_predictor("clip-surgery-sam", backbones)
        answer = predictor.predict(
            EncodedImage(sample.image), prompt, PredictOptions(mode="vanilla")
        )
        found.append([result.prompts.points for result in answer.results])
    for exact, halves in zip(*found, strict=True):
        assert len(exact)
        np.testing.assert_array_equal(exact, halves)


def test_bfloat16_costs_no_accuracy(halved, tiny):
    data = SceneData(12, seed=1_000_003)
    found = []
    for backbones in (tiny, halved):
        predictors = {"clip-guided-sam": load_predictor("clip-guided-sam", backbones)}
        scores = evaluate(data, predictors, RUNS, seeds=[0])
        found.append([class_wise_miou(scores[run, 0]) for run in RUNS])
    np.testing.assert_allclose(found[0], found[1], atol=0.01)
