"""The stages of the tiny bundle, a few steps each on procedural scenes, from end to end."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from clipsam.errors import PromptError
from clipsam.methods.clip_guided_sam import ClipGuidedSamPredictor
from clipsam.methods.esc_net import EscNetPredictor
from clipsam.training import tiny, tuned_sam_stage
from clipsam.training.loop import LoopConfig
from clipsam.training.recipe import TINY_ESC_NET_RECIPE, TINY_RECIPE
from clipsam.training.tiny import TinyRecipe, TinyTraining
from clipsam.weights import backbones
from clipsam.weights.presets import TINY


@pytest.fixture
def training(tmp_path, monkeypatch):
    short = LoopConfig(steps=2, batch_size=2, warmup=1, workers=0)
    few = dict(steps=2, batch_size=2, validation_images=0)
    counts = {"scenes": 3, "camouflage": 2}
    recipe = TinyRecipe(
        clip=short,
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


def test_every_stage_ends_in_a_bundle_that_loads(training, tmp_path):
    for stage in ("clip", "sam"):
        training.run(stage)
    loaded = backbones.load_backbones(TINY, folder=tmp_path / "tiny")
    assert loaded.calibration.point_threshold == 0.6
    frozen = {name: p.clone() for name, p in loaded.sam.image_encoder.named_parameters()}
    training.run("clip-guided-sam")
    config = json.loads((tmp_path / "tiny/clip-guided-sam/config.json").read_text())
    assert config["preset"] == "tiny"
    assert config["training"]["steps"] == 2
    assert config["training"]["split"] == "3 of scenes, 2 of camouflage"
    again = backbones.load_backbones(TINY, folder=tmp_path / "tiny")
    predictor = ClipGuidedSamPredictor.load(again, tmp_path / "tiny/clip-guided-sam")
    assert predictor.calibration == backbones.Calibration(0.6, 0.3, 8.0)
    for name, parameter in again.sam.image_encoder.named_parameters():
        assert torch.equal(parameter, frozen[name])

    training.run("esc-net")
    config = json.loads((tmp_path / "tiny/esc-net/config.json").read_text())
    assert config["training"]["split"] == "4 of scenes, 2 of camouflage"
    assert EscNetPredictor.load(again, tmp_path / "tiny/esc-net").config.use_sam


def test_unknown_stage_names_the_stages(training):
    with pytest.raises(PromptError, match="clip-guided-sam"):
        training.run("espresso")
