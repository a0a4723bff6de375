"""Parameter counts of real sizes, as published; on the meta device, so without their memory."""

from __future__ import annotations

import pytest
import torch

from clipsam.models.clip import SurgeryVision, build_clip
from clipsam.models.image_encoder import AdaptedImageEncoder, AdapterConfig
from clipsam.models.sam_model import build_sam
from clipsam.models.tuned_sam_model import TunedSam, TunedSamConfig
from clipsam.weights.presets import CLIP_B16, VIT_B, VIT_H, VIT_L

SIZES = {"vit_b": VIT_B, "vit_l": VIT_L, "vit_h": VIT_H}
ADAPTERS = {
    "SAM-PTx": AdapterConfig(text=True),
    "CLIP-Guided SAM": AdapterConfig(text=True, vision=True, similarity=True),
    "parallel": AdapterConfig(),
    "mix": AdapterConfig(layout="mix"),
}
PLAIN = {"vit_b": 89_670_912, "vit_l": 308_278_272, "vit_h": 637_026_048}
ADAPTED = {
    "SAM-PTx": {"vit_b": 101_499_648, "vit_l": 346_113_024, "vit_h": 710_569_728},
    "CLIP-Guided SAM": {"vit_b": 106_227_456, "vit_l": 358_720_512, "vit_h": 731_582_208},
    "parallel": {"vit_b": 96_771_840, "vit_l": 333_505_536, "vit_h": 689_557_248},
    "mix": {"vit_b": 96_771_840, "vit_l": 333_505_536, "vit_h": 689_557_248},
}
LORA = {"vit_b": 147_456, "vit_l": 393_216, "vit_h": 655_360}
PROMPT_ENCODER, MASK_DECODER = 6_220, 4_058_340


@pytest.fixture(scope="module", params=SIZES)
def size(request):
    with torch.device("meta"):
        return request.param, build_sam(SIZES[request.param]).requires_grad_(False)


def count_parameters(network: torch.nn.Module) -> dict[str, int]:
    sizes = [(p.numel(), p.requires_grad) for p in network.parameters()]
    return {"total": sum(n for n, _ in sizes), "trainable": sum(n for n, own in sizes if own)}


def adapted(sam, config: AdapterConfig) -> dict[str, int]:
    with torch.device("meta"):
        return count_parameters(AdaptedImageEncoder(sam.image_encoder, config))


def test_sam(size):
    name, sam = size
    assert count_parameters(sam.image_encoder)["total"] == PLAIN[name]
    assert count_parameters(sam.prompt_encoder)["total"] == PROMPT_ENCODER
    assert count_parameters(sam.mask_decoder)["total"] == MASK_DECODER


@pytest.mark.parametrize("method", ADAPTED)
def test_adapters(size, method):
    name, sam = size
    expected = ADAPTED[method][name]
    counts = adapted(sam, ADAPTERS[method])
    assert counts == {"total": expected, "trainable": expected - PLAIN[name]}


def test_lora(size):
    name, sam = size
    assert adapted(sam, AdapterConfig(layout="lora"))["trainable"] == LORA[name]


def test_clip_and_the_whole_of_clip_guided_sam():
    with torch.device("meta"):
        sam, clip = build_sam(VIT_B).requires_grad_(False), build_clip(CLIP_B16)
        assert count_parameters(clip)["total"] == 149_620_737
        vision = SurgeryVision(clip, CLIP_B16.surgery_layers)
        design = TunedSamConfig(ADAPTERS["CLIP-Guided SAM"], "surgery", None, dense_prompt=True)
        model = TunedSam(sam, vision, design)
    assert count_parameters(model.vision)["trainable"] == 28_348_416
    assert count_parameters(model)["trainable"] == 48_969_520
