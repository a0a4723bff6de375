"""Whose turn it is: short requests soon, long ones in the end, abandoned ones not at all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file

from clipsam.encoded_image import EncodedImage
from clipsam.errors import PromptError
from clipsam.types import prompt_from_classes
from clipsam.weights.availability import has_weights
from clipsam.weights.presets import TINY
from clipsam.workbench import presence, turns
from clipsam.workbench.limits import MAX_CLASSES, MAX_MARKS, check_marks, read_classes
from clipsam.workbench.model_store import ModelStore
from clipsam.workbench.presence import OpenPages
from clipsam.workbench.turns import Turns, Unwanted
from clipsam.workbench.zero_gpu import MethodRequest, predict_all

PIECE = 0.02


def start(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def waits(turns: Turns, count: int) -> None:
    while turns.waiting < count:
        time.sleep(0.001)


def test_one_at_a_time_and_nested() -> None:
    shared, inside, most = Turns(), [0], [0]

    def work() -> None:
        turn = shared.request()
        for _ in range(5):
            with turn, turn:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.001)
                inside[0] -= 1

    for thread in [start(work) for _ in range(8)]:
        thread.join()
    assert most == [1] and shared.waiting == 0


def test_a_short_request_does_not_wait_for_a_long_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The long one has hundreds of pieces left when the short one has its answer."""
    monkeypatch.setattr(turns, "SLICE", 0.05)
    shared, done = Turns(), []

    def long() -> None:
        turn = shared.request()
        with turn:
            for number in range(100):
                time.sleep(PIECE)
                done.append(number)
                turn.pause()

    thread = start(long)
    while not done:
        time.sleep(0.001)
    with shared.request():
        at = len(done)
    assert at < 20
    thread.join()
    assert len(done) == 100


def test_who_had_least_comes_first_but_nobody_waits_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared, order = Turns(), []
    first, greedy, modest = (shared.request() for _ in range(3))
    greedy.used, modest.used = 9.0, 1.0

    def take(name: str, turn: turns.Turn) -> None:
        with turn:
            order.append(name)

    def queue() -> None:
        order.clear()
        with first:
            threads = [start(lambda: take("greedy", greedy))]
            waits(shared, 1)
            threads.append(start(lambda: take("modest", modest)))
            waits(shared, 2)
        for thread in threads:
            thread.join()

    queue()
    assert order == ["modest", "greedy"]
    monkeypatch.setattr(turns, "PATIENCE", 0.0)
    queue()
    assert order == ["greedy", "modest"]


def test_an_abandoned_request_leaves_the_queue_and_its_work() -> None:
    shared, wanted = Turns(), [True]
    turn = shared.request(lambda: wanted[0])
    failed: list[str] = []

    def work() -> None:
        try:
            with turn:
                failed.append("came in")
        except Unwanted:
            failed.append("gave up")

    with shared.request():
        thread = start(work)
        waits(shared, 1)
        wanted[0] = False
        thread.join()
    assert failed == ["gave up"] and shared.waiting == 0
    wanted[0] = True
    with pytest.raises(Unwanted), turn:
        wanted[0] = False
        turn.pause()
    with shared.request():  # It has let go.
        pass


@pytest.mark.parametrize("method", ["clip-guided-sam", "esc-net"])
def test_a_prediction_that_gives_way_is_the_same(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two requests interleaved class by class, or chunk by chunk, answer as each alone."""
    if not has_weights(TINY):
        pytest.skip("the bundled tiny weights are not here")
    monkeypatch.setattr(turns, "SLICE", 0.0)
    models = ModelStore()
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (64, 80, 3), np.uint8) for _ in range(2)]
    prompt = prompt_from_classes([[f"thing {number}"] for number in range(40)])

    def ask(image: np.ndarray) -> np.ndarray:
        answers = predict_all(models, EncodedImage(image), prompt, "tiny", [MethodRequest(method)])
        return next(a.result for a in answers if a.result is not None).logits()

    alone = [ask(image) for image in images]
    together: dict[int, np.ndarray] = {}
    threads = [
        start(lambda n=n, image=image: together.setdefault(n, ask(image)))
        for n, image in enumerate(images)
    ]
    for thread in threads:
        thread.join()
    for number, logits in enumerate(alone):
        np.testing.assert_array_equal(together[number], logits)


# ---- limits ----


def test_too_much_for_one_request() -> None:
    text = ", ".join(f"c{number}" for number in range(MAX_CLASSES))
    assert len(read_classes(text)) == MAX_CLASSES
    with pytest.raises(PromptError, match="201 classes are more than the limit of 200"):
        read_classes(f"{text}, one more")
    with pytest.raises(PromptError, match="30,000 characters, more than the limit of 20,000"):
        read_classes("a" * 30_000)
    check_marks(MAX_MARKS)
    with pytest.raises(PromptError, match="1,001 points and boxes are more than the limit"):
        check_marks(MAX_MARKS + 1)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> str:
    from PIL import Image

    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(path)
    return str(path)


def test_the_limits_hold_in_the_api(address: str, photo: str) -> None:
    client = Client(address, verbose=False)
    for extra, says in (
        ({"classes": ",".join(map(str, range(201)))}, "201 classes are more than the limit of 200"),
        ({"classes": "a", "points": [["a", 1, 1, 1]] * 1001}, "1,001 points and boxes"),
    ):
        with pytest.raises(Exception, match=says):
            client.predict(image=handle_file(photo), methods=["sam"], api_name="/segment", **extra)


def test_work_ends_when_its_client_is_gone(
    address: str, photo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many classes are asked for, and the connection is closed at once; few are predicted."""
    asked: list[str] = []
    from clipsam.methods.clip_guided_sam import ClipGuidedSamPredictor

    ask = ClipGuidedSamPredictor._ask

    def noted(self: ClipGuidedSamPredictor, encoded: object, concept: object, *rest: object):
        asked.append(concept.text)
        time.sleep(0.05)
        return ask(self, encoded, concept, *rest)

    monkeypatch.setattr(ClipGuidedSamPredictor, "_ask", noted)
    files = {"files": ("photo.png", Path(photo).read_bytes())}
    upload = httpx.post(f"{address}/gradio_api/upload", files=files, timeout=30).json()[0]
    classes = ", ".join(f"thing {number}" for number in range(MAX_CLASSES))
    picture = {"path": upload, "meta": {"_type": "gradio.FileData"}}
    began = httpx.post(
        f"{address}/gradio_api/call/segment",
        json={"data": [picture, classes, ["clip-guided-sam"], "tiny", None, None, 0, 0, "rle"]},
        timeout=30,
    ).json()["event_id"]
    with httpx.stream("GET", f"{address}/gradio_api/call/segment/{began}", timeout=30):
        limit = time.monotonic() + 60
        while not asked and time.monotonic() < limit:
            time.sleep(0.01)
    assert asked
    time.sleep(1)
    count = len(asked)
    time.sleep(1.5)
    assert len(asked) == count < MAX_CLASSES


# ---- sessions ----


def test_sessions_without_a_page_are_dropped() -> None:
    deleted: list[str] = []
    with gr.Blocks():
        block = gr.State("nothing", delete_callback=deleted.append)
    now = datetime.now()
    ages = {"open": 9000, "young": 10, "abandoned": 9000}

    class Lock:
        __enter__ = __exit__ = lambda *_: None

    holder = SimpleNamespace(
        session_data={
            name: SimpleNamespace(
                state_data={block._id: name},
                blocks_config=SimpleNamespace(blocks={block._id: block}),
            )
            for name in ages
        },
        time_last_used={name: now - timedelta(seconds=age) for name, age in ages.items()},
        lock=Lock(),
    )
    pages = OpenPages()
    pages.sessions["open"] += 1
    assert pages.drop_abandoned(SimpleNamespace(state_holder=holder), now) == 1
    assert deleted == ["abandoned"] and set(holder.session_data) == {"open", "young"}


def test_sessions_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "MAX_SESSIONS", 1)
    now = datetime.now()
    empty = SimpleNamespace(state_data={}, blocks_config=SimpleNamespace(blocks={}))

    class Lock:
        __enter__ = __exit__ = lambda *_: None

    holder = SimpleNamespace(
        session_data={"a": empty, "b": empty},
        time_last_used={"a": now, "b": now - timedelta(seconds=1)},
        lock=Lock(),
    )
    assert OpenPages().drop_abandoned(SimpleNamespace(state_holder=holder), now) == 1
    assert set(holder.session_data) == {"a"}


def test_an_open_page_is_known_by_its_connection(address: str) -> None:
    """The heartbeat of a page goes through the middleware of the served page."""
    with httpx.stream("GET", f"{address}/gradio_api/heartbeat/some-session", timeout=30) as beat:
        assert next(beat.iter_text()).startswith("data: ALIVE")


def test_open_pages_count_connections() -> None:
    import asyncio

    pages, seen = OpenPages(), []

    async def app(scope: dict, *_: object) -> None:
        seen.append(dict(pages.sessions))

    counted = pages.around(app)
    for path in ("/gradio_api/heartbeat/abc", "/gradio_api/other"):
        # In a thread of its own: a browser's driver may run a loop in this one.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, counted({"path": path}, None, None)).result()
    assert seen == [{"abc": 1}, {}] and not pages.sessions
