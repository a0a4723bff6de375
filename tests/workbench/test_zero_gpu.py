"""What runs in a forked process, as on a ZeroGPU Space, answers as it does here."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import torch

from clipsam.data.readers import DataError
from clipsam.data.synthetic import SceneData
from clipsam.encoded_image import EncodedImage
from clipsam.errors import PromptError
from clipsam.predictor import PredictOptions, Predictor
from clipsam.registry import find_info
from clipsam.types import Concept, Prediction, Prompt
from clipsam.weights.availability import has_weights
from clipsam.weights.bundle import WeightsError
from clipsam.weights.presets import PRESETS, TINY
from clipsam.workbench import zero_gpu
from clipsam.workbench.model_store import ModelStore
from clipsam.workbench.zero_gpu import (
    MAX_SECONDS,
    Answer,
    MethodRequest,
    duration,
    lend,
    predict_all,
    refusal_message,
    seconds_for,
)

GUIDED, SURGERY, ESC_NET = "clip-guided-sam", "clip-surgery-sam", "esc-net"
REQUESTS = (
    MethodRequest(GUIDED, "semi-automatic"),
    MethodRequest(SURGERY),
    MethodRequest(ESC_NET, "whole-image"),
)


@pytest.fixture
def models() -> ModelStore:
    """The models of a page."""
    if not has_weights(TINY):
        pytest.skip("the bundled tiny weights are not here")
    return ModelStore()


@pytest.fixture
def image() -> np.ndarray:
    """A picture of shapes."""
    return SceneData(1, seed=11)[0].image


@pytest.fixture
def prompt() -> Prompt:
    """Two classes; one is pointed at."""
    return Prompt((Concept(("circle", "disc"), [[100, 90]], [1]), Concept(("square",))))


def assert_same(one: Prediction, other: Prediction) -> None:
    """Bit for bit, but for time and memory."""
    assert (one.method, one.preset, one.mode) == (other.method, other.preset, other.mode)
    assert one.texts == other.texts
    np.testing.assert_array_equal(one.masks(), other.masks())
    np.testing.assert_array_equal(one.presence, other.presence)
    for result, expected in zip(one.results, other.results, strict=True):
        np.testing.assert_array_equal(result.logits, expected.logits)
        np.testing.assert_array_equal(result.similarity, expected.similarity)
        np.testing.assert_array_equal(result.prompts.points, expected.prompts.points)
        assert len(result.block_traces) == len(expected.block_traces)


def by_method(
    answers: list[Answer], requests: Sequence[MethodRequest]
) -> dict[str, Prediction | str]:
    return {
        requests[one.method_index].method: one.result for one in answers if one.result is not None
    }


def test_a_fork_answers_the_same(
    models: ModelStore, image: np.ndarray, prompt: Prompt, lent: list[int]
) -> None:
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the fork: sums may differ in their last bit otherwise
    try:
        far = list(
            predict_all(
                models, EncodedImage(image), prompt, "tiny", REQUESTS, PredictOptions(seed=5)
            )
        )
        zero_gpu.ON_ZERO_GPU = False
        here = list(
            predict_all(
                models, EncodedImage(image), prompt, "tiny", REQUESTS, PredictOptions(seed=5)
            )
        )
    finally:
        torch.set_num_threads(torch_threads)
    assert len(lent) == 1
    far, here = by_method(far, REQUESTS), by_method(here, REQUESTS)
    assert list(far) == list(here) == [GUIDED, SURGERY, ESC_NET]
    for method in far:
        assert_same(far[method], here[method])


def test_progress_goes_up_to_the_end(models: ModelStore, image: np.ndarray, prompt: Prompt) -> None:
    answers = list(predict_all(models, EncodedImage(image), prompt, "tiny", REQUESTS))
    done = [answer.progress[0] for answer in answers]
    assert done == sorted(done) and (done[0], done[-1]) == (0, 6)
    assert all(answer.progress[1] == 6 for answer in answers)
    assert {1, 2} <= {answer.progress[0] for answer in answers if answer.method_index == 0}
    assert answers[0] == Answer(0, None, (0, 6))


def test_features_stay_here_for_the_next_call(
    models: ModelStore, image: np.ndarray, prompt: Prompt
) -> None:
    encoded = EncodedImage(image)
    list(predict_all(models, encoded, prompt, "tiny", REQUESTS[:1]))
    assert encoded._features


@pytest.mark.parametrize("far", [False, True], ids=["here", "in a fork"])
def test_one_that_fails_does_not_stop_the_others(
    models: ModelStore,
    image: np.ndarray,
    lent: list[int],
    monkeypatch: pytest.MonkeyPatch,
    far: bool,
) -> None:
    monkeypatch.setattr(zero_gpu, "ON_ZERO_GPU", far)
    predict = Predictor.predict

    def failing(self: Predictor, *args: object) -> Prediction:
        if self.info.id == SURGERY:
            raise RuntimeError("out of memory")
        return predict(self, *args)

    monkeypatch.setattr(Predictor, "predict", failing)
    prompt = Prompt((Concept(("circle",)),))
    requests = [
        MethodRequest("sam", "manual"),
        MethodRequest(SURGERY, "vanilla"),
        MethodRequest("sam3", "text"),
        REQUESTS[0],
    ]
    result = by_method(
        list(predict_all(models, EncodedImage(image), prompt, "tiny", requests)), requests
    )
    assert "needs a foreground point or a box" in result["sam"]
    assert result[SURGERY] == (
        "CLIP Surgery + SAM · vanilla failed with an unexpected error; see the server log."
    )
    assert "is not on this machine" in result["sam3"]
    assert isinstance(result[GUIDED], Prediction)


def test_whoever_stops_listening_stops_the_rest(
    models: ModelStore, image: np.ndarray, prompt: Prompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    predict = Predictor.predict

    def noted(self: Predictor, *args: object) -> Prediction:
        ran.append(self.info.id)
        return predict(self, *args)

    monkeypatch.setattr(Predictor, "predict", noted)
    answers = predict_all(models, EncodedImage(image), prompt, "tiny", REQUESTS)
    next(answer for answer in answers if answer.result is not None)
    answers.close()
    assert ran == [GUIDED]


def seconds(methods: list[str], classes: int, preset: str = "tiny", images: int = 1) -> int:
    answers = images * len(methods)
    needed = seconds_for(preset, methods, answers, answers * classes)
    return duration(0, predict_all, (), needed)


def test_seconds_asked_for() -> None:
    one = [GUIDED]
    assert seconds(one, 1) < seconds([*one, SURGERY], 1)
    assert seconds(one, 1) < seconds(one, 20) < seconds(one, 80)
    assert seconds(one, 1) < seconds(one, 1, images=10) < 10 * seconds(one, 1)
    assert seconds(one, 1) < seconds(one, 1, "base") < seconds(one, 1, "huge-sam")
    extra_networks = find_info("grounded-sam").extra_networks(PRESETS["tiny"])
    assert extra_networks and seconds(["sam"], 1) < seconds(["grounded-sam"], 1)
    assert seconds(one * 30, 100) == MAX_SECONDS
    assert isinstance(seconds(one, 1), int)
    with pytest.raises(PromptError):
        seconds(one, 1, "giant")


# ---- any task ----


def counting(_: ModelStore, numbers: list[int], end: Exception | None) -> Iterator[int]:
    """A task that yields what it is given, and ends as it is told."""
    yield from numbers
    if end is not None:
        raise end


@pytest.mark.parametrize("far", [False, True], ids=["here", "in a fork"])
@pytest.mark.parametrize("error", [DataError, PromptError, WeightsError])
def test_what_a_task_tells_comes_back_as_it_was(
    lent: list[int], monkeypatch: pytest.MonkeyPatch, far: bool, error: type[Exception]
) -> None:
    monkeypatch.setattr(zero_gpu, "ON_ZERO_GPU", far)
    answers = lend(ModelStore(), counting, ([1, 2], error("what would be right")), 7.2)
    assert [next(answers), next(answers)] == [1, 2]
    with pytest.raises(error, match=r"^what would be right$"):
        next(answers)
    assert lent == ([8] if far else [])


def test_a_failure_there_is_an_error_here(lent: list[int]) -> None:
    with pytest.raises(gr.Error) as caught:
        list(lend(ModelStore(), counting, ([], RuntimeError("out of memory")), 1))
    assert refusal_message(caught.value) == "ZeroGPU worker error: RuntimeError"


def endless(_: ModelStore, log: Path) -> Iterator[int]:
    """A task that ends only when it is closed, and notes that it was."""
    try:
        for number in itertools.count():
            time.sleep(0.01)
            yield number
    finally:
        log.write_text("closed")


def test_a_call_that_is_closed_ends_in_the_fork(lent: list[int], tmp_path: Path) -> None:
    answers = lend(ModelStore(), endless, (tmp_path / "log",), 1)
    assert next(answers) == 0
    answers.close()
    assert (tmp_path / "log").read_text() == "closed"


def test_off_such_a_space_nothing_is_forked() -> None:
    assert not zero_gpu.ON_ZERO_GPU
    assert zero_gpu._lent is zero_gpu._in_worker
