"""The training loop: an interrupted, a divided and an unbroken run end in the same weights."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from clipsam.errors import PromptError
from clipsam.training.loop import LoopConfig, train

QUICK = LoopConfig(
    steps=8, batch_size=4, warmup=2, precision="float32", save_seconds=0.0, workers=0
)


class Colours(Dataset):
    """Sample i is a random colour, the same at every call."""

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"colour": torch.rand(3, generator=torch.Generator().manual_seed(index))}


class ToyStage:
    """Guess a colour from itself; with noise, so that every source of chance matters."""

    name = "toy"

    def __init__(self, fail_at: int | None = None, noise: float = 0.1) -> None:
        torch.manual_seed(0)
        self.module = nn.Linear(3, 3)
        self.calls, self.fail_at, self.noise = 0, fail_at, noise

    def parameter_groups(self) -> list[dict]:
        return [{"params": list(self.module.parameters()), "lr": 0.05, "weight_decay": 0.01}]

    def loss(self, batch):
        if self.calls == self.fail_at:
            raise KeyboardInterrupt
        self.calls += 1
        colour = batch["colour"]
        noisy = colour + self.noise * torch.randn_like(colour)
        loss = (self.module(noisy) - colour).square().mean()
        return loss, {"figure": loss.item()}


def weights(stage: ToyStage) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in stage.module.parameters()])


def replaced(**fields) -> LoopConfig:
    return LoopConfig(**{**QUICK.__dict__, **fields})


def test_interrupted_run_equals_unbroken(tmp_path):
    whole = ToyStage()
    train(whole, Colours(), QUICK, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(ToyStage(fail_at=5), Colours(), QUICK, tmp_path / "broken")
    rest = ToyStage()
    train(rest, Colours(), QUICK, tmp_path / "broken")
    assert rest.calls == 3
    assert torch.equal(weights(rest), weights(whole))
    logs = [(tmp_path / run / "toy.jsonl").read_text() for run in ("whole", "broken")]
    assert logs[0] == logs[1]


def test_finished_run_is_not_repeated(tmp_path):
    train(ToyStage(), Colours(), QUICK, tmp_path)
    again = ToyStage()
    result = train(again, Colours(), QUICK, tmp_path)
    assert again.calls == 0
    assert result.best_step == 8
    lines = [json.loads(line) for line in (tmp_path / "toy.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(8))
    assert all(line["loss"] == line["figure"] > 0 for line in lines)


def test_accumulated_parts_are_one_batch(tmp_path):
    """The loss is a mean over samples: two halves of a batch add up to it."""
    whole, parts = ToyStage(noise=0), ToyStage(noise=0)
    train(whole, Colours(), QUICK, tmp_path / "whole")
    train(parts, Colours(), replaced(accumulate=2), tmp_path / "parts")
    assert parts.calls == 2 * whole.calls
    torch.testing.assert_close(weights(parts), weights(whole), atol=1e-6, rtol=1e-5)


def test_a_batch_that_cannot_be_shared_out_is_refused(tmp_path):
    with pytest.raises(PromptError, match="4 cannot be shared out evenly over 1 processes × 3"):
        train(ToyStage(), Colours(), replaced(accumulate=3), tmp_path)


def test_weights_that_validated_best_are_kept(tmp_path):
    stage = ToyStage()
    seen = []

    def validate() -> float:
        assert not stage.module.training
        seen.append(weights(stage).clone())
        return [0.2, 0.9, 0.5, 0.1][len(seen) - 1]

    config = replaced(validate_steps=2)
    result = train(stage, Colours(), config, tmp_path, validate)
    assert (result.best_step, result.best_score) == (4, 0.9)
    assert torch.equal(weights(stage), seen[1])
    assert not torch.equal(seen[1], seen[3])


def test_the_best_weights_survive_an_interruption(tmp_path):
    config = replaced(validate_steps=2)
    first = ToyStage(fail_at=5)
    kept = []

    def falling() -> float:
        kept.append(weights(first).clone())
        return -float(len(kept))

    with pytest.raises(KeyboardInterrupt):
        train(first, Colours(), config, tmp_path, falling)
    rest = ToyStage()
    result = train(rest, Colours(), config, tmp_path, lambda: -9.0)
    assert (result.best_step, result.best_score) == (2, -1.0)
    assert torch.equal(weights(rest), kept[0])


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("constant", [0.5, 1, 1, 1, 1, 1, 1, 1]), ("cosine", [0.5, 1, 1, 0.933, 0.75, 0.5, 0.25])],
)
def test_learning_rate(tmp_path, schedule, expected):
    """Linear over two steps, then constant, or ½(1 + cos(πt)) for t = 0, 1⁄6, 2⁄6, …"""
    train(ToyStage(), Colours(), replaced(schedule=schedule), tmp_path)
    lines = (tmp_path / "toy.jsonl").read_text().splitlines()
    shares = [json.loads(line)["lr_share"] for line in lines]
    assert shares[: len(expected)] == pytest.approx(expected, abs=1e-3)


def test_a_watcher_ends_it_and_the_last_step_is_judged(tmp_path):
    seen = []

    def watch(step: int, figures: dict[str, float]) -> bool:
        seen.append((step, figures["loss"]))
        return step == 3

    stage = ToyStage()
    result = train(stage, Colours(), QUICK, tmp_path, lambda: 0.5, watch)
    assert [step for step, _ in seen] == [1, 2, 3]
    assert stage.calls == result.steps == result.best_step == 3
    assert result.best_score == 0.5
    lines = [json.loads(line) for line in (tmp_path / "toy.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines] == pytest.approx([loss for _, loss in seen], abs=1e-6)
    assert [("validation" in line) for line in lines] == [False, False, True]


def test_the_clock_ends_it_and_sets_the_learning_rate(tmp_path, monkeypatch):
    """Each look at this clock is a second, so each step takes one: of four, cosine's quarters."""
    ticks = itertools.count()
    monkeypatch.setattr("clipsam.training.loop.time.monotonic", lambda: float(next(ticks)))
    config = replaced(steps=10**6, warmup=0, seconds=4.0, save_seconds=1e9)
    result = train(ToyStage(), Colours(), config, tmp_path)
    assert (result.steps, result.seconds) == (4, 4.0)
    lines = (tmp_path / "toy.jsonl").read_text().splitlines()
    shares = [json.loads(line)["lr_share"] for line in lines]
    assert shares == pytest.approx([1, 0.854, 0.5, 0.146], abs=1e-3)
