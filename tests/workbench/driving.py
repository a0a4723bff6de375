"""The page, driven in a browser in words of what a user does and sees."""

from __future__ import annotations

import base64
import io
import re
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipsam.methods.clip_guided_sam import ClipGuidedSamPredictor
from clipsam.types import Concept, Prediction

GUIDED, SURGERY, SAM, ESC_NET = (
    "CLIP-Guided SAM · semi-automatic",
    "CLIP Surgery + SAM · vanilla",
    "SAM · manual",
    "ESC-Net · whole-image",
)

DEFAULT = GUIDED, ESC_NET, SURGERY
"""Methods selected at first, in the order of the cards."""

CLICK = 0.7
"""Pixels by which a click may miss in an image of 256: a pixel of the screen is 0.6 of one."""

PATIENCE = 30
"""Seconds until a test gives up: machines may be slow."""


class Workbench:
    """The page, in words of what a user does and sees."""

    def __init__(self, tab: object, address: str) -> None:
        self.tab = tab
        self.console: list[str] = []
        self.foreign: list[str] = []
        tab.on("pageerror", lambda error: self.console.append(str(error)))
        tab.on("console", lambda line: line.type == "error" and self.console.append(line.text))
        tab.on("request", lambda request: self._note(request.url, address))
        tab.goto(address)
        tab.wait_for_selector("#examples button")

    def _note(self, url: str, address: str) -> None:
        if not url.startswith((address, "data:", "blob:")):
            self.foreign.append(url)

    # ---- doing ----

    def example(self, title: str) -> None:
        button = self.tab.locator("#examples button", has_text=title)
        classes = button.get_attribute("title")
        button.click()
        self.tab.wait_for_selector("#annotator .filled")
        self.tab.wait_for_function(
            "text => document.querySelector('#classes textarea, #classes input').value === text",
            arg=classes,
        )
        self._expect_chip(classes)

    def upload(self, path: Path) -> None:
        self.tab.set_input_files("#picture-upload input[type=file]", path)

    def upload_picture(self, path: Path, size: tuple[int, int]) -> None:
        """Upload a picture that must be accepted, of (width, height)."""
        self.upload(path)
        self.expect_text("#annotator .size", f"{size[0]} × {size[1]} pixels")

    def type_classes(self, text: str) -> None:
        self.tab.locator("#classes textarea, #classes input").fill(text)
        self._expect_chip(text)

    def _expect_chip(self, classes: str) -> None:
        first = re.split("[,;]", classes)[0].strip()
        self.tab.wait_for_selector(f"#annotator .chip:text-is('{first}')")

    def choose_methods(self, *titles: str) -> None:
        self.open_methods()
        for line in self.tab.locator("#methods-list .method:visible").all():
            title = line.locator("span").inner_text().strip()
            line.locator("input").set_checked(title in titles)
        self.tab.keyboard.press("Escape")

    def open_methods(self) -> None:
        """Unfold the list of methods."""
        fold = self.tab.locator("#methods-fold button")
        if fold.get_attribute("aria-expanded") == "false":
            fold.click()

    def open_menu(self, title: str) -> object:
        """Open a card's menu, and return the card."""
        card = self.card(title)
        card.locator(".show-more").check()
        return card

    def run(self) -> None:
        """Press Run, as one who waits for what still runs, and wait for the answer."""
        self.tab.wait_for_selector("#stop:disabled")
        # The next answer may read the same: its element is another.
        self.tab.evaluate("document.querySelector('#status p')?.classList.add('old')")
        self.tab.click("#run")
        self.tab.wait_for_selector("#status p:not(.old):has-text(' done in ')")

    def click(self, x: float, y: float) -> None:
        """Click at a share of the picture's width and height."""
        box = self.tab.locator("#annotator canvas").bounding_box()
        self.tab.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])

    def drag(self, x0: float, y0: float, x1: float, y1: float) -> None:
        box = self.tab.locator("#annotator canvas").bounding_box()
        self.tab.mouse.move(box["x"] + x0 * box["width"], box["y"] + y0 * box["height"])
        self.tab.mouse.down()
        self.tab.mouse.move(box["x"] + x1 * box["width"], box["y"] + y1 * box["height"], steps=4)
        self.tab.mouse.up()

    def set_slider(self, name: str, value: float) -> None:
        field = self.tab.locator(f"#{name} input[type=number]")
        field.fill(f"{value:g}")
        field.press("Enter")

    # ---- seeing ----

    def expect_text(self, selector: str, text: str) -> None:
        self.tab.wait_for_function(
            "([selector, text]) => document.querySelector(selector)?.innerText.includes(text)",
            arg=[selector, text],
        )

    def card(self, title: str) -> object:
        name, mode = title.split(" · ")
        return self.tab.locator(".card:visible").filter(
            has=self.tab.locator("h3", has_text=re.compile(f"^{re.escape(name)} {mode}$"))
        )

    def expect_mask(self, title: str, index: int, mask: np.ndarray) -> None:
        """Wait until a card shows exactly this mask (bool (H, W)) for one class."""

        def shows() -> bool:
            shown = self.shown_mask(title, index)
            return not mask.any() if shown is None else np.array_equal(shown, mask)

        wait_for(self, shows, f"the card “{title}” shows the mask of class {index}")

    def expect_maps(self, title: str, count: int) -> None:
        """Wait until a card shows this many similarity maps."""
        maps = self.card(title).locator("img.map")
        wait_for(self, lambda: maps.count() == count, f"“{title}” shows {count} maps")

    def shown_mask(self, title: str, index: int) -> np.ndarray | None:
        """The mask that a card shows for a class, as the browser holds it; None if none."""
        # In one question: a redraw may take the layer away between two.
        sources = self.card(title).locator(f".fill.layer-{index}")
        shown = sources.evaluate_all("layers => layers.map(layer => layer.src)")
        return np.array(decode(shown[0]).convert("RGBA"))[..., 3] > 0 if shown else None

    def expect_labels(self, title: str, labels: np.ndarray) -> None:
        """Wait until a card shows exactly this label map (int (H, W), −1 for none)."""
        layers = self.card(title).locator(".best .fill")

        def shows() -> bool:
            sources = layers.evaluate_all("layers => layers.map(layer => layer.src)")
            places = np.array(decode(sources[0])) if sources else np.zeros(labels.shape)
            return np.array_equal(places, labels + 1)

        wait_for(self, shows, f"the card “{title}” shows its label map")

    def scores(self) -> dict[tuple[str, str], list[str]]:
        """The table of scores: (method, class) → the other cells."""
        self.tab.wait_for_selector("#scores td")
        rows = self.tab.evaluate(
            "[...document.querySelectorAll('#scores tbody tr')].map(row => "
            "[...row.querySelectorAll('td')].map(cell => cell.innerText.trim()))"
        )
        return {(row[0], row[1]): row[2:] for row in rows}

    def expect_iou(self, title: str, name: str, expected: float) -> None:
        """Wait until the table gives this IoU to a method and class."""

        def shows() -> bool:
            cells = self.scores().get((title, name))
            return cells is not None and abs(float(cells[0]) - expected) < 1e-4

        wait_for(self, shows, f"the IoU of “{title}” for {name} is {expected:.4f}")


def decode(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def wait_for(bench: Workbench, happened: Callable[[], object], what: str = "it") -> None:
    for _ in range(PATIENCE * 20):
        if happened():
            return
        bench.tab.wait_for_timeout(50)
    raise AssertionError(f"never happened: {what}")


class HeldUp:
    """CLIP-Guided SAM, which waits at one of the classes it is asked; the first is 1.

    Attributes:
        asked: the classes so far.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int = 1) -> None:
        self.asked: list[str] = []
        self._there, self._may_go_on = threading.Event(), threading.Event()
        ask = ClipGuidedSamPredictor._ask

        def held_up(
            predictor: ClipGuidedSamPredictor, scene: object, concept: Concept, *rest: object
        ) -> object:
            self.asked.append(concept.text)
            if len(self.asked) == at:
                self._there.set()
                assert self._may_go_on.wait(2 * PATIENCE)
            return ask(predictor, scene, concept, *rest)

        monkeypatch.setattr(ClipGuidedSamPredictor, "_ask", held_up)

    def wait(self) -> None:
        """Until it is there."""
        assert self._there.wait(PATIENCE)

    def go_on(self) -> None:
        """Let it answer, and all that is asked after."""
        self._may_go_on.set()


def middle(prediction: Prediction) -> float:
    """A threshold, as the slider can be set, that some logits of the first class are above."""
    logits = prediction.class_logits(0)
    return float(np.clip(round(float(logits.min() + logits.max()) / 2, 1), -10, 10))


def give_truth(bench: Workbench, path: Path) -> None:
    bench.tab.get_by_role("button", name="Ground truth").click()
    bench.tab.set_input_files("#truth-file input[type=file]", path)


def text_file(tmp_path: Path) -> Path:
    (tmp_path / "notes.png").write_text("this is no picture")
    return tmp_path / "notes.png"
