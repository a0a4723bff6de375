"""The page as a whole, in a real Chromium."""

from __future__ import annotations

import pytest

from clipsam.registry import find_info
from clipsam.weights.availability import method_status
from clipsam.weights.presets import TINY
from clipsam.workbench import page as page_module
from clipsam.workbench.choices import DEFAULT_KEYS
from clipsam.workbench.model_store import ModelStore
from tests.workbench.driving import (
    HeldUp,
    Workbench,
)

pytestmark = pytest.mark.browser


def test_nothing_is_wider_than_a_phone(bench: Workbench) -> None:
    bench.tab.set_viewport_size({"width": 390, "height": 844})
    bench.example("Shapes")
    bench.open_methods()
    for every in bench.tab.locator("#methods-list .all").all():
        every.check()
    bench.tab.click("#methods-note summary")
    assert bench.tab.evaluate("document.documentElement.scrollWidth") <= 390
    bench.tab.keyboard.press("Escape")
    bench.tab.get_by_role("button", name="Ground truth").click()
    bench.run()
    assert bench.scores()
    assert bench.tab.evaluate("document.documentElement.scrollWidth") <= 390


def test_who_comes_when_the_queue_is_full_is_told_so(
    chromium: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    if method_status(find_info("sam"), TINY) != "ready":
        pytest.skip("the bundled tiny weights are not here")
    models = ModelStore()
    for key in DEFAULT_KEYS:  # or the page's warm-up is held up too
        models.warm_up(TINY.name, key.partition("/")[0])
    guided = HeldUp(monkeypatch)
    monkeypatch.setattr(page_module, "MAX_QUEUE", 1)
    page = page_module.build_page(models)
    for listener in page.fns.values():  # or dozens would have to run before one waits
        if listener.concurrency_id == "gpu":
            listener.concurrency_limit = 1
    _, address, _ = page_module.launch(
        page, server_name="127.0.0.1", prevent_thread_lock=True, quiet=True
    )
    context = chromium.new_context()
    windows = [Workbench(context.new_page(), address) for _ in range(3)]
    for window in windows:
        window.example("Shapes")
    windows[0].tab.click("#run")
    guided.wait()
    windows[1].tab.click("#run")
    windows[1].expect_text("#status", "queue: 1/1")
    windows[2].tab.click("#run")
    windows[2].expect_text("body", "currently busy. Please try again")
    guided.go_on()
    for window in windows[:2]:
        window.expect_text("#status", "3 of 3 methods done")
    windows[2].run()
    context.close()
    page.close()
