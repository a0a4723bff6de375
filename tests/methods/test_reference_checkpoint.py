"""Checkpoints of the authors' code: their names, there and back, and refusals."""

from __future__ import annotations

import copy
import re
from dataclasses import replace

import pytest
import torch

from clipsam.methods.clip_guided_sam import ClipGuidedSamPredictor
from clipsam.methods.reference_checkpoint import (
    POSITIONS,
    _resized_positions,
    read_reference_checkpoint,
    reference_design,
    write_reference_checkpoint,
)
from clipsam.models.clip import build_clip, with_text_positions
from clipsam.models.sam_model import build_sam
from clipsam.models.sizes import SamConfig
from clipsam.prompting import PromptSettings
from clipsam.weights.backbones import Backbones, assemble
from clipsam.weights.bundle import WeightsError, save_bundle
from clipsam.weights.convert import clip_from_openai
from clipsam.weights.presets import PRESETS
from tests.weights.conftest import SMALL_CLIP

SIZES = SamConfig(
    image_size=64, patch_size=8, embed_dim=32, depth=2, num_heads=2, global_blocks=(1,),
    window_size=3,
)  # fmt: skip
SAM, CLIP, TOKEN = "model_state_dict", "clip_model", "mask_decoder.iou_token.weight"
PRESET = replace(PRESETS["base-reference"], name="small", sam=SIZES, clip=SMALL_CLIP)


@pytest.fixture(scope="module")
def backbones() -> Backbones:
    torch.manual_seed(0)
    return assemble(PRESET, build_sam(SIZES), build_clip(SMALL_CLIP))


@pytest.fixture(scope="module")
def predictor(backbones) -> ClipGuidedSamPredictor:
    """Tuned: every trainable weight differs from its start."""
    predictor = ClipGuidedSamPredictor.untrained(backbones, reference_design(PRESET))
    torch.manual_seed(1)
    for tensor in predictor.model.trainable_state().values():
        tensor += 0.1 * torch.randn(tensor.shape)
    return predictor


@pytest.fixture
def checkpoint(predictor, tmp_path):
    path = tmp_path / "authors.pth"
    write_reference_checkpoint(predictor, path)
    return path


def assert_same(read, predictor) -> None:
    expected = predictor.model.trainable_state()
    found = read.model.trainable_state()
    assert found.keys() == expected.keys() and len(found) > 100
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_there_and_back(checkpoint, predictor, backbones):
    assert_same(read_reference_checkpoint(checkpoint, backbones), predictor)


def test_names_are_the_authors(checkpoint, golden):
    """Those of the reference files, and OpenAI's; CLIP's there and back."""
    content = torch.load(checkpoint, weights_only=True)
    names = content["model_state_dict"].keys()
    encoder = {n.removeprefix("image_encoder.") for n in names if n.startswith("image_encoder.")}
    assert encoder == golden("clipguided_encoder").weights.keys()
    reference = golden("clip_surgery").weights.keys()
    kinds = {re.sub(r"\d+", "N", name) for name in reference}
    assert {re.sub(r"\d+", "N", name) for name in content["clip_model"]} == kinds
    assert len(clip_from_openai(content["clip_model"])) == len(build_clip(SMALL_CLIP).state_dict())


def test_wrapped_resized_and_renamed(checkpoint, predictor, backbones):
    """As several GPUs and the first run of CLIP Surgery leave it."""

    content = torch.load(checkpoint, weights_only=True)
    clip = content[CLIP]
    positions = clip["visual.positional_embedding"]
    clip["visual.positional_embedding"] = _resized_positions(positions, 1 + 8 * 8)
    for name in [n for n in clip if n.startswith("visual.") and "resblocks.2.attn" in n]:
        renamed = name.replace("in_proj_", "qkv.").replace("out_proj", "proj")
        clip[renamed] = clip.pop(name)
        clip[renamed.replace("transformer.resblocks.2.", "")] = clip[renamed]
    wrapped = {
        key: {f"module.{name}": tensor for name, tensor in content[key].items()}
        for key in (SAM, CLIP)
    }
    torch.save({**wrapped, "epoch": 3}, checkpoint)
    read = read_reference_checkpoint(checkpoint, backbones)
    assert_same(read, predictor)
    assert read.model.state_dict()[f"vision.{POSITIONS}"].shape == (17, 32)


def test_it_prompts_sam_as_the_authors_do(checkpoint, backbones, tmp_path):
    """255·[map > 0.8], and 5 points drawn uniformly with replacement; a bundle keeps that."""
    read = read_reference_checkpoint(checkpoint, backbones)
    assert read.prompt_settings == PromptSettings(5, "reference", 0.8, 255.0)
    save_bundle(tmp_path / "bundle", read.bundle_config({}), read.model.trainable_state())
    again = ClipGuidedSamPredictor.load(backbones, tmp_path / "bundle")
    assert again.prompt_settings == read.prompt_settings


def test_the_position_embedding_of_text_may_have_drifted(checkpoint, predictor, backbones):
    """It gets a gradient in the authors' training; texts are then read with it."""
    content = torch.load(checkpoint, weights_only=True)
    drifted = content[CLIP]["positional_embedding"]
    drifted += 0.05 * torch.randn(drifted.shape, generator=torch.Generator().manual_seed(2))
    torch.save(content, checkpoint)
    read = read_reference_checkpoint(checkpoint, backbones)
    expected = copy.deepcopy(backbones.clip)
    expected.text_model.embeddings.position_embedding.weight.data.copy_(drifted)
    ids = torch.randint(1, 40, (3, 7), generator=torch.Generator().manual_seed(3))
    clip = with_text_positions(backbones.clip, read.model.text_positions)
    with torch.no_grad():
        found, there, before = (
            one.text_model(input_ids=ids).last_hidden_state
            for one in (clip, expected, backbones.clip)
        )
    torch.testing.assert_close(found, there, atol=0, rtol=0)
    assert (found - before).abs().max() > 1e-3
    shared = {id(tensor) for tensor in backbones.clip.parameters()}
    own = [name for name, tensor in clip.named_parameters() if id(tensor) not in shared]
    assert own == ["text_model.embeddings.position_embedding.weight"]
    assert read._own_text is not None and read.text is not backbones.text
    write_reference_checkpoint(read, checkpoint)
    written = torch.load(checkpoint, weights_only=True)[CLIP]["positional_embedding"]
    assert torch.equal(written, drifted)


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        (SAM, TOKEN, None, "expected .*iou_token.weight of shape .*, got missing"),
        (SAM, TOKEN, torch.ones(2, 256), r"of shape \(1, 256\), got \(2, 256\)"),
        (SAM, "other", torch.ones(1), "other, which is not in the authors' network"),
        (SAM, "image_encoder.pos_embed", torch.ones(1, 8, 8, 32), "another SAM or CLIP"),
        (CLIP, "ln_final.weight", torch.zeros(32), "another SAM or CLIP"),
        (CLIP, "epoch", 3, "clip_model must contain named tensors"),
    ],
)
def test_refusals(checkpoint, backbones, part, name, value, message):
    content = torch.load(checkpoint, weights_only=True)
    content[part][name] = value
    if value is None:
        del content[part][name]
    torch.save(content, checkpoint)
    with pytest.raises(WeightsError, match=message):
        read_reference_checkpoint(checkpoint, backbones)


def test_another_checkpoint(backbones, tmp_path):
    torch.save({"state": {}}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="must contain model_state_dict and clip_model"):
        read_reference_checkpoint(tmp_path / "a.pth", backbones)


def test_only_the_authors_network_is_exported(backbones, tmp_path):
    with pytest.raises(WeightsError, match="block=reference"):
        write_reference_checkpoint(ClipGuidedSamPredictor.untrained(backbones), tmp_path / "a.pth")
    assert not list(tmp_path.iterdir())
