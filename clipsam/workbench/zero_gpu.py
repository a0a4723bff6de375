"""Running methods where the GPU is: in this process, or on a ZeroGPU Space in a forked one.

Such a Space has no GPU of its own. ``spaces.GPU`` lends one to each call of a function, which then
runs in a forked process: arguments and results are pickled, what it loads and computes stays
there, and the time that it asks for beforehand decides its place in the queue. So one call runs
all methods of a request on one scene, and only NumPy crosses. Models are loaded there, never in
the parent, where CUDA is emulated in the main thread alone: nothing may be warmed up there.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple
from weakref import WeakValueDictionary

import numpy as np

from ..predictor import Options, find_method, find_preset
from ..scene import Scene
from ..types import Prediction, Prompt, PromptError
from ..weights.bundle import WeightsError
from .models import ModelStore

try:
    from spaces import GPU
except ImportError:  # anywhere but on a Space
    GPU = None

START_SECONDS = 10
"""For the process and its first CUDA call. This and the next three are guesses, rather too much."""
LOAD_MEGABYTES = 200
"""Weights loaded per second."""
METHOD_SECONDS, CLASS_SECONDS = 3.0, 0.2
"""For an image's features and a network's first pass, and for each class."""
MAX_SECONDS = 120
"""More is not asked for: a request above what a visitor has left is refused altogether."""

logger = logging.getLogger(__name__)


class Asked(NamedTuple):
    """One method to run.

    Attributes:
        method: its id.
        mode: one of its modes; ``None`` leaves it to the prompt.
        bundle: weights trained in a session; ``None`` takes the project's.
    """

    method: str
    mode: str | None = None
    bundle: Path | None = None


class Answer(NamedTuple):
    """News of one method.

    Attributes:
        place: of the method among those asked.
        found: its prediction, or one sentence why there is none; ``None`` while it runs.
        progress: classes done and classes in all, over all methods asked.
    """

    place: int
    found: Prediction | str | None
    progress: tuple[int, int]


def predict_all(
    models: ModelStore,
    scene: Scene,
    prompt: Prompt,
    preset: str,
    asked: Sequence[Asked],
    options: Options | None = None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Answer]:
    """Run methods one after the other on one scene; that one fails does not stop the others.

    Args:
        models: what runs.
        scene: the image; keeps the features for the next call unless they are computed elsewhere.
        prompt: the classes, with points and boxes.
        preset: its name.
        asked: in the order to run.
        options: all but the mode.
        is_stopped: asked after each class whether to end here; a forked process cannot ask.
    """
    options = options or Options()
    if not ON_ZERO_GPU:
        return _answers(models, scene, prompt, preset, asked, options, is_stopped)
    _stores[id(models)] = models
    return _lent(id(models), scene.image, prompt, preset, tuple(asked), options)


def duration(
    _: int, image: np.ndarray, prompt: Prompt, preset: str, asked: Sequence[Asked], __: Options
) -> int:
    """Seconds to ask a GPU for, before it is known whether a worker has the weights already."""
    chosen = find_preset(preset)
    networks = {
        *chosen.sources,
        *(published for one in asked for published in find_method(one.method).beside(chosen)),
    }
    loading = sum(published.megabytes for published in networks) / LOAD_MEGABYTES
    running = len(asked) * (METHOD_SECONDS + CLASS_SECONDS * len(prompt.concepts))
    return min(MAX_SECONDS, math.ceil(START_SECONDS + loading + running))


_stores: WeakValueDictionary[int, ModelStore] = WeakValueDictionary()
"""Models cannot be pickled: a forked process finds them here under the number that it is given."""


def _in_worker(
    store: int,
    image: np.ndarray,
    prompt: Prompt,
    preset: str,
    asked: Sequence[Asked],
    options: Options,
) -> Iterator[Answer]:
    """What runs in the forked process; takes and yields what can be pickled."""
    yield from _answers(_stores[store], Scene(image), prompt, preset, asked, options)


_lent = _in_worker if GPU is None else GPU(duration=duration)(_in_worker)

ON_ZERO_GPU = _lent is not _in_worker
"""Whether a GPU is lent call by call; on any other hardware the decorator does nothing."""


def _answers(
    models: ModelStore,
    scene: Scene,
    prompt: Prompt,
    preset: str,
    asked: Sequence[Asked],
    options: Options,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Answer]:
    classes = len(prompt.concepts)
    for place, one in enumerate(asked):
        answer = partial(_predict, models, scene, prompt, preset, one, options, is_stopped)
        for done, found in _with_steps(answer):
            if found is not None:
                done = classes
            elif is_stopped():
                return
            yield Answer(place, found, (place * classes + done, len(asked) * classes))


def _with_steps(
    answer: Callable[[Callable[[int], None]], Prediction | str | None],
) -> Iterator[tuple[int, Prediction | str | None]]:
    """Classes done while a method runs in a thread of its own, and at last what it found."""
    steps: SimpleQueue[int | None] = SimpleQueue()
    yield 0, None
    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(answer, steps.put)
        found.add_done_callback(lambda _: steps.put(None))
        while (done := steps.get()) is not None:
            yield done, None
    yield 0, found.result()


class _Stopped(Exception):
    """Nobody waits for the answer any more."""


def _predict(
    models: ModelStore,
    scene: Scene,
    prompt: Prompt,
    preset: str,
    asked: Asked,
    options: Options,
    is_stopped: Callable[[], bool],
    step: Callable[[int], None],
) -> Prediction | str | None:
    """What a method answers, or one sentence why it cannot; ``None`` if it was stopped."""

    def progress(done: int, _: int) -> None:
        if is_stopped():
            raise _Stopped
        step(done)

    try:
        predictor = models.predictor(preset, asked.method, asked.bundle)
        return predictor.predict(scene, prompt, replace(options, mode=asked.mode), progress)
    except (PromptError, WeightsError) as error:
        return str(error)
    except _Stopped:
        return None
    except Exception:
        name = " · ".join(filter(None, (find_method(asked.method).info.name, asked.mode)))
        logger.exception("%s failed", name)
        return f"{name} failed unexpectedly; the server's log says why."
