"""Seconds add up by step; the peak covers what was held in between."""

from __future__ import annotations

import mmap
import os

import pytest
import torch

from clipsam import measure
from clipsam.measure import PeakMemory, Stopwatch, free_memory

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


def test_free_memory_is_a_part_of_all():
    assert 10**8 < free_memory(CPU) < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_free_memory_of_a_gpu_counts_what_torch_holds_back(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (5_000, 80_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 3_000)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 1_000)
    assert free_memory(torch.device("cuda", 0)) == 7_000
