"""The page served in this process, and a real Chromium in front of it."""

from __future__ import annotations

import multiprocessing
import pickle
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import torch
from PIL import Image

from clipsam.data.synthetic import SceneData
from clipsam.predictor import Predictor
from clipsam.types import Prediction
from clipsam.weights.availability import has_weights
from clipsam.weights.presets import TINY
from clipsam.workbench import zero_gpu
from clipsam.workbench.choices import DEFAULT_KEYS
from tests.workbench.driving import PATIENCE, Workbench

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


def chromium_path() -> str | None:
    """Where the browser is; ``None`` if it is not installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


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
    from clipsam.workbench.model_store import ModelStore
    from clipsam.workbench.page import build_page, launch

    port = free_port()
    models = ModelStore()
    # Loaded before a test counts predictions, of which a warm-up makes some.
    for key in DEFAULT_KEYS:
        models.warm_up(TINY.name, key.partition("/")[0])
    page = build_page(models)
    launch(page, server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, quiet=True)
    yield f"http://127.0.0.1:{port}"
    page.close()


@pytest.fixture(scope="session")
def chromium() -> Iterator[object]:
    """A browser; skips where there is none."""
    path = chromium_path()
    if path is None:
        pytest.skip("Chromium is not installed")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def bench(chromium: object, address: str) -> Iterator[Workbench]:
    """The page in a window of its own; afterwards it must have behaved."""
    context = chromium.new_context(viewport={"width": 1400, "height": 1100})
    context.set_default_timeout(PATIENCE * 1000)
    bench = Workbench(context.new_page(), address)
    yield bench
    assert bench.console == []
    assert bench.foreign == []
    assert "Traceback" not in bench.tab.locator("body").inner_text()
    context.close()


@pytest.fixture
def scene(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A picture file with two shapes, and which pixels show the first of its classes."""
    data = SceneData(12, seed=7)[9]
    path = tmp_path / "scene.png"
    Image.fromarray(data.image).save(path)
    return path, data.classes == data.names.index("green square")


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


@pytest.fixture
def lent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A stand-in for ``spaces.GPU``; notes the seconds that each call asks for."""
    asked: list[int] = []
    monkeypatch.setattr(zero_gpu, "_lent", _forked(zero_gpu._in_worker, asked))
    monkeypatch.setattr(zero_gpu, "ON_ZERO_GPU", True)
    return asked


def _forked(task: Callable[..., Iterator], asked: list[int]) -> Callable[..., Iterator]:
    """A generator function whose calls run in a fork; all that goes in or comes out is pickled.

    As in the package ``spaces``: the fork does not wait until an answer is taken, ends at the next
    one after the call was closed, and says no more of an exception than its name.
    """
    context = multiprocessing.get_context("fork")

    def work(arguments: bytes, stop: object, out: object) -> None:
        torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
        answers = task(*pickle.loads(arguments))
        try:
            for answer in answers:
                if stop.is_set():
                    answers.close()
                    break
                out.send_bytes(pickle.dumps((answer, "")))
            out.send_bytes(pickle.dumps(None))
        except Exception as error:
            out.send_bytes(pickle.dumps((None, type(error).__name__)))

    def run(*arguments: object) -> Iterator:
        asked.append(zero_gpu.duration(*arguments))
        ours, theirs = context.Pipe(duplex=False)
        stop = context.Event()
        process = context.Process(target=work, args=(pickle.dumps(arguments), stop, theirs))
        process.start()
        theirs.close()
        try:
            while (content := pickle.loads(ours.recv_bytes())) is not None:
                answer, failure = content
                if failure:
                    raise gr.Error(failure, title="ZeroGPU worker error", print_exception=False)
                yield answer
        except GeneratorExit:
            stop.set()
            while pickle.loads(ours.recv_bytes()) is not None:
                pass
            raise
        finally:
            process.join()

    return run
