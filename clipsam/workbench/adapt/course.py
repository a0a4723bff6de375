"""A training while it runs: what it tells, and how it is ended from elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ...data.samples import LabelledImage
from ...methods.base import TrainablePredictor
from ...registry import find_method
from ...training.adapt import Adapted, adapt, held_out
from ..models import ModelStore
from ..zero_gpu import seconds_for

POLL = 1.0
"""Seconds between two looks at a training."""


class Heard(NamedTuple):
    """News of a training.

    Attributes:
        losses: of the steps since the news before.
        elapsed: seconds since the first step.
    """

    losses: tuple[float, ...]
    elapsed: float


@dataclass
class Course:
    """A training as its page knows it; it may run in another process.

    Attributes:
        seconds: that it may take.
        wanted: a file that is there while further steps are wanted.
        losses: of each step heard of.
        elapsed: seconds since the first step.
    """

    seconds: float
    wanted: Path
    losses: list[float] = field(default_factory=list)
    elapsed: float = 0.0

    def begin(self) -> None:
        """Want steps."""
        self.wanted.touch()

    def end(self) -> None:
        """Want no further step."""
        self.wanted.unlink(missing_ok=True)

    def hear(self, news: Heard) -> None:
        """Take news."""
        self.losses += news.losses
        self.elapsed = news.elapsed

    @property
    def is_stopped(self) -> bool:
        """Whether no further step is wanted."""
        return not self.wanted.exists()

    @property
    def is_training(self) -> bool:
        """Whether steps are still to come."""
        return not self.is_stopped and self.elapsed < self.seconds


def train(
    models: ModelStore,
    method: str,
    preset: str,
    pictures: Sequence[LabelledImage],
    seconds: float,
    folder: Path,
    wanted: Path,
) -> Iterator[Heard | Adapted]:
    """Adapt a method in a thread, telling of it now and then; at last comes what it brought.

    A task for :func:`..zero_gpu.lend`. What has been learnt is lost if it is closed, but not if
    ``wanted`` goes.

    Args:
        models: whose SAM and CLIP the trained copy stands on.
        method, preset: their names.
        pictures, seconds, folder: see :func:`adapt`.
        wanted: see :class:`Course`.

    Raises:
        DataError, WeightsError: see :func:`adapt`.
    """
    losses: list[float] = []
    told = 0
    began: float | None = None

    def watch(_: int, figures: Mapping[str, float]) -> bool:
        nonlocal began
        began = began or time.monotonic()
        losses.append(figures["loss"])
        return not wanted.exists()

    def work() -> Adapted:
        backbones = models.backbones(preset)
        return adapt(find_method(method), backbones, pictures, seconds, folder, watch)

    def news() -> Heard:
        nonlocal told
        new = tuple(losses[told:])
        told += len(new)
        return Heard(new, 0.0 if began is None else time.monotonic() - began)

    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(work)
        try:
            while not job.done():
                yield news()
                wait([job], POLL)
        finally:
            wanted.unlink(missing_ok=True)  # The page may have been closed.
    yield news()
    yield job.result()


def seconds_of(
    method: type[TrainablePredictor],
    preset: str,
    pictures: Sequence[LabelledImage],
    seconds: float,
) -> float:
    """That a GPU is needed for :func:`train`: the training, and the answers before and after."""
    # In the first mode for the page, and in all of them for the bundle's card.
    answers = 2 * held_out(len(pictures)) * (1 + len(method.info.modes))
    classes = answers * max(len(picture.names) for picture in pictures)
    return seconds + seconds_for(preset, [method.info.id] * 2, answers, classes)
