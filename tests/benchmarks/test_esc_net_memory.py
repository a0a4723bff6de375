"""What the memory benchmark asks for and reports, without running a network."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from benchmarks import esc_net_memory
from benchmarks.esc_net_memory import Case, Measured
from clipsam.models.esc_net.chunking import MAX_MAPS, MAX_MAPS_ON_GPU


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Runs it with made-up figures; the report, or why it failed, and the cases measured."""

    def run(gpu: bool, peak: float = 3000.0, free: int = 80 * 10**9) -> tuple[str, list[Case]]:
        cases: list[Case] = []

        def measure(case: Case) -> Measured:
            cases.append(case)
            return Measured(loaded=2000.0, peak=peak, seconds=1.0)

        monkeypatch.setattr(esc_net_memory, "measure", measure)
        monkeypatch.setattr(esc_net_memory, "hardware", lambda device: f"a {device.type}")
        monkeypatch.setattr(esc_net_memory, "free_memory", lambda device: free)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        out = tmp_path / "report.md"
        monkeypatch.setattr(sys, "argv", ["esc_net_memory", "--out", str(out)])
        try:
            esc_net_memory.main()
        except SystemExit as error:
            return str(error), cases
        return out.read_text(), cases

    return run


def test_without_a_gpu_it_says_so(report) -> None:
    text, cases = report(gpu=False)
    assert "| GPU | | | not measured |" in text
    assert "847 classes on a GPU within 24000 MB: not measured." in text
    assert [(case.device, case.classes) for case in cases] == [("cpu", 171), ("cpu", 847)]


@pytest.mark.parametrize(("free", "chunk"), [(80 * 10**9, MAX_MAPS_ON_GPU), (10**9, None)])
def test_on_a_gpu_free_memory_is_the_budget(report, free: int, chunk: int | None) -> None:
    text, cases = report(gpu=True, free=free)
    assert "847 classes on a GPU: 3000 of 24000 MB." in text and "not measured" not in text
    assert [case.device for case in cases] == ["cpu"] * 2 + ["cuda"] * 3
    assert cases[-1].chunk == chunk or 1 <= cases[-1].chunk < MAX_MAPS


def test_too_much_memory_fails(report) -> None:
    assert report(gpu=True, peak=24_001.0)[0] == "more than 24000 MB on a GPU"
    assert report(gpu=True, peak=24_000.0)[0].startswith("Budget")
