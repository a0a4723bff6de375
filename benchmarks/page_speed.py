"""Waiting times: from a photograph to its first mask, and from a slider to the redraw.

python -m benchmarks.page_speed

Drives the page in Chromium as the browser tests do, on ``tiny``, with the two methods that are
ticked at first, beside the same prediction made without a page, in turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import gradio as gr
import torch
from playwright.sync_api import Browser, sync_playwright

from clipsam.data.images import open_image
from clipsam.encoded_image import EncodedImage
from clipsam.measure import hardware
from clipsam.predictor import PredictOptions
from clipsam.types import prompt_from_classes
from clipsam.weights.presets import TINY
from clipsam.workbench.choices import DEFAULT_KEYS
from clipsam.workbench.model_store import ModelStore
from clipsam.workbench.page import build_page, launch
from tests.workbench.conftest import chromium_path, free_port
from tests.workbench.driving import Workbench

REPORT = Path(__file__).with_suffix(".md")

RUN_WHEN_SHOWN = """() => new Promise((done) => {
  const look = () => {
    if (document.querySelector("#annotator .filled")) {
      document.querySelector("#run").click();
      done();
    } else requestAnimationFrame(look);
  };
  look();
})"""
"""JavaScript that presses Run as soon as the image is shown."""

REDRAW = """(value) => new Promise((done) => {
  const layer = () => document.querySelector(".card .overlay > .fill")?.src;
  const [before, start] = [layer(), performance.now()];
  const look = () => {
    if (layer() === before) requestAnimationFrame(look);
    else done((performance.now() - start) / 1000);
  };
  const slider = document.querySelector("#threshold input[type=range]");
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(slider, value);
  slider.dispatchEvent(new Event("input", { bubbles: true }));
  look();
})"""
"""JavaScript that measures the seconds from a threshold step to the next mask."""


def main() -> None:
    """Measure in turns and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    photograph = Path(gr.get_image("cheetah.jpg"))
    models = ModelStore()
    for key in DEFAULT_KEYS:
        models.warm_up(TINY.name, key.partition("/")[0])
    port = free_port()
    page = build_page(models)
    launch(page, server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, quiet=True)
    waits: dict[str, list[float]] = {}
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium_path(), args=["--no-sandbox"])
        for turn in range(args.repeats + 1):
            mask, redraws = _page(browser, f"http://127.0.0.1:{port}", photograph)
            bare = _bare(models, photograph)
            if turn:  # the first warms up
                waits.setdefault("photograph to first mask", []).append(mask)
                waits.setdefault("the same prediction without a page", []).append(bare)
                waits.setdefault("step of the threshold to redraw", []).extend(redraws)
        browser.close()
    page.close()
    report = _report(waits, models.device)
    REPORT.write_text(report)
    sys.stdout.write(report)


def _page(browser: Browser, address: str, photograph: Path) -> tuple[float, list[float]]:
    """Measure the seconds to the first mask, and of each redraw, in a new window."""
    context = browser.new_context(viewport={"width": 1400, "height": 1100})
    bench = Workbench(context.new_page(), address)
    bench.tab.locator("#classes textarea, #classes input").fill("cheetah, grass")
    start = time.perf_counter()
    bench.upload(photograph)
    bench.tab.evaluate(RUN_WHEN_SHOWN)
    bench.tab.wait_for_selector(".card .overlay > .fill")
    mask = time.perf_counter() - start
    bench.tab.wait_for_selector("#status p:has-text(' done in ')")
    bench.tab.wait_for_timeout(1000)
    redraws = []
    for value in ("-1", "-2", "-3", "-4"):
        redraws.append(bench.tab.evaluate(REDRAW, value))
        bench.tab.wait_for_timeout(500)
    context.close()
    return mask, redraws


def _bare(models: ModelStore, photograph: Path) -> float:
    """Measure the seconds from the file to the first method's masks."""
    method, mode = DEFAULT_KEYS[0].split("/")
    start = time.perf_counter()
    prompt = prompt_from_classes([["cheetah"], ["grass"]])
    predictor = models.predictor(TINY.name, method)
    predictor.predict(
        EncodedImage(open_image(photograph)), prompt, PredictOptions(mode=mode)
    ).masks()
    return time.perf_counter() - start


def _report(waits: dict[str, list[float]], device: torch.device) -> str:
    medians = {name: statistics.median(values) for name, values in waits.items()}
    rows = [
        f"| {name} | {medians[name]:.3f} | {min(values):.3f}–{max(values):.3f} | {len(values)} |"
        for name, values in waits.items()
    ]
    mask, bare, _ = medians.values()
    return "\n".join(
        [
            "# Waiting for the page on `tiny`",
            "",
            "Written by `python -m benchmarks.page_speed`: a photograph, two classes, the two "
            "methods that are",
            "ticked at first; Chromium and the page on the same machine.",
            f"{hardware(device)}, torch {torch.__version__}.",
            "",
            "| | median, s | min–max, s | times |",
            "|---|---|---|---|",
            *rows,
            "",
            f"Ratio page / without: {mask / bare:.1f}.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
