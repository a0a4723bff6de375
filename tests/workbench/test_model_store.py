"""Models are loaded when first asked for, once, and unloaded when there are too many."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace

import pytest
import torch

import baselines  # noqa: F401 (registers them)
import clipsam.methods  # noqa: F401
from clipsam.scene import Scene
from clipsam.types import PromptError, prompt_from_classes
from clipsam.weights.bundle import WeightsError
from clipsam.weights.published import Published
from clipsam.workbench import models


class FakePredictor:
    """Has a thousand weights of its own, and those of the backbones."""

    def __init__(self, method: str, backbones: SimpleNamespace) -> None:
        self.method, self.backbones = method, backbones
        self.own = torch.nn.Linear(1000, 1, bias=False)

    def network(self) -> torch.nn.Module:
        return torch.nn.ModuleList([self.own, self.backbones.sam])


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What has been loaded, in order; nothing real is."""
    names: list[str] = []

    def load_backbones(preset: object, device: object) -> SimpleNamespace:
        names.append(preset.name)
        sam, clip = (torch.nn.Linear(500, 1, bias=False) for _ in range(2))
        return SimpleNamespace(sam=sam, clip=clip)

    def load_predictor(method: str, backbones: SimpleNamespace, _: object) -> FakePredictor:
        names.append(method)
        return FakePredictor(method, backbones)

    monkeypatch.setattr(models, "load_backbones", load_backbones)
    monkeypatch.setattr(models, "load_predictor", load_predictor)
    beside = {"huge": (Published("x/huge", megabytes=1, licence="MIT"),)}
    method = lambda name: SimpleNamespace(beside=lambda preset: beside.get(name, ()))  # noqa: E731
    monkeypatch.setattr(models, "find_method", method)
    return names


def test_backbones_are_loaded_once_per_preset(loaded: list[str]) -> None:
    store = models.ModelStore()
    assert loaded == []
    first = store.predictor("tiny", "sam")
    assert store.predictor("tiny", "sam") is first
    assert store.predictor("tiny", "clip-surgery-sam").backbones is first.backbones
    store.predictor("base", "sam")
    assert loaded == ["tiny", "sam", "clip-surgery-sam", "base", "sam"]
    assert store.bytes == 4 * (2 * 1000 + 3 * 1000)


def test_the_longest_unused_is_unloaded(loaded: list[str]) -> None:
    store = models.ModelStore(max_bytes=4 * 4000)
    one, two = store.predictor("tiny", "a"), store.predictor("tiny", "b")
    assert store.predictor("tiny", "c")
    assert store.bytes == 4 * 4000
    assert store.predictor("tiny", "a") is one
    store.predictor("tiny", "d")
    assert store.predictor("tiny", "a") is one
    assert store.predictor("tiny", "b") is not two
    assert store.bytes <= 4 * 4000
    assert loaded == ["tiny", "a", "b", "c", "d", "b"]


def test_backbones_go_with_their_last_method(loaded: list[str]) -> None:
    store = models.ModelStore(max_bytes=4 * 4000)
    sam = weakref.ref(store.predictor("tiny", "a").backbones.sam)
    store.predictor("base", "a")
    gc.collect()
    assert sam() is not None
    store.predictor("base", "b")
    gc.collect()
    assert sam() is None
    store.predictor("tiny", "b")
    assert loaded == ["tiny", "a", "base", "a", "b", "tiny", "b"]


def test_room_is_made_before_a_large_network_is_read(loaded, monkeypatch) -> None:
    store = models.ModelStore(max_bytes=4 * 4000)
    for method in ("a", "b"):
        store.predictor("tiny", method)
    load, before = models.load_predictor, []
    monkeypatch.setattr(
        models, "load_predictor", lambda *given: (before.append(store.bytes), load(*given))[1]
    )
    store.predictor("tiny", "huge")
    assert before == [4 * 2000]  # "b" stays, as the one used last, with the backbones


def test_what_was_asked_last_stays_whatever_its_size(loaded: list[str]) -> None:
    store = models.ModelStore(max_bytes=1)
    for method in ("a", "b"):
        assert store.predictor("tiny", method) is store.predictor("tiny", method)
    assert loaded == ["tiny", "a", "b"]


def test_a_method_gives_the_same_answer_after_it_was_unloaded(tiny) -> None:
    store, prompt = models.ModelStore(max_bytes=1), prompt_from_classes([["red disc"]])
    scene = Scene(torch.randint(0, 256, (60, 80, 3), dtype=torch.uint8).numpy())
    before = store.predictor("tiny", "clip-guided-sam").predict(scene, prompt)
    store.predictor("tiny", "clip-surgery-sam")
    after = store.predictor("tiny", "clip-guided-sam").predict(scene, prompt)
    assert (before.logits() == after.logits()).all()


def test_an_unknown_preset_is_one_sentence() -> None:
    with pytest.raises(PromptError, match="no preset “x”"):
        models.ModelStore().backbones("x")


def test_a_failed_load_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([WeightsError("not there"), "backbones"])

    def load(preset: object, device: object) -> object:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(models, "load_backbones", load)
    store = models.ModelStore()
    with pytest.raises(WeightsError, match="not there"):
        store.backbones("tiny")
    assert store.backbones("tiny") == "backbones"
