"""Methods run in a forked process, as on a ZeroGPU Space, answer as they do here."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import torch

import baselines  # noqa: F401 (registers them)
import clipsam.methods  # noqa: F401
from clipsam.data.scenes import SceneData
from clipsam.predictor import Options, Predictor, find_method
from clipsam.scene import Scene
from clipsam.types import Concept, Prediction, Prompt, PromptError
from clipsam.weights.backbones import has_weights
from clipsam.weights.presets import PRESETS, TINY
from clipsam.workbench import zero_gpu
from clipsam.workbench.models import ModelStore
from clipsam.workbench.zero_gpu import MAX_SECONDS, Answer, Asked, duration, predict_all

GUIDED, SURGERY, ESC_NET = "clip-guided-sam", "clip-surgery-sam", "esc-net"
ASKED = (Asked(GUIDED, "semi-automatic"), Asked(SURGERY), Asked(ESC_NET, "whole-image"))


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


@pytest.fixture
def lent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A stand-in for ``spaces.GPU``; notes the seconds that each call asks for."""
    asked: list[int] = []
    monkeypatch.setattr(zero_gpu, "_lent", forked(zero_gpu._in_worker, asked))
    monkeypatch.setattr(zero_gpu, "ON_ZERO_GPU", True)
    return asked


def forked(task: Callable[..., Iterator], asked: list[int]) -> Callable[..., Iterator]:
    """A generator function whose calls run in a fork; all that goes in or comes out is pickled."""
    context = multiprocessing.get_context("fork")

    def work(arguments: bytes, out: object) -> None:
        torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
        for answer in task(*pickle.loads(arguments)):
            out.send_bytes(pickle.dumps(answer))
        out.send_bytes(b"")

    def run(*arguments: object) -> Iterator:
        asked.append(duration(*arguments))
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(pickle.dumps(arguments), theirs))
        process.start()
        theirs.close()
        while content := ours.recv_bytes():
            yield pickle.loads(content)
        process.join()

    return run


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
        assert len(result.rounds) == len(expected.rounds)


def by_method(answers: list[Answer], asked: Sequence[Asked]) -> dict[str, Prediction | str]:
    return {asked[one.place].method: one.found for one in answers if one.found is not None}


def test_a_fork_answers_the_same(
    models: ModelStore, image: np.ndarray, prompt: Prompt, lent: list[int]
) -> None:
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the fork: sums may differ in their last bit otherwise
    try:
        far = list(predict_all(models, Scene(image), prompt, "tiny", ASKED, Options(seed=5)))
        zero_gpu.ON_ZERO_GPU = False
        here = list(predict_all(models, Scene(image), prompt, "tiny", ASKED, Options(seed=5)))
    finally:
        torch.set_num_threads(torch_threads)
    assert len(lent) == 1
    far, here = by_method(far, ASKED), by_method(here, ASKED)
    assert list(far) == list(here) == [GUIDED, SURGERY, ESC_NET]
    for method in far:
        assert_same(far[method], here[method])


def test_progress_goes_up_to_the_end(models: ModelStore, image: np.ndarray, prompt: Prompt) -> None:
    answers = list(predict_all(models, Scene(image), prompt, "tiny", ASKED))
    done = [answer.progress[0] for answer in answers]
    assert done == sorted(done) and (done[0], done[-1]) == (0, 6)
    assert all(answer.progress[1] == 6 for answer in answers)
    assert {1, 2} <= {answer.progress[0] for answer in answers if answer.place == 0}
    assert answers[0] == Answer(0, None, (0, 6))


def test_features_stay_here_for_the_next_call(
    models: ModelStore, image: np.ndarray, prompt: Prompt
) -> None:
    scene = Scene(image)
    list(predict_all(models, scene, prompt, "tiny", ASKED[:1]))
    assert scene._features


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
    asked = [Asked("sam", "manual"), Asked(SURGERY, "vanilla"), Asked("sam3", "text"), ASKED[0]]
    found = by_method(list(predict_all(models, Scene(image), prompt, "tiny", asked)), asked)
    assert "needs a foreground point or a box" in found["sam"]
    assert found[SURGERY] == (
        "CLIP Surgery + SAM · vanilla failed unexpectedly; the server's log says why."
    )
    assert "is not on this machine" in found["sam3"]
    assert isinstance(found[GUIDED], Prediction)


def test_whoever_stops_listening_stops_the_rest(
    models: ModelStore, image: np.ndarray, prompt: Prompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    predict = Predictor.predict

    def noted(self: Predictor, *args: object) -> Prediction:
        ran.append(self.info.id)
        return predict(self, *args)

    monkeypatch.setattr(Predictor, "predict", noted)
    answers = predict_all(models, Scene(image), prompt, "tiny", ASKED)
    next(answer for answer in answers if answer.found is not None)
    answers.close()
    assert ran == [GUIDED]


def seconds(asked: list[Asked], classes: int, preset: str = "tiny") -> int:
    prompt = Prompt(tuple(Concept((f"class {number}",)) for number in range(classes)))
    return duration(0, np.zeros((8, 8, 3), np.uint8), prompt, preset, asked, Options())


def test_seconds_asked_for() -> None:
    one = [Asked(GUIDED)]
    assert seconds(one, 1) < seconds([*one, Asked(SURGERY)], 1)
    assert seconds(one, 1) < seconds(one, 20) < seconds(one, 80)
    assert seconds(one, 1) < seconds(one, 1, "base") < seconds(one, 1, "huge-sam")
    beside = find_method("grounded-sam").beside(PRESETS["tiny"])
    assert beside and seconds([Asked("sam")], 1) < seconds([Asked("grounded-sam")], 1)
    assert seconds(one * 30, 100) == MAX_SECONDS
    assert isinstance(seconds(one, 1), int)
    with pytest.raises(PromptError):
        seconds(one, 1, "giant")


def test_off_such_a_space_nothing_is_forked() -> None:
    assert not zero_gpu.ON_ZERO_GPU
    assert zero_gpu._lent is zero_gpu._in_worker
