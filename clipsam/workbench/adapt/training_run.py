"""A running training: its progress, and how to end it from elsewhere."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import NamedTuple

from ...data.samples import LabelledImage
from ...memory import CPU
from ...methods.base import TrainablePredictor, find_trainable
from ...training.adapt import AdaptationResult, adapt, held_out
from ..model_store import ModelStore
from ..zero_gpu import seconds_for

POLL = 1.0
"""Interval between updates of a training, seconds."""


class TrainingUpdate(NamedTuple):
    """Progress of a training since the last update.

    Attributes:
        losses: losses of the steps since the last update.
        elapsed: seconds since the first step.
    """

    losses: tuple[float, ...]
    elapsed: float


@dataclass
class TrainingRun:
    """A training as seen by its page; it may run in another process.

    Attributes:
        seconds: time limit.
        keep_going: a file that exists as long as the training may continue.
        losses: losses of all reported steps.
        elapsed: seconds since the first step.
    """

    seconds: float
    keep_going: Path
    losses: list[float] = field(default_factory=list)
    elapsed: float = 0.0

    def begin(self) -> None:
        """Allow further steps."""
        self.keep_going.touch()

    def end(self) -> None:
        """Request an end after the current step."""
        self.keep_going.unlink(missing_ok=True)

    def update(self, update: TrainingUpdate) -> None:
        """Add an update."""
        self.losses += update.losses
        self.elapsed = update.elapsed

    @property
    def is_stopped(self) -> bool:
        """Whether an end was requested."""
        return not self.keep_going.exists()

    @property
    def is_training(self) -> bool:
        """Whether further steps will follow."""
        return not self.is_stopped and self.elapsed < self.seconds


def train(
    models: ModelStore,
    method: str,
    preset: str,
    pictures: Sequence[LabelledImage],
    seconds: float,
    folder: Path,
    keep_going: Path,
) -> Generator[TrainingUpdate | AdaptationResult]:
    """Adapt a method in a thread, yielding updates and finally the result.

    A task for :func:`..zero_gpu.lend`. The result is lost if the iterator is closed, but not if
    ``keep_going`` is removed.

    Args:
        models: models with the SAM and CLIP of the trained copy.
        method, preset: their names.
        pictures, seconds, folder: see :func:`adapt`.
        keep_going: see :class:`TrainingRun`.

    Raises:
        DataError, WeightsError: see :func:`adapt`.
    """
    losses: list[float] = []
    sent = 0
    began: float | None = None

    closed = Event()
    turn = models.turns.request(lambda: not closed.is_set())

    def elapsed() -> float:
        """Return the seconds since the first step in which this training had its turn."""
        return 0.0 if began is None else time.monotonic() - turn.waited - began

    def watch(_: int, figures: Mapping[str, float]) -> bool:
        nonlocal began
        began = began or time.monotonic() - turn.waited
        losses.append(figures["loss"])
        if turn.pause() and models.device != CPU:
            models.backbones(preset)  # Others may have moved them off the GPU meanwhile.
        return not keep_going.exists()

    def work() -> AdaptationResult:
        with turn:
            backbones = models.backbones(preset)
            trained = find_trainable(method)
            return adapt(trained, backbones, pictures, seconds, folder, watch, turn)

    def updates() -> TrainingUpdate:
        nonlocal sent
        new = tuple(losses[sent:])
        sent += len(new)
        return TrainingUpdate(new, elapsed())

    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(work)
        try:
            while not job.done():
                yield updates()
                wait([job], POLL)
        finally:
            keep_going.unlink(missing_ok=True)  # The page may have been closed.
            if not job.done():
                closed.set()
    yield updates()
    yield job.result()


def seconds_of(
    method: type[TrainablePredictor],
    preset: str,
    pictures: Sequence[LabelledImage],
    seconds: float,
) -> float:
    """Estimate the GPU time of :func:`train`, including the predictions before and after."""
    # In the first mode for the page, and in all of them for the bundle's card.
    answers = 2 * held_out(len(pictures)) * (1 + len(method.info.modes))
    classes = answers * max(len(picture.names) for picture in pictures)
    return seconds + seconds_for(preset, [method.info.id] * 2, answers, classes)
