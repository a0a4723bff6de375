"""Bounded caches, where weights lie, and steps down for a prediction that needs too much memory."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Generic, Protocol, TypeVar
from weakref import WeakSet

import torch
from torch import Tensor, nn

T = TypeVar("T")

CPU = torch.device("cpu")

MAX_CACHED_TEXTS = 4096
"""Texts whose features a network remembers: a dozen megabytes, and all classes of any data set."""

FEWER_CLASSES = (8, 1)
"""Classes at a time, one step after the other, when all at once were too many."""

logger = logging.getLogger(__name__)


class LRUCache(Generic[T]):
    """What was computed for the keys that were asked for last, so many and no more."""

    def __init__(self, most: int) -> None:
        """
        Args:
            most: keys remembered; beyond, the one that was not asked for longest is forgotten.
        """
        self._most = most
        self._known: OrderedDict[Hashable, T] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """What is remembered under a key, or else what ``compute`` gives."""
        try:
            value = self._known.pop(key)
        except KeyError:
            value = compute()
        self._known[key] = value
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return value


class Movable(Protocol):
    """Holds tensors on one device or another."""

    def to(self, device: torch.device) -> None:
        """Move them."""


def weights(*networks: nn.Module) -> dict[int, Tensor]:
    """All parameters and buffers by their ``id``, those that several networks share once."""
    return {
        id(tensor): tensor
        for network in networks
        for tensor in chain(network.parameters(), network.buffers())
    }


def move_tensors(tensors: Iterable[Tensor], device: torch.device) -> None:
    """Move weights in place: whoever shares some finds them moved."""
    with torch.no_grad():
        for tensor in tensors:
            moved = tensor.to(device)  # itself, if it is there
            if moved is not tensor:
                tensor.data = moved


@dataclass(frozen=True)
class FallbackPlan:
    """Where and in what portions a prediction is computed.

    Attributes:
        device: where.
        classes: at most so many at a time; ``None`` leaves it to the method.
    """

    device: torch.device
    classes: int | None = None

    def move(self, *holders: Movable) -> None:
        """Move holders to the device; :func:`run_with_fallback` clears what is on a GPU."""
        for holder in holders:
            if self.device != CPU:
                _on_gpu.add(holder)  # before: it may come to lie there in part
            holder.to(self.device)

    def __str__(self) -> str:
        if self.classes is None:
            return "all classes were computed on the CPU instead, which takes longer"
        some = "one class" if self.classes == 1 else f"at most {self.classes} classes"
        return f"all was computed again, {some} at a time and with nothing else on it"


_on_gpu: WeakSet[Movable] = WeakSet()
"""What was brought there and may lie there still."""

_one_at_a_time = threading.RLock()


def exclusive(device: torch.device) -> AbstractContextManager:
    """Holds a GPU: two predictions would share its memory, and weights move while none runs."""
    return nullcontext() if device == CPU else _one_at_a_time


def run_with_fallback(
    run: Callable[[FallbackPlan], T], device: torch.device, classes: int
) -> tuple[T, str, float]:
    """Run; where the memory does not suffice, run again in a way that needs less.

    First as the method likes it, then with fewer classes at a time (:data:`FEWER_CLASSES`), at last
    on the CPU. Before each further step all that lies on the GPU leaves it: what the failed step
    held, other networks, other images' features.

    Args:
        run: gives the whole answer, the same at every step; first brings what it needs.
        device: where to begin.
        classes: how many are asked for.

    Returns:
        The answer; one sentence for the user on how it was got at, empty if at the first step; and
        the seconds that went into steps that did not suffice.

    Raises:
        torch.OutOfMemoryError: the last step did not suffice either.
    """
    fewer = [
        FallbackPlan(device, number) for number in FEWER_CLASSES if number < classes or number == 1
    ]
    steps = [FallbackPlan(device), *fewer, *([] if device == CPU else [FallbackPlan(CPU)])]
    start, lost = time.perf_counter(), 0.0
    with exclusive(device):
        for step, then in zip_longest(steps, steps[1:]):
            try:
                value = run(step)
            except torch.OutOfMemoryError as error:
                if then is None:
                    raise
                # As text: a log that kept the exception would keep the tensors.
                logger.warning("Out of memory, so %s: %s", then, str(error))
            else:
                note = "" if step is steps[0] else f"The GPU's memory did not suffice: {step}."
                return value, note, lost
            # Only here: the exception held the frames, and so the tensors, of what failed.
            _clear_gpu()
            lost = time.perf_counter() - start
    raise AssertionError("the last step returns or raises")


def _clear_gpu() -> None:
    for holder in list(_on_gpu):
        holder.to(CPU)
    _on_gpu.clear()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
