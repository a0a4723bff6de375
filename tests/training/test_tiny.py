"""The stages of the tiny bundle, a few steps each on procedural scenes, from end to end."""

from __future__ import annotations

import json

import pytest
import torch

from clipsam.training import tiny
from clipsam.training.loop import LoopConfig
from clipsam.training.tiny import TinyRecipe, TinyTraining
from clipsam.types import PromptError
from clipsam.weights import backbones
from clipsam.weights.presets import TINY


@pytest.fixture
def training(tmp_path, monkeypatch):
    short = LoopConfig(steps=2, batch_size=2, warmup=1, workers=0)
    recipe = TinyRecipe(clip=short, sam=short, method=short)
    monkeypatch.setattr(tiny, "calibrate", lambda *_: backbones.Calibration(0.6, 0.3, 8.0))
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
    assert config["training"]["loop"]["steps"] == 2
    again = backbones.load_backbones(TINY, folder=tmp_path / "tiny")
    for name, parameter in again.sam.image_encoder.named_parameters():
        assert torch.equal(parameter, frozen[name])


def test_unknown_stage_names_the_stages(training):
    with pytest.raises(PromptError, match="clip-guided-sam"):
        training.run("esc")
