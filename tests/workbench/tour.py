"""The README's pictures, and every tab in light, dark and phone width, from the page itself.

    make pictures

Takes some five minutes, three of them training. Pictures for the README go to ``pictures/`` beside
this file, the others to ``runs/screenshots``.
"""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from clipsam.data.samples import BACKGROUND
from clipsam.data.synthetic import SceneData
from clipsam.workbench.model_store import ModelStore
from clipsam.workbench.page import build_page, launch

from .conftest import ARGUMENTS, SCREENSHOTS, chromium_path, free_port
from .driving import ESC_NET, GUIDED, SURGERY, Workbench

PICTURES = Path(__file__).parent / "pictures"
LOOKS = {"light": (1280, ""), "dark": (1280, "?__theme=dark"), "phone": (390, "")}
"""Width in pixels and query of the address."""

HEIGHT = 900
PATIENCE_MS = 240_000
GIF_WIDTH, FRAME_MS = 720, 1400


def main() -> None:
    """Go through the tabs in every look."""
    for folder in (PICTURES, SCREENSHOTS):
        folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    page = build_page(ModelStore())
    launch(page, server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, quiet=True)
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as room:
        browser = driver.chromium.launch(executable_path=chromium_path(), args=list(ARGUMENTS))
        for look, (width, query) in LOOKS.items():
            tab = _window(browser, width)
            bench = Workbench(tab, f"http://127.0.0.1:{port}/{query}")
            frames = [tab.screenshot()]
            frames += _compare(bench)
            _keep(tab, "compare", look, "#results")
            _evaluate(tab, _labelled_zip(Path(room)))
            _keep(tab, "evaluate", look, "#evaluate-status")
            _adapt(tab)
            _keep(tab, "adapt", look, "#adapt-results")
            if look == "light":
                _write_gif(frames, PICTURES / "tour.gif")
            tab.context.close()
        browser.close()
    page.close()


def _window(browser: Browser, width: int) -> Page:
    context = browser.new_context(viewport={"width": width, "height": HEIGHT})
    context.set_default_timeout(PATIENCE_MS)
    return context.new_page()


def _compare(bench: Workbench) -> list[bytes]:
    """An example, three methods, and ways to look at their answers; a frame of each."""
    tab, frames = bench.tab, []

    def frame(selector: str) -> None:
        tab.locator(selector).scroll_into_view_if_needed()
        tab.wait_for_timeout(400)
        frames.append(tab.screenshot())

    bench.example("Unseen combinations")
    bench.choose_methods(GUIDED, SURGERY, ESC_NET)
    frame("#annotator")
    bench.run()
    tab.locator("#results").evaluate("one => one.scrollIntoView()")
    frame("#results")
    for view in ("Errors", "Logits", "Masks"):
        tab.locator("#view label", has_text=view).click()
        tab.wait_for_timeout(600)
        tab.locator("#results").evaluate("one => one.scrollIntoView()")
        frame("#results")
    return frames


def _labelled_zip(room: Path) -> Path:
    """Twelve scenes as a person would pack them."""
    path = room / "scenes.zip"
    scenes = SceneData(12, seed=7)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("classes.json", json.dumps(["background", *scenes.names]))
        for scene in scenes:
            ids = np.where(scene.classes == BACKGROUND, -1, scene.classes) + 1
            for folder, pixels in (("images", scene.image), ("masks", ids.astype(np.uint8))):
                stream = io.BytesIO()
                Image.fromarray(pixels).save(stream, "PNG")
                archive.writestr(f"{folder}/{scene.key}.png", stream.getvalue())
    return path


def _evaluate(tab: Page, data: Path) -> None:
    """Two methods on a zip."""
    tab.get_by_role("tab", name="Evaluate").click()
    tab.set_input_files("#evaluate-upload input[type=file]", data)
    tab.wait_for_selector("#evaluate-about :text('12 images')")
    tab.click("#evaluate-run")
    tab.wait_for_selector("#get-report-html")
    tab.wait_for_selector("#evaluate-stop[disabled]")


def _adapt(tab: Page) -> None:
    """The example, a minute of training."""
    tab.get_by_role("tab", name="Adapt").click()
    tab.click("#adapt-example")
    tab.wait_for_selector("#adapt-listing figure")
    tab.click("#adapt-start")
    tab.wait_for_selector("#adapt-results .verdict")


def _keep(tab: Page, name: str, look: str, selector: str) -> None:
    """The whole page for people who check it; of the light look also what the README shows."""
    tab.wait_for_timeout(1000)
    tab.screenshot(path=SCREENSHOTS / f"tour-{name}-{look}.png", full_page=True)
    if look == "light":
        tab.locator(selector).evaluate("one => one.scrollIntoView({block: 'start'})")
        tab.wait_for_timeout(500)
        shown = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
        shown.quantize(256).save(PICTURES / f"{name}.png", optimize=True)


def _write_gif(frames: list[bytes], path: Path) -> None:
    pictures = [Image.open(io.BytesIO(frame)).convert("RGB") for frame in frames]
    height = round(pictures[0].height * GIF_WIDTH / pictures[0].width)
    first, *others = (
        one.resize((GIF_WIDTH, height)).quantize(128, dither=Image.Dither.NONE) for one in pictures
    )
    first.save(path, save_all=True, append_images=others, duration=FRAME_MS, loop=0, optimize=True)


if __name__ == "__main__":
    main()
