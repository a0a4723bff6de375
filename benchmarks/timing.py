"""Several variants of a computation, timed alternately in one run, and compared."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clipsam.measure import PeakMemory

TOLERANCE = 1e-4
"""Tolerance between float32 results of optimised and plain path; beyond it nothing is reported."""

Way = Callable[[], Tensor]


@dataclass(frozen=True)
class Measured:
    """Measurements of one variant.

    Attributes:
        name: of the way.
        seconds: of each repeat.
        peak_mb: highest memory in use beyond what was in use before, in the warm-up.
        difference: largest absolute difference of its result from the plain way's.
    """

    name: str
    seconds: tuple[float, ...]
    peak_mb: float
    difference: float

    @property
    def median(self) -> float:
        """Median time, seconds."""
        return statistics.median(self.seconds)


def compare(
    ways: Mapping[str, Way], repeats: int, device: torch.device, loose: Sequence[str] = ()
) -> list[Measured]:
    """Run every variant once to warm up and to compare results, then time them in turns.

    Args:
        ways: by name; the first is the plain one.
        repeats: of each.
        device: where they compute.
        loose: ways of lower precision: their difference is reported, not judged.

    Raises:
        SystemExit: a way's result is not the plain one's.
    """
    peaks, differences, expected = {}, {}, None
    for name, way in ways.items():
        memory = PeakMemory(device)
        before = memory.megabytes()
        result = way().float().cpu()
        peaks[name] = memory.megabytes() - before
        expected = result if expected is None else expected
        differences[name] = (result - expected).abs().max().item()
        if name not in loose and not differences[name] <= TOLERANCE:
            raise SystemExit(f"{name}: differs by {differences[name]:.2g} from {next(iter(ways))}")
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            seconds[name].append(timed(way, device))
    return [Measured(name, tuple(seconds[name]), peaks[name], differences[name]) for name in ways]


def timed(way: Callable[[], object], device: torch.device) -> float:
    """Measure the seconds of one call, until the device is done."""
    start = time.perf_counter()
    way()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
