"""The page served in this process, and a real Chromium in front of it."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import baselines  # noqa: F401 (registers them)
import clipsam.methods  # noqa: F401
from clipsam.predictor import Predictor
from clipsam.types import Prediction
from clipsam.weights.backbones import has_weights
from clipsam.weights.presets import TINY

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


SCREENSHOTS = Path(__file__).resolve().parents[2] / "runs" / "screenshots"
"""What every browser test saw last, for people to look at."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Keep what the browser shows, before its windows are closed."""
    browser = getattr(item, "funcargs", {}).get("chromium")
    windows = [tab for context in browser.contexts for tab in context.pages] if browser else []
    name = re.sub(r"[^\w-]+", "-", item.name)
    for number, tab in enumerate(windows, start=1):
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        tab.screenshot(path=SCREENSHOTS / f"{name}{f'-{number}' if number > 1 else ''}.png")


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """Where the page is served."""
    if not has_weights(TINY):
        pytest.skip("the bundled tiny weights are not here")
    from clipsam.workbench.models import ModelStore
    from clipsam.workbench.page import build_page, launch

    port = free_port()
    models = ModelStore()
    # Loaded before a test counts predictions, of which a warm-up makes some.
    for method in ("clip-guided-sam", "clip-surgery-sam"):
        models.warm_up(TINY.name, method)
    page = build_page(models)
    launch(page, server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, quiet=True)
    yield f"http://127.0.0.1:{port}"
    page.close()


@pytest.fixture(scope="session")
def chromium() -> Iterator[object]:
    """A browser; skips where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("Chromium is not installed")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def predictions(monkeypatch: pytest.MonkeyPatch) -> list[Prediction]:
    """Every prediction that a predictor makes from here on, in order."""
    made: list[Prediction] = []
    predict = Predictor.predict

    def recorded(self: Predictor, *args: object, **kwargs: object) -> Prediction:
        made.append(predict(self, *args, **kwargs))
        return made[-1]

    monkeypatch.setattr(Predictor, "predict", recorded)
    return made
