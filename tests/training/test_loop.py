"""The training loop: an interrupted run ends where an unbroken one does."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from clipsam.data.scenes import SceneData
from clipsam.data.stream import Domain, TrainingStream
from clipsam.training.loop import LoopConfig, train


class ToyStage:
    """Guess the mean colour of a crop, with noise, so that every source of chance matters."""

    name = "toy"

    def __init__(self, fail_at: int | None = None) -> None:
        torch.manual_seed(0)
        self.module = nn.Linear(3, 3)
        self.calls, self.fail_at = 0, fail_at

    def parameter_groups(self) -> list[dict]:
        return [{"params": list(self.module.parameters()), "lr": 0.05, "weight_decay": 0.01}]

    def loss(self, batch):
        if self.calls == self.fail_at:
            raise KeyboardInterrupt
        self.calls += 1
        colour = batch["sam"].float().mean((2, 3)) / 255
        noisy = colour + 0.1 * torch.randn_like(colour)
        loss = (self.module(noisy) - colour).square().mean()
        return loss, {"figure": loss.item()}


def stream() -> TrainingStream:
    return TrainingStream({"scenes": Domain(SceneData(50, 3, size=32), 1.0, True)}, 5, 32, 32)


def test_interrupted_run_equals_unbroken(tmp_path):
    config = LoopConfig(steps=8, batch_size=2, warmup=2, save_seconds=0.0, workers=0)
    device = torch.device("cpu")
    whole = ToyStage()
    train(whole, stream(), config, tmp_path / "whole", device)
    with pytest.raises(KeyboardInterrupt):
        train(ToyStage(fail_at=5), stream(), config, tmp_path / "broken", device)
    rest = ToyStage()
    train(rest, stream(), config, tmp_path / "broken", device)
    assert rest.calls == 3
    for ours, theirs in zip(rest.module.parameters(), whole.module.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_finished_run_is_not_repeated_and_is_logged(tmp_path):
    config = LoopConfig(steps=3, batch_size=2, warmup=1, workers=0)
    train(ToyStage(), stream(), config, tmp_path, torch.device("cpu"))
    again = ToyStage()
    train(again, stream(), config, tmp_path, torch.device("cpu"))
    assert again.calls == 0
    first = json.loads((tmp_path / "toy.jsonl").read_text().splitlines()[0])
    assert first["step"] == 0 and first["loss"] > 0
