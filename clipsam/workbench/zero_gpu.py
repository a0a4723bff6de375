"""Running methods where the GPU is: in this process, or on a ZeroGPU Space in a forked one.

Such a Space has no GPU of its own. ``spaces.GPU`` grants one per call of a function, which then
runs in a forked process: arguments and results are pickled, loaded models and features stay in that
process, possibly for the next call too, and the requested time determines the position in the
queue. Only the name of an exception is returned, and only files survive. Therefore a single such
function, called by :func:`lend`, runs any task: all methods of a request on one image
(:func:`predict_all`), as many labelled images as fit into :data:`MAX_SECONDS`, or a training. Only
NumPy arrays and plain values are passed; a trained bundle is written to a folder that both
processes share. Models are loaded in the forked process, never in the parent, where CUDA is
emulated in the main thread only, so nothing may be warmed up there.

A forked process does not see changes in the parent. It learns that its answers are no longer needed
when its task yields next, after the call was closed. A task that must not lose its state, or yields
rarely, can watch for a file that the parent removes.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple
from weakref import WeakValueDictionary

import gradio as gr
import numpy as np

from ..encoded_image import EncodedImage
from ..errors import ClipsamError
from ..predictor import PredictOptions
from ..registry import find_info
from ..types import Prediction, Prompt
from ..weights.presets import find_preset
from .model_store import ModelStore

try:
    from spaces import GPU
except ImportError:  # anywhere but on a Space
    GPU = None

START_SECONDS = 10
"""Time to start the process and its first CUDA call, seconds.

This and the next four constants are generous estimates.
"""
LOAD_MEGABYTES = 200
"""Weights loaded per second, MB."""
METHOD_SECONDS, ANSWER_SECONDS, CLASS_SECONDS = 3.0, 0.5, 0.2
"""Seconds for an image's features and a network's first pass, per later answer, and per class."""
MAX_SECONDS = 120
"""Upper limit of a request, seconds; a request above a visitor's remaining quota is refused."""

Task = Callable[..., Generator]
"""A module-level function that takes a :class:`ModelStore` and picklable arguments and yields
picklable values.
"""

logger = logging.getLogger(__name__)


def lend(models: ModelStore, task: Task, arguments: Sequence[object], seconds: float) -> Generator:
    """Run a task, on a ZeroGPU Space with a borrowed GPU in a forked process.

    Closing the iterator ends the task when it yields next.

    Args:
        models: the task's first argument.
        task: the task.
        arguments: its other arguments.
        seconds: time that it needs, see :func:`seconds_for`.

    Raises:
        gr.Error: no GPU was granted, it was withdrawn, or the task failed there.
        ClipsamError: as the task does.
    """
    if not ON_ZERO_GPU:
        yield from task(models, *arguments)
        return
    _stores[id(models)] = models
    with closing(_lent(id(models), task, tuple(arguments), seconds)) as answers:
        for answer in answers:
            if isinstance(answer, _Raised):
                raise answer.error
            yield answer


def seconds_for(preset: str, methods: Sequence[str], answers: int, classes: int) -> float:
    """Estimate the GPU time of a request, seconds; the weights may have to be loaded first.

    Args:
        preset: its name.
        methods: ids of the methods, repeated for other weights or modes.
        answers: total number of predictions.
        classes: total number of queried classes.
    """
    chosen = find_preset(preset)
    networks = {
        *chosen.sources,
        *(
            published
            for method in methods
            for published in find_info(method).extra_networks(chosen)
        ),
    }
    loading = sum(published.megabytes for published in networks) / LOAD_MEGABYTES
    running = METHOD_SECONDS * len(methods) + ANSWER_SECONDS * max(0, answers - len(methods))
    return START_SECONDS + loading + running + CLASS_SECONDS * classes


def refusal_message(error: gr.Error) -> str:
    """Explain in one sentence why no GPU was granted, or why it was withdrawn."""
    return f"{error.title}: {error.message!s}"


def duration(_: int, __: Task, ___: tuple[object, ...], seconds: float) -> int:
    """Return the GPU time to request, seconds."""
    return min(MAX_SECONDS, math.ceil(seconds))


_stores: WeakValueDictionary[int, ModelStore] = WeakValueDictionary()
"""Model stores by number, for the forked process, since models cannot be pickled."""


class _Raised(NamedTuple):
    """An exception raised by a task, to be raised again in the parent."""

    error: Exception


def _in_worker(store: int, task: Task, arguments: tuple[object, ...], _: float) -> Generator:
    """Run a task in the forked process; arguments and results are pickled."""
    try:
        yield from task(_stores[store], *arguments)
    except ClipsamError as error:
        yield _Raised(error)


_lent = _in_worker if GPU is None else GPU(duration=duration)(_in_worker)

ON_ZERO_GPU = _lent is not _in_worker
"""Whether a GPU is granted per call; on other hardware the decorator does nothing."""


# ---- one scene ----


class MethodRequest(NamedTuple):
    """One method to run.

    Attributes:
        method: its id.
        mode: one of its modes; ``None`` leaves it to the prompt.
        bundle: weights trained in a session; ``None`` for the project's.
        earlier: see :meth:`Predictor.predict`.
    """

    method: str
    mode: str | None = None
    bundle: Path | None = None
    earlier: Prediction | None = None


class Answer(NamedTuple):
    """Progress or result of one method.

    Attributes:
        method_index: index of the request.
        result: its prediction, or an error message; ``None`` while it runs.
        progress: classes done and total, over all requests.
    """

    method_index: int
    result: Prediction | str | None
    progress: tuple[int, int]


def predict_all(
    models: ModelStore,
    encoded: EncodedImage,
    prompt: Prompt,
    preset: str,
    requests: Sequence[MethodRequest],
    options: PredictOptions | None = None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Generator[Answer]:
    """Run methods one after the other on one image; a failing one does not stop the others.

    Args:
        models: the loaded models.
        encoded: the image; caches features unless they are computed in another process.
        prompt: the classes, with points and boxes.
        preset: its name.
        requests: in execution order.
        options: all but the mode.
        is_stopped: called after each class to decide whether to stop; not in a forked process.
    """
    options = options or PredictOptions()
    if not ON_ZERO_GPU:
        return _answers(models, encoded, prompt, preset, requests, options, is_stopped)
    classes = len(requests) * len(prompt.concepts)
    seconds = seconds_for(preset, [request.method for request in requests], len(requests), classes)
    arguments = (encoded.image, prompt, preset, tuple(requests), options)
    return lend(models, _answers_for, arguments, seconds)


def _answers_for(
    models: ModelStore,
    image: np.ndarray,
    prompt: Prompt,
    preset: str,
    requests: Sequence[MethodRequest],
    options: PredictOptions,
) -> Generator[Answer]:
    """Run the methods on a bare image, since features stay in their process."""
    return _answers(models, EncodedImage(image), prompt, preset, requests, options)


def _answers(
    models: ModelStore,
    encoded: EncodedImage,
    prompt: Prompt,
    preset: str,
    requests: Sequence[MethodRequest],
    options: PredictOptions,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Generator[Answer]:
    classes = len(prompt.concepts)
    for index, request in enumerate(requests):
        answer = partial(_predict, models, encoded, prompt, preset, request, options, is_stopped)
        for done, result in _with_steps(answer):
            if result is not None:
                done = classes
            elif is_stopped():
                return
            yield Answer(index, result, (index * classes + done, len(requests) * classes))


def _with_steps(
    answer: Callable[[Callable[[int], None]], Prediction | str | None],
) -> Iterator[tuple[int, Prediction | str | None]]:
    """Run a method in a thread; yield the number of finished classes, finally the result."""
    steps: SimpleQueue[int | None] = SimpleQueue()
    yield 0, None
    with ThreadPoolExecutor(1) as thread:
        result = thread.submit(answer, steps.put)
        result.add_done_callback(lambda _: steps.put(None))
        while (done := steps.get()) is not None:
            yield done, None
    yield 0, result.result()


class _Stopped(Exception):
    """Raised when the answer is no longer wanted."""


def _predict(
    models: ModelStore,
    encoded: EncodedImage,
    prompt: Prompt,
    preset: str,
    request: MethodRequest,
    options: PredictOptions,
    is_stopped: Callable[[], bool],
    step: Callable[[int], None],
) -> Prediction | str | None:
    """Return a method's prediction, or a sentence why it failed; ``None`` if it was stopped."""

    def progress(done: int, _: int) -> None:
        if is_stopped():
            raise _Stopped
        step(done)

    try:
        predictor = models.predictor(preset, request.method, request.bundle)
        options = replace(options, mode=request.mode)
        return predictor.predict(encoded, prompt, options, progress, request.earlier)
    except ClipsamError as error:
        return str(error)
    except _Stopped:
        return None
    except Exception:
        name = " · ".join(filter(None, (find_info(request.method).name, request.mode)))
        logger.exception("%s failed", name)
        return f"{name} failed with an unexpected error; see the server log."
