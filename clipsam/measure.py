"""Run time per step and peak memory of a prediction."""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


class Stopwatch:
    """Wall-clock time by step, synchronised with the GPU."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = {}
        self._device = device
        self._excluded = 0.0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the time of the block to ``name``; blocks must not be nested."""
        start, excluded = time.perf_counter(), self._excluded
        try:
            yield
        finally:
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            elapsed = time.perf_counter() - start - (self._excluded - excluded)
            self.seconds[name] = self.seconds.get(name, 0.0) + elapsed

    @contextmanager
    def excluding(self) -> Iterator[None]:
        """Leave the time of the block out of all steps."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._excluded += time.perf_counter() - start


class PeakMemory:
    """Peak memory since construction."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            _reset_process_peak()

    def megabytes(self) -> float:
        """Return the peak in MB, of the GPU if the device is one, otherwise of the process."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / 1e6
        status = Path("/proc/self/status")
        if status.exists():
            for line in status.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024 / 1e6
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def _reset_process_peak() -> None:
    """Reset the peak of the process on Linux; elsewhere it counts from the process's start."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def free_memory(device: torch.device) -> int:
    """Return the free memory in bytes, of the GPU if the device is one, otherwise of RAM."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What torch holds back is free to it, though not to others.
        held_back = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + held_back
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    # Elsewhere the system does not say what is free in one figure: half of all is a safe guess.
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def hardware(device: torch.device) -> str:
    """Describe the hardware of a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{threads} CPU thread{'' if threads == 1 else 's'}, {platform.machine()}"
