"""Bounded caches, placement of weights, and fallbacks for predictions that run out of memory."""

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
"""Texts whose features a network caches: about 12 MB, enough for all classes of any data set."""

FEWER_CLASSES = (8, 1)
"""Classes at a time in successive fallbacks after out of memory."""

logger = logging.getLogger(__name__)


class LRUCache(Generic[T]):
    """Cache of the most recently used values, limited in number."""

    def __init__(self, most: int) -> None:
        """Start with an empty cache.

        Args:
            most: number of cached keys; above it, the least recently used one is removed.
        """
        self._most = most
        self._known: OrderedDict[Hashable, T] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return the value cached under a key, computing it if needed."""
        try:
            value = self._known.pop(key)
        except KeyError:
            value = compute()
        self._known[key] = value
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return value


class Movable(Protocol):
    """Holder of tensors that can be moved between devices."""

    def to(self, device: torch.device) -> None:
        """Move the tensors."""


def weights(*networks: nn.Module) -> dict[int, Tensor]:
    """Return all parameters and buffers by their ``id``, shared ones once."""
    return {
        id(tensor): tensor
        for network in networks
        for tensor in chain(network.parameters(), network.buffers())
    }


def move_tensors(tensors: Iterable[Tensor], device: torch.device) -> None:
    """Move tensors in place, so that everything that shares them sees them moved."""
    with torch.no_grad():
        for tensor in tensors:
            moved = tensor.to(device)  # itself, if it is there
            if moved is not tensor:
                tensor.data = moved


@dataclass(frozen=True)
class FallbackPlan:
    """Device and number of classes at a time for a prediction.

    Attributes:
        device: the device.
        classes: limit of classes at a time; ``None`` leaves it to the method.
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
            return "used the CPU for all classes, which takes longer"
        some = "one class" if self.classes == 1 else f"at most {self.classes} classes"
        return f"recomputed {some} at a time after freeing the GPU"


_on_gpu: WeakSet[Movable] = WeakSet()
"""Holders that may have tensors on the GPU."""

_one_at_a_time = threading.RLock()


def exclusive(device: torch.device) -> AbstractContextManager:
    """Lock a GPU, since predictions share its memory and weights must not move during one."""
    return nullcontext() if device == CPU else _one_at_a_time


def run_with_fallback(
    run: Callable[[FallbackPlan], T], device: torch.device, classes: int
) -> tuple[T, str, float]:
    """Run a prediction, falling back to less memory when it runs out.

    First as the method prefers, then with fewer classes at a time (:data:`FEWER_CLASSES`), finally
    on the CPU. Before each fallback the GPU is cleared: tensors of the failed attempt, other
    networks, features of other images.

    Args:
        run: makes the whole prediction, the same with every plan; first moves what it needs.
        device: the first device to try.
        classes: number of requested classes.

    Returns:
        The prediction; one sentence for the user about the fallback, empty if there was none; and
        the seconds spent on failed attempts.

    Raises:
        torch.OutOfMemoryError: the last attempt ran out of memory too.
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
                logger.warning("Out of memory, %s: %s", then, str(error))
            else:
                note = "" if step is steps[0] else f"The GPU ran out of memory: {step}."
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
