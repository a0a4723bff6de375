"""Memory of the whole page on ``base``: every method of the preset in turn.

python -m benchmarks.page_memory

Full-size networks of random weights, one picture, one class, float32. One process serves the page
and runs each method as a press of Run does.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from unittest.mock import patch

import gradio as gr
import numpy as np
import torch
from huggingface_hub import constants

from clipsam.measure import PeakMemory, hardware
from clipsam.registry import methods
from clipsam.weights.backbones import load_backbones
from clipsam.weights.bundle import save_bundle
from clipsam.weights.checkpoints import ENVIRONMENT
from clipsam.workbench.bundles import SessionBundles
from clipsam.workbench.choices import all_choices
from clipsam.workbench.compare.compare_tab import CompareTab
from clipsam.workbench.compare.session import Session
from clipsam.workbench.model_store import ModelStore
from clipsam.workbench.picker import Selection

from .random_published import BASE, write_base

Row = tuple[str, float, float, float]
"""A method, and MB: cached weights, in use after it, peak."""

RESULTS = Path(__file__).with_suffix(".md")
SIZE = (480, 640)
"""(height, width) of the image."""


def main() -> None:
    """Write the networks, run the page, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/page_memory"))
    parser.add_argument("--weights-gb", type=float, default=4.0, help="as of app.py")
    args = parser.parse_args()
    bundles = args.work / "bundles"
    constants.HF_HOME = str(args.work.resolve())
    if not args.work.exists():
        partial = args.work.with_name(f"{args.work.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        write_base(partial)
        partial.replace(args.work)
    with patch.dict(os.environ, {ENVIRONMENT: str(bundles)}):
        _write_bundles(bundles)
        rows = measure(int(args.weights_gb * 2**30))
    text = _report(rows, args.weights_gb)
    RESULTS.write_text(text)
    sys.stdout.write(text)


def _write_bundles(bundles: Path) -> None:
    """Write bundles of untrained networks, for methods with weights of their own."""
    backbones = None
    for name, method in methods().items():
        folder = bundles / BASE.name / name
        if method.info.needs_training and not (folder / "model.safetensors").exists():
            backbones = backbones or load_backbones(BASE)
            untrained = method.untrained(backbones)
            save_bundle(folder, untrained.bundle_config({}), untrained.model.trainable_state())


def measure(max_bytes: int) -> list[Row]:
    """Run every method that the page offers for the preset."""
    models = ModelStore(max_bytes)
    with gr.Blocks():
        tab = CompareTab(models, gr.State(SessionBundles()))
    session = Session()
    session.show(np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8))
    marks = {"marks": [{"class": "cat", "x": SIZE[1] / 2, "y": SIZE[0] / 2, "label": 1}]}
    rows = []
    for choice in all_choices():
        key = choice.key
        if choice.problem(BASE):
            raise RuntimeError(f"{key}: {choice.problem(BASE)}")
        memory = PeakMemory(models.device)
        values = {
            tab.session: session,
            tab.classes: "cat",
            tab.annotator: marks,
            tab.bundles: SessionBundles(),
            tab.picker.preset: BASE.name,
            tab.picker.methods: Selection((key,), by_hand=True).value,
            tab.display.threshold: 0.0,
            tab.display.min_presence: 0.0,
            tab.display.view: "masks",
            tab.display.overlap: "independent",
        }
        for _ in tab.run(values, lambda *_, **__: None):
            pass
        if session.run.failures:
            raise RuntimeError(f"{key}: {session.run.failures}")
        rows.append((choice.title, models.bytes / 1e6, _in_use(), memory.megabytes()))
        sys.stderr.write(f"{rows[-1]}\n")
    return rows


def _in_use() -> float:
    """Return the memory of the process, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmRSS:"))


def _report(rows: list[Row], weights_gb: float) -> str:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kept, highest = max(row[1] for row in rows), max(row[3] for row in rows)
    lines = [
        "# Memory of the page on `base`",
        "",
        "Written by `python -m benchmarks.page_memory`: full-size networks of random weights, one",
        "picture of 640 × 480, one class, every method in every mode, one after the other in one",
        f"process, in which at most {weights_gb:g} GiB of weights stay.",
        f"{hardware(device)}, torch {torch.__version__}.",
        "",
        f"**Highest: {highest:,.0f} MB**; weights kept: at most {kept:,.0f} MB.",
        "",
        "| method | weights kept, MB | process after it, MB | at its peak, loading included, MB |",
        "|---|---|---|---|",
        *("| {} | {:,.0f} | {:,.0f} | {:,.0f} |".format(*row) for row in rows),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
