"""Caches forget, and a prediction that runs out of memory finishes in a way that needs less.

No GPU is needed: the second name that torch has for the CPU stands in for one, and the error that a
full GPU raises is raised from inside the networks.
"""

from __future__ import annotations

import html
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from clipsam import memory
from clipsam.encoded_image import EncodedImage
from clipsam.errors import PromptError
from clipsam.export import write_prediction
from clipsam.memory import (
    CPU,
    FallbackPlan,
    LRUCache,
    exclusive,
    move_tensors,
    run_with_fallback,
    weights,
)
from clipsam.models.clip import ClassTextEncoder
from clipsam.predictor import PredictOptions, Predictor
from clipsam.registry import load_predictor
from clipsam.types import Concept, Prediction, Prompt
from clipsam.workbench.compare.card_html import details

GPU = torch.device("cpu", 0)
"""Differs from :data:`CPU` for whoever compares, computes the same."""

IMAGE = np.random.default_rng(3).integers(0, 256, (60, 90, 3), dtype=np.uint8)
TEN = Prompt(tuple(Concept((f"thing {number}",)) for number in range(10)))
AFRESH = "The GPU ran out of memory: "


@pytest.fixture(autouse=True)
def nothing_left_over() -> Iterator[None]:
    memory._on_gpu.clear()
    yield
    memory._on_gpu.clear()


# Caches


def test_the_longest_unasked_is_forgotten() -> None:
    computed: list[str] = []

    def ask(key: str) -> str:
        return known.get(key, lambda: computed.append(key) or key.upper())

    known: LRUCache[str] = LRUCache(2)
    assert [ask(key) for key in "abacab"] == list("ABACAB")
    # "c" takes the place of "b", not of "a", which was asked for since; "b" then that of "c".
    assert computed == ["a", "b", "c", "b"]
    assert len(known) == 2


def test_what_cannot_be_computed_is_not_remembered() -> None:
    known: LRUCache[int] = LRUCache(2)
    with pytest.raises(ZeroDivisionError):
        known.get("a", lambda: 1 // 0)
    assert known.get("a", lambda: 7) == 7


@pytest.mark.parametrize(
    ("method", "where"),
    [
        ("esc-net", "clipsam.methods.esc_net"),
        ("sam-proposals-clip", "baselines.sam_proposals_clip"),
        ("clip-surgery-sam", "clipsam.models.clip"),
    ],
)
def test_features_of_texts_are_bounded(tiny, monkeypatch, method: str, where: str) -> None:
    """Ever new words do not fill the memory, and one question may have more than are kept."""
    expected = load_predictor(method, tiny).predict(EncodedImage(IMAGE), TEN).logits()
    monkeypatch.setattr(f"{where}.MAX_CACHED_TEXTS", 3)
    backbones = replace(tiny, text=ClassTextEncoder(tiny.clip, tiny.text.tokenizer))
    predictor = load_predictor(method, backbones)
    for _ in range(2):
        found = predictor.predict(EncodedImage(IMAGE), TEN).logits()
        np.testing.assert_array_equal(found, expected)
        caches = [vars(predictor).get("_texts"), vars(backbones.text)["_features"]]
        assert [len(cache) for cache in caches if cache is not None and cache._most == 3] == [3]


# Steps


def failing(times: int, seen: list[FallbackPlan]) -> Callable[[FallbackPlan], str]:
    """Runs out of memory so often, then answers."""

    def run(step: FallbackPlan) -> str:
        seen.append(step)
        if len(seen) <= times:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return "answer"

    return run


@pytest.mark.parametrize(
    ("device", "classes", "portions"),
    [
        (GPU, 1, [None, 1]),
        (GPU, 8, [None, 1]),
        (GPU, 9, [None, 8, 1]),
        (GPU, 847, [None, 8, 1]),
        (CPU, 9, [None, 8, 1]),
    ],
)
def test_the_steps(device: torch.device, classes: int, portions: list[int | None]) -> None:
    expected = [FallbackPlan(device, portion) for portion in portions]
    if device == GPU:
        expected.append(FallbackPlan(CPU))
    for times in range(len(expected)):
        seen: list[FallbackPlan] = []
        value, note, lost = run_with_fallback(failing(times, seen), device, classes)
        assert (value, seen) == ("answer", expected[: times + 1])
        assert (note == "", lost == 0) == (times == 0, times == 0)
    assert device == CPU or "used the CPU for all classes" in note
    with pytest.raises(torch.OutOfMemoryError):
        run_with_fallback(failing(len(expected), []), device, classes)


def test_the_note_says_what_was_done() -> None:
    notes = [run_with_fallback(failing(times, []), GPU, 20)[1] for times in range(4)]
    assert notes == [
        "",
        AFRESH + "recomputed at most 8 classes at a time after freeing the GPU.",
        AFRESH + "recomputed one class at a time after freeing the GPU.",
        AFRESH + "used the CPU for all classes, which takes longer.",
    ]


@pytest.mark.parametrize("error", [RuntimeError("CUDA error: out of memory"), MemoryError()])
def test_no_other_error_is_caught(error: Exception) -> None:
    calls: list[FallbackPlan] = []

    def run(step: FallbackPlan) -> None:
        calls.append(step)
        raise error

    with pytest.raises(type(error)):
        run_with_fallback(run, GPU, 20)
    assert len(calls) == 1


class Holder:
    """Something on a GPU."""

    def __init__(self) -> None:
        self.lies = CPU

    def to(self, device: torch.device) -> None:
        self.lies = device


def test_before_the_next_step_the_gpu_is_empty() -> None:
    """What the failed step made is gone, and everything else has moved away."""
    others, mine = [Holder(), Holder()], Holder()
    FallbackPlan(GPU).move(*others)
    held: list[weakref.ref[Holder]] = []
    found: list[tuple[bool, list[torch.device], torch.device]] = []

    def run(step: FallbackPlan) -> None:
        alive = any(ref() is not None for ref in held)
        found.append((alive, [one.lies for one in others], mine.lies))
        step.move(mine)
        made = Holder()
        made.itself = made  # only the collector of circles finds it
        held.append(weakref.ref(made))
        if len(found) < 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    run_with_fallback(run, GPU, 1)
    assert found[0] == (False, [GPU, GPU], CPU)
    assert found[1:] == [(False, [CPU, CPU], CPU)] * 2


def test_a_gpu_is_held_by_one_at_a_time() -> None:
    def tried() -> list[bool]:
        got: list[bool] = []

        def other() -> None:
            got.append(memory._one_at_a_time.acquire(timeout=0.05))
            if got[0]:
                memory._one_at_a_time.release()

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        return got

    assert run_with_fallback(lambda _: tried(), GPU, 1)[0] == [False]
    assert run_with_fallback(lambda _: tried(), CPU, 1)[0] == [True]
    with exclusive(GPU), exclusive(GPU):
        assert tried() == [False]
    assert tried() == [True]


def test_weights_move_in_place() -> None:
    """Whoever shares one finds it moved; training goes on with the same parameters."""
    one = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    other, places = nn.Sequential(one[0]), {t.data_ptr() for t in one.state_dict().values()}
    before = [*one.parameters(), *one.buffers()]
    move_tensors(weights(one, other).values(), GPU)
    assert len(weights(one, other)) == len(before)
    for tensor, now in zip(before, [*one.parameters(), *one.buffers()], strict=True):
        assert now is tensor and now.data_ptr() not in places
    assert other[0].weight is one[0].weight and one[0].weight.requires_grad
    one(torch.randn(4, 3)).sum().backward()
    assert other[0].weight.grad is not None


# Predictions


@contextmanager
def running_out(network: nn.Module, times: int, at: int = 1) -> Iterator[list[nn.Module]]:
    """So many tries fail, each when its ``at``-th layer norm is done; notes those that ran."""
    ran: list[nn.Module] = []
    failed: list[int] = []

    def full(module: nn.Module, given: object, out: object) -> None:
        ran.append(module)
        if len(failed) < times and len(ran) == sum(failed) + at:
            failed.append(at)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    norms = [module for module in network.modules() if isinstance(module, nn.LayerNorm)]
    hooks = [norm.register_forward_hook(full) for norm in norms]
    try:
        yield ran
    finally:
        for hook in hooks:
            hook.remove()
    assert len(failed) == times


@pytest.fixture(params=["esc-net", "clip-guided-sam", "clip-surgery-sam", "sam-proposals-clip"])
def pair(request, tiny) -> tuple[Predictor, Prediction]:
    """A method that computes on the stand-in, and its undisturbed answer."""
    predictor = load_predictor(request.param, tiny)
    return predictor.on(GPU), predictor.predict(EncodedImage(IMAGE), TEN)


def assert_same(found: Prediction, expected: Prediction) -> None:
    assert found.texts == expected.texts
    np.testing.assert_allclose(found.logits(), expected.logits(), atol=1e-4, rtol=0)
    np.testing.assert_allclose(found.presence, expected.presence, atol=1e-5)
    for one, other in zip(found.results, expected.results, strict=True):
        np.testing.assert_array_equal(one.prompts.points, other.prompts.points)


@pytest.mark.parametrize(("times", "at"), [(0, 1), (1, 1), (1, 20), (2, 20), (3, 1), (3, 20)])
def test_the_answer_is_that_of_an_undisturbed_run(
    pair, tmp_path: Path, times: int, at: int
) -> None:
    predictor, expected = pair
    with running_out(predictor.network(), times, at):
        found = predictor.predict(EncodedImage(IMAGE), TEN)
    assert_same(found, expected)
    assert ("out of memory" in found.seconds) == (times > 0)
    assert [one.note for one in found.results] == [one.note for one in expected.results]
    if not times:
        assert found.note == ""
        return
    assert found.note == run_with_fallback(failing(times, []), GPU, 10)[1]
    # People see it on the card and in the files.
    assert found.note in html.unescape(details(found, 0.0))
    assert write_prediction(found, tmp_path)["note"] == found.note


def test_features_made_before_are_not_made_again(pair) -> None:
    """They leave the GPU and come back; and the next prediction is as usual."""
    predictor, expected = pair
    image, encoded = EncodedImage(IMAGE), []
    predictor.predict(image, TEN)
    for module in predictor.network().modules():
        if isinstance(module, nn.Conv2d) and module.in_channels == 3:
            module.register_forward_hook(lambda *_: encoded.append(1))
    new = Prompt((Concept(("a word of which nothing is remembered",)),))
    with running_out(predictor.network(), 2):
        predictor.predict(image, new)
    again = predictor.predict(image, TEN)
    assert not encoded
    assert_same(again, expected)
    assert "out of memory" not in again.seconds


def test_esc_net_takes_fewer_classes_at_a_time(tiny, monkeypatch) -> None:
    predictor = load_predictor("esc-net", tiny)
    forward, chunks = predictor.model.forward, []

    def watched(features: object, text: torch.Tensor, chunk: int, *rest: object) -> object:
        chunks.append(chunk)
        if len(chunks) < 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(features, text, chunk, *rest)

    monkeypatch.setattr(predictor.model, "forward", watched)
    found = predictor.on(GPU).predict(EncodedImage(IMAGE), TEN)
    assert chunks == [10, 8, 1, 10]
    assert "the CPU" in found.note
    chunks.clear()
    predictor.on(GPU).predict(EncodedImage(IMAGE), TEN, PredictOptions(classes_at_a_time=4))
    assert chunks[:4] == [4, 4, 1, 4]


def test_weights_come_back_for_the_next_prediction(tiny, monkeypatch) -> None:
    predictor, moves = load_predictor("clip-surgery-sam", tiny).on(GPU), []
    monkeypatch.setattr("clipsam.predictor.move_tensors", lambda _, device: moves.append(device))
    for times, expected in ((0, [GPU]), (1, [GPU, CPU, GPU]), (0, [GPU])):
        moves.clear()
        with running_out(predictor.network(), times):
            predictor.predict(EncodedImage(IMAGE), TEN)
        assert moves == expected


def test_at_least_one_class_at_a_time() -> None:
    with pytest.raises(PromptError, match="is 0, expected at least 1"):
        PredictOptions(classes_at_a_time=0)
