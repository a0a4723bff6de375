"""Seconds add up by step; the peak covers what was held in between."""

from __future__ import annotations

import mmap

import pytest
import torch

from clipsam import measure
from clipsam.measure import PeakMemory, Stopwatch

CPU = torch.device("cpu")


def test_stopwatch(monkeypatch):
    ticks = iter([0.0, 2.0, 10.0, 13.0, 20.0, 20.5])
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(ticks))
    watch = Stopwatch(CPU)
    with watch.step("encoder"):
        pass
    with pytest.raises(KeyError), watch.step("decoder"):
        raise KeyError
    with watch.step("encoder"):
        pass
    assert watch.seconds == {"encoder": 2.5, "decoder": 3.0}


def test_peak_memory_sees_what_was_freed():
    memory = PeakMemory(CPU)
    before = memory.megabytes()
    # Straight from the system: an array might get memory that earlier tests left in the process.
    with mmap.mmap(-1, 100_000_000) as held:
        held.write(bytes(100_000_000))
    after = memory.megabytes()
    assert 90 < after - before < 200
