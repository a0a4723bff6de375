"""Models are loaded when first asked for, once, and unloaded when there are too many."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from clipsam.encoded_image import EncodedImage
from clipsam.errors import PromptError
from clipsam.registry import load_predictor
from clipsam.types import prompt_from_classes
from clipsam.weights.bundle import WeightsError
from clipsam.weights.published import PublishedWeights
from clipsam.workbench import model_store

GPU = torch.device("cpu", 0)
"""Stands in for one: it differs from what ``torch.device("cpu")`` is, and computes the same."""


class FakePredictor:
    """Has a thousand weights of its own, and those of the backbones."""

    def __init__(self, method: str, backbones: SimpleNamespace) -> None:
        self.method, self.backbones = method, backbones
        self.own = torch.nn.Linear(1000, 1, bias=False)

    def network(self) -> torch.nn.Module:
        return torch.nn.ModuleList([self.own, self.backbones.sam])

    def on(self, device: torch.device) -> FakePredictor:
        return self


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What has been loaded, in order; nothing real is."""
    names: list[str] = []

    def load_backbones(preset: object) -> SimpleNamespace:
        names.append(preset.name)
        sam, clip = (torch.nn.Linear(500, 1, bias=False) for _ in range(2))
        backbones = SimpleNamespace(sam=sam, clip=clip)
        backbones.on = lambda device: backbones
        return backbones

    def load_predictor(method: str, backbones: SimpleNamespace, _: object) -> FakePredictor:
        names.append(method)
        return FakePredictor(method, backbones)

    monkeypatch.setattr(model_store, "load_backbones", load_backbones)
    monkeypatch.setattr(model_store, "load_predictor", load_predictor)
    extra_networks = {"huge": (PublishedWeights("x/huge", megabytes=1, licence="MIT"),)}

    def find_info(name: str) -> SimpleNamespace:
        return SimpleNamespace(extra_networks=lambda preset: extra_networks.get(name, ()))

    monkeypatch.setattr(model_store, "find_info", find_info)
    return names


def test_backbones_are_loaded_once_per_preset(loaded: list[str]) -> None:
    store = model_store.ModelStore()
    assert loaded == []
    first = store.predictor("tiny", "sam")
    assert store.predictor("tiny", "sam") is first
    assert store.predictor("tiny", "clip-surgery-sam").backbones is first.backbones
    store.predictor("base", "sam")
    assert loaded == ["tiny", "sam", "clip-surgery-sam", "base", "sam"]
    assert store.bytes == 4 * (2 * 1000 + 3 * 1000)


def test_the_longest_unused_is_unloaded(loaded: list[str]) -> None:
    store = model_store.ModelStore(max_bytes=4 * 4000)
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
    store = model_store.ModelStore(max_bytes=4 * 4000)
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
    store = model_store.ModelStore(max_bytes=4 * 4000)
    for method in ("a", "b"):
        store.predictor("tiny", method)
    load, before = model_store.load_predictor, []
    monkeypatch.setattr(
        model_store, "load_predictor", lambda *given: (before.append(store.bytes), load(*given))[1]
    )
    store.predictor("tiny", "huge")
    assert before == [4 * 2000]  # "b" stays, as the one used last, with the backbones


def test_what_was_asked_last_stays_whatever_its_size(loaded: list[str]) -> None:
    store = model_store.ModelStore(max_bytes=1)
    for method in ("a", "b"):
        assert store.predictor("tiny", method) is store.predictor("tiny", method)
    assert loaded == ["tiny", "a", "b"]


def test_a_method_gives_the_same_answer_after_it_was_unloaded(tiny) -> None:
    store, prompt = model_store.ModelStore(max_bytes=1), prompt_from_classes([["red disc"]])
    encoded = EncodedImage(torch.randint(0, 256, (60, 80, 3), dtype=torch.uint8).numpy())
    before = store.predictor("tiny", "clip-guided-sam").predict(encoded, prompt)
    store.predictor("tiny", "clip-surgery-sam")
    after = store.predictor("tiny", "clip-guided-sam").predict(encoded, prompt)
    assert (before.logits() == after.logits()).all()


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Weights that lie on the stand-in of a GPU, by ``id``; a card of 10,000 weights."""
    lying: set[int] = set()

    def move_tensors(tensors: Iterable[torch.Tensor], device: torch.device) -> None:
        ids = {id(tensor) for tensor in tensors}
        if device == GPU:
            lying.update(ids)
        else:
            lying.difference_update(ids)

    monkeypatch.setattr(model_store, "move_tensors", move_tensors)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 4 * 10_000))
    return lying


def gpu_store(max_bytes: int) -> model_store.ModelStore:
    store = model_store.ModelStore(max_bytes)
    store.device = GPU
    return store


def asked(store: model_store.ModelStore, method: str, on_gpu: set[int]) -> FakePredictor:
    """A method of the store, which brings its weights as a prediction does."""
    predictor = store.predictor("tiny", method)
    model_store.move_tensors(predictor.network().parameters(), GPU)
    return predictor


def test_on_a_gpu_the_longest_unused_goes_to_the_cpu_first(loaded, on_gpu) -> None:
    store = gpu_store(4 * 3000)
    made = {method: asked(store, method, on_gpu) for method in "ab"}
    assert {id(one.own.weight) for one in made.values()} <= on_gpu
    made["c"] = asked(store, "c", on_gpu)
    lying = {name for name, one in made.items() if id(one.own.weight) in on_gpu}
    # What the others share with it stays.
    assert lying == {"b", "c"} and id(made["a"].backbones.sam.weight) in on_gpu
    assert asked(store, "a", on_gpu) is made["a"]
    lying = {name for name, one in made.items() if id(one.own.weight) in on_gpu}
    assert lying == {"a", "c"}
    assert loaded == ["tiny", "a", "b", "c"]


def test_what_fits_neither_there_nor_beside_it_is_unloaded(loaded, on_gpu) -> None:
    store = gpu_store(4 * 2000)
    first = asked(store, "a", on_gpu)
    for method in "bc":
        asked(store, method, on_gpu)
    assert asked(store, "a", on_gpu) is first
    assert store.bytes == 2 * store.max_bytes
    for method in "de":
        asked(store, method, on_gpu)
    assert asked(store, "b", on_gpu) and loaded == ["tiny", *"abcdeb"]
    assert store.bytes <= 2 * store.max_bytes


def test_half_of_a_card_is_for_what_is_computed(loaded, on_gpu) -> None:
    store = gpu_store(4 * 10**6)
    made = [asked(store, method, on_gpu) for method in "abcdef"]
    assert [id(one.own.weight) in on_gpu for one in made] == [False, False] + 4 * [True]


def test_backbones_to_train_on_are_brought(loaded, on_gpu) -> None:
    store = gpu_store(4 * 3000)
    backbones = store.backbones("tiny")
    assert {id(backbones.sam.weight), id(backbones.clip.weight)} == on_gpu


def test_a_method_gives_the_same_answer_after_it_was_moved_away(tiny, monkeypatch) -> None:
    """With torch's second name for the CPU in the place of a GPU."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 2))
    store, prompt = gpu_store(2**40), prompt_from_classes([["red disc"], ["star"]])
    encoded = EncodedImage(torch.randint(0, 256, (60, 80, 3), dtype=torch.uint8).numpy())
    names = ("clip-guided-sam", "esc-net", "clip-surgery-sam")
    before = [store.predictor("tiny", name).predict(encoded, prompt) for name in names]
    for name, expected in zip(names, before, strict=True):
        predictor = store.predictor("tiny", name)
        assert predictor.backbones.device == GPU
        assert (predictor.predict(encoded, prompt).logits() == expected.logits()).all()
        alone = load_predictor(name, tiny).predict(EncodedImage(encoded.image), prompt)
        np.testing.assert_allclose(alone.logits(), expected.logits(), atol=1e-4)


def test_an_unknown_preset_is_one_sentence() -> None:
    with pytest.raises(PromptError, match="no preset “x”"):
        model_store.ModelStore().backbones("x")


def test_a_failed_load_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(on=lambda device: found)
    answers = iter([WeightsError("not there"), found])

    def load(preset: object) -> object:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(model_store, "load_backbones", load)
    store = model_store.ModelStore()
    with pytest.raises(WeightsError, match="not there"):
        store.backbones("tiny")
    assert store.backbones("tiny") is found
