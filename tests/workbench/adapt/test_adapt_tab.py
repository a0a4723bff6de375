"""The Adapt tab: what it holds for a session, and the tab in a real Chromium."""

from __future__ import annotations

import copy
import multiprocessing
import re
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import gradio as gr
import numpy as np
import pytest
import torch
from PIL import Image

from clipsam.data.labelled import from_masks
from clipsam.data.readers import DataError
from clipsam.data.samples import LabelledImage
from clipsam.encoded_image import EncodedImage
from clipsam.registry import find_method
from clipsam.training.adapt import AdaptationResult, ImageComparison, adapt
from clipsam.types import prompt_from_classes
from clipsam.weights.availability import has_weights
from clipsam.weights.backbones import load_backbones
from clipsam.weights.bundle import load_bundle
from clipsam.weights.presets import TINY
from clipsam.workbench import zero_gpu
from clipsam.workbench.adapt import adapt_html, training_run
from clipsam.workbench.adapt import adapt_tab as module
from clipsam.workbench.adapt.adapt_tab import AdaptState, AdaptTab, example_pictures
from clipsam.workbench.adapt.training_run import TrainingRun
from clipsam.workbench.bundles import MAX_BUNDLES, SessionBundle, SessionBundles
from clipsam.workbench.model_store import ModelStore
from clipsam.workbench.page import launch

needs_tiny = pytest.mark.skipif(not has_weights(TINY), reason="the tiny bundle is not here")

PATIENCE = 60
"""Seconds until a test gives up: machines may be slow."""


@pytest.fixture(scope="module")
def tab() -> AdaptTab:
    """The tab in a page of its own."""
    with gr.Blocks():
        return AdaptTab(ModelStore(), gr.State(SessionBundles()))


def square(seed: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A picture and the mask of one class in it."""
    image = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), np.uint8)
    mask = np.zeros((20, 30), bool)
    mask[5:15, 5:15] = True
    return image, {"dog": mask}


# ---- what a session holds ----


def test_pictures_come_from_elsewhere_on_the_page(tab: AdaptTab) -> None:
    state, other = AdaptState(), AdaptState()
    for seed in range(4):
        assert tab.add(state, *square(seed)) is state
    assert [one.key for one in state.pictures] == [f"from Compare {n}" for n in range(1, 5)]
    assert other.pictures == ()
    with pytest.raises(DataError, match="the same image"):
        tab.add(state, *square(2))
    with pytest.raises(DataError, match="no foreground"):
        tab.add(state, square(9)[0], {"dog": np.zeros((20, 30), bool)})
    assert len(state.pictures) == 4
    html = tab.show(state)[tab.listing]
    assert html.count("<figure") == 4
    assert "4 images: 3 for training; from Compare 4 is held out" in html


@pytest.mark.parametrize(
    ("count", "sentence"),
    [
        (0, "There is no labelled image yet; 4 to 32 are needed. Add at least 4."),
        (1, "There is 1 labelled image yet; 4 to 32 are needed. Add at least 3."),
        (3, "There are 3 labelled images yet; 4 to 32 are needed. Add at least 1."),
        (4, ""),
    ],
)
def test_what_is_missing_is_said(tab: AdaptTab, count: int, sentence: str) -> None:
    assert adapt_html.lacking(count) == sentence
    state = AdaptState(pictures=tuple(from_masks(f"{n}", *square(n)) for n in range(count)))
    if sentence:
        assert sentence in tab.show(state)[tab.listing]
        (update,) = tab.run(state, SessionBundles(), "tiny/clip-guided-sam", "1 minute")
        assert sentence in update[tab.status]
        assert state.training_run is None


def test_a_class_that_only_held_out_pictures_show_is_named() -> None:
    image, masks = square(9)
    pictures = [from_masks(f"{n}", *square(n)) for n in range(3)]
    html = adapt_html.listing([*pictures, from_masks("3", image, {"cat": masks["dog"]})])
    assert "Only held-out images show cat" in html


def test_names_are_no_markup() -> None:
    image, masks = square()
    html = adapt_html.listing([from_masks('<b>"&', image, {"<i>": masks["dog"]})])
    assert "<b>" not in html and "<i>" not in html
    assert 'data-key="&lt;b&gt;&quot;&amp;"' in html


def test_an_unlucky_end_is_called_so() -> None:
    picture = from_masks("a", *square())

    def adapted(after: float) -> AdaptationResult:
        rows = (ImageComparison("a", "dog", 0.5, after),)
        return AdaptationResult(Path(), "manual", (picture,), (), (), rows)

    assert adapt_html.verdict(adapted(0.4)).startswith(
        "Worse: mean IoU 0.500 → 0.400 (-0.100) on 1 image"
    )
    assert adapt_html.verdict(adapted(0.6)).startswith("Better: mean IoU 0.500 → 0.600 (+0.100)")
    assert adapt_html.verdict(adapted(0.5)).startswith("Unchanged")
    assert "Points were sampled from your masks" in adapt_html.verdict(adapted(0.5))
    assert "sampled" not in adapt_html.verdict(replace(adapted(0.5), mode="semi-automatic"))


def test_the_loss_of_a_single_step_is_a_line() -> None:
    for name in ("each", "mean"):
        (points,) = re.findall(f"class='{name}' points='([^']*)'", adapt_html.curve([0.5], None))
        assert points == "0.0,4.0 100.0,4.0"


def test_the_running_mean_begins_with_its_first_window() -> None:
    assert adapt_html.running_mean([4.0, 2.0, 0.0, 6.0], 2) == [3.0, 3.0, 1.0, 3.0]
    assert adapt_html.running_mean([4.0], 5) == [4.0]
    assert adapt_html.curve([], 3.0) == ""
    assert "step 1 · 4.000 → 4.000 (mean of the latest 1) · 3 s left" in adapt_html.curve(
        [4.0], 3.2
    )
    assert adapt_html.curve([1.0] * 5000, None).count(",") <= 2 * adapt_html.MAX_POINTS


def test_old_bundles_and_the_folder_go(tmp_path: Path) -> None:
    bundles = copy.deepcopy(SessionBundles())  # As Gradio makes one for every page.
    for number in range(MAX_BUNDLES + 1):
        folder = bundles.new_folder(f"{number}")
        folder.mkdir()
        archive = folder.with_suffix(".zip")
        archive.write_bytes(b"")
        bundles.keep(SessionBundle(f"{number}", "sam-ptx", "tiny", folder, archive))
    assert [one.name for one in bundles.kept] == ["1", "2", "3", "4"]
    folder = bundles.kept[0].folder
    assert sorted(path.name for path in folder.parent.iterdir()) == sorted(
        f"{number}{ending}" for number in range(1, MAX_BUNDLES + 1) for ending in ("", ".zip")
    )
    bundles.close()
    assert not folder.parent.exists()


def test_a_training_ends_with_its_page_or_its_folder(tmp_path: Path) -> None:
    state = AdaptState(training_run=TrainingRun(60, tmp_path / "session" / "wanted"))
    for end in (state.stop, lambda: shutil.rmtree(tmp_path / "session")):
        (tmp_path / "session").mkdir(exist_ok=True)
        state.training_run.begin()
        assert state.training_run.is_training
        end()
        assert state.training_run.is_stopped
    state.stop()


@needs_tiny
def test_two_sessions_train_apart_and_the_store_stays_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(module.BUDGETS, "a blink", 0.01)
    monkeypatch.setattr(training_run, "POLL", 0.05)
    store = ModelStore()
    with gr.Blocks():
        tab = AdaptTab(store, gr.State(SessionBundles()))
    shared = store.predictor("tiny", "clip-guided-sam")
    scene, prompt = example_pictures()[0].image, prompt_from_classes([["sticker"]])
    before = shared.predict(EncodedImage(scene), prompt).logits()
    states, bundles = [AdaptState(), AdaptState()], [SessionBundles(), SessionBundles()]
    logits = []
    for state, mine, name in zip(states, bundles, ("sticker", "patch"), strict=True):
        for picture in example_pictures()[:4]:
            tab.add(state, picture.image, {name: picture.classes == 0})
        *_, last = tab.run(state, mine, "tiny/clip-guided-sam", "a blink")
        assert "Saved for this session as “CLIP-Guided SAM, adapted 1”" in last[tab.status]
        (bundle,) = mine.kept
        assert (bundle.method, bundle.preset) == ("clip-guided-sam", "tiny")
        own = store.predictor("tiny", "clip-guided-sam", bundle.folder)
        assert store.predictor("tiny", "clip-guided-sam") is shared is not own
        logits.append(own.predict(EncodedImage(scene), prompt).logits())
    assert np.array_equal(before, shared.predict(EncodedImage(scene), prompt).logits())
    assert not np.array_equal(*logits) and not np.array_equal(before, logits[0])
    assert bundles[0].kept[0].folder.parent != bundles[1].kept[0].folder.parent


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Steps that trainings of this process have done."""
    done: list[int] = []

    def counted(*arguments: object) -> AdaptationResult:
        *others, watch, turn = arguments
        return adapt(*others, lambda step, figures: done.append(step) or watch(step, figures), turn)

    monkeypatch.setattr(training_run, "adapt", counted)
    monkeypatch.setattr(training_run, "POLL", 0.05)
    return done


@needs_tiny
def test_a_page_that_is_closed_ends_its_training(tab: AdaptTab, steps: list[int]) -> None:
    state = AdaptState(pictures=example_pictures()[:4])
    run = tab.run(state, SessionBundles(), "tiny/sam-decoder", "10 minutes")
    next(run)
    going = state.training_run
    while not going.losses:
        next(run)
    run.close()
    assert going.is_stopped and state.training_run is None
    done = len(steps)
    time.sleep(0.5)
    assert len(steps) == done


@needs_tiny
def test_stop_keeps_what_has_been_learnt_so_far(tab: AdaptTab, steps: list[int]) -> None:
    state, bundles = AdaptState(pictures=example_pictures()[:4]), SessionBundles()
    last = stopped_at_once(tab, state, bundles)
    assert "Saved for this session" in last[tab.status]
    config, _ = load_bundle(bundles.kept[0].folder)
    assert config["training"]["steps"] == len(steps)
    assert f"step {len(steps)} ·" in last[tab.curve]


@needs_tiny
def test_stop_ends_what_still_waits_for_others(tab: AdaptTab) -> None:
    state, bundles = AdaptState(pictures=example_pictures()[:4]), SessionBundles()
    assert tab.stop.begin(state).interactive
    tab.stop.end(state)
    (only,) = tab.run(state, bundles, "tiny/sam-decoder", "10 minutes")
    assert "Stopped before it started" in only[tab.status] and not bundles.kept
    tab.stop.begin(state)
    assert not state.stopped


def stopped_at_once(tab: AdaptTab, state: AdaptState, bundles: SessionBundles) -> dict:
    """The end of a training of ten minutes that is stopped when its first losses are shown."""
    shown: dict = {}
    for updates in tab.run(state, bundles, "tiny/sam-decoder", "10 minutes", lambda *_, **__: None):
        shown |= updates
        if state.training_run is not None and state.training_run.losses:
            tab.stop.end(state)
    return shown


def test_an_unexpected_failure_is_one_sentence(
    tab: AdaptTab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(training_run, "adapt", fail)
    state = AdaptState(pictures=example_pictures()[:4])
    bundles = SessionBundles()
    *_, last = tab.run(state, bundles, "tiny/sam-decoder", "1 minute")
    assert "Training failed with an unexpected error" in last[tab.status]
    assert state.training_run is None and not bundles.kept


# ---- where a GPU is lent call by call ----


@needs_tiny
def test_a_fork_learns_the_same(lent: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Three steps, for the clock decides about the rate of later ones."""

    def three_steps(*arguments: object) -> AdaptationResult:
        *others, watch, turn = arguments
        return adapt(*others, lambda step, figures: watch(step, figures) or step == 3, turn)

    monkeypatch.setattr(training_run, "adapt", three_steps)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # As in the fork: sums may differ in their last bit otherwise.
    shown, weights = [], []
    for far in (True, False):
        monkeypatch.setattr(zero_gpu, "ON_ZERO_GPU", far)
        store, bundles = ModelStore(), SessionBundles()
        with gr.Blocks():
            tab = AdaptTab(store, gr.State(bundles))
        state = AdaptState(pictures=example_pictures()[:4])
        *_, last = tab.run(state, bundles, "tiny/clip-guided-sam", "1 minute")
        shown.append([last[part] for part in (tab.status, tab.results, tab.curve)])
        weights.append(load_bundle(bundles.kept[0].folder)[1])
        assert bool(store._backbones) != far  # There, nothing is loaded in this process.
        with ZipFile(bundles.kept[0].archive) as archive:
            assert any(name.endswith("model.safetensors") for name in archive.namelist())
        # What a fork wrote is what this process runs.
        own = store.predictor("tiny", "clip-guided-sam", bundles.kept[0].folder)
        scene, prompt = EncodedImage(state.pictures[0].image), prompt_from_classes([["sticker"]])
        weights[-1]["logits"] = torch.from_numpy(own.predict(scene, prompt).logits())
        bundles.close()
    torch.set_num_threads(threads)
    assert shown[0] == shown[1] and "step 3 ·" in shown[0][2]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert len(lent) == 1 and 60 < lent[0] <= zero_gpu.MAX_SECONDS


@needs_tiny
def test_stop_is_seen_in_a_fork(
    tab: AdaptTab, lent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_run, "POLL", 0.05)
    state, bundles = AdaptState(pictures=example_pictures()[:4]), SessionBundles()
    last = stopped_at_once(tab, state, bundles)
    assert "Saved for this session" in last[tab.status]
    config, _ = load_bundle(bundles.kept[0].folder)
    assert f"step {config['training']['steps']} ·" in last[tab.curve]
    bundles.close()


@needs_tiny
def test_a_page_that_is_closed_ends_its_fork(
    tab: AdaptTab, lent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_run, "POLL", 0.05)
    state, bundles = AdaptState(pictures=example_pictures()[:4]), SessionBundles()
    run = tab.run(state, bundles, "tiny/sam-decoder", "10 minutes", lambda *_, **__: None)
    next(run)
    while not state.training_run.losses:
        next(run)
    before = multiprocessing.active_children()
    run.close()
    assert len(before) == 1 and not multiprocessing.active_children()
    assert not bundles.kept and not bundles.new_folder("sam-decoder-tiny-adapted-1").exists()
    bundles.close()


@needs_tiny
def test_a_gpu_that_is_not_lent_is_one_sentence(
    tab: AdaptTab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> Iterator:
        raise gr.Error("95s requested vs. 7s left", title="ZeroGPU quota exceeded")
        yield

    monkeypatch.setattr(zero_gpu, "ON_ZERO_GPU", True)
    monkeypatch.setattr(zero_gpu, "_lent", refused)
    state, bundles = AdaptState(pictures=example_pictures()[:4]), SessionBundles()
    *_, last = tab.run(state, bundles, "tiny/sam-decoder", "1 minute")
    assert "ZeroGPU quota exceeded: 95s requested vs. 7s left" in last[tab.status]
    assert last[tab.start].interactive and state.training_run is None and not bundles.kept


def test_only_times_for_which_a_gpu_is_lent(monkeypatch: pytest.MonkeyPatch) -> None:
    for far, offered in ((False, list(module.BUDGETS)), (True, ["1 minute"])):
        monkeypatch.setattr(zero_gpu, "ON_ZERO_GPU", far)
        with gr.Blocks():
            tab = AdaptTab(ModelStore(), gr.State(SessionBundles()))
        assert [name for name, _ in tab.budget.choices] == offered


# ---- in the browser ----


@pytest.fixture(scope="module")
def adapt_address() -> Iterator[str]:
    """Where a page with this tab alone is served; its shortest time is two seconds."""
    if not has_weights(TINY):
        pytest.skip("the bundled tiny weights are not here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BUDGETS", {"2 seconds": 2.0, "10 minutes": 600.0})
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with gr.Blocks(analytics_enabled=False, fill_width=True) as page, gr.Tab("Adapt"):
            AdaptTab(ModelStore(), gr.State(SessionBundles()))
        where = {"server_name": "127.0.0.1", "server_port": port}
        launch(page, **where, prevent_thread_lock=True, quiet=True)
        yield f"http://127.0.0.1:{port}"
        page.close()


@pytest.fixture
def window(chromium: object, adapt_address: str) -> Iterator[object]:
    """The page in a window of its own; afterwards it must have behaved."""
    context = chromium.new_context(viewport={"width": 1400, "height": 1100})
    context.set_default_timeout(PATIENCE * 1000)
    window = context.new_page()
    console: list[str] = []
    window.on("pageerror", lambda error: console.append(str(error)))
    window.on("console", lambda line: line.type == "error" and console.append(line.text))
    window.goto(adapt_address)
    window.wait_for_selector("#adapt-listing p")
    yield window
    assert console == []
    assert "Traceback" not in window.locator("body").inner_text()
    context.close()


def load_example(window: object) -> None:
    window.click("#adapt-example")
    window.wait_for_selector("#adapt-listing figure:nth-child(8)")


def choose(window: object, label: str) -> None:
    window.locator("#adapt-budget").get_by_label(label).check()


@pytest.mark.browser
def test_the_example_is_learnt_and_downloaded(window: object, tmp_path: Path) -> None:
    load_example(window)
    assert window.locator("#adapt-listing .out").count() == 2
    window.click("#adapt-start")
    window.wait_for_selector("#adapt-curve figcaption:has-text('Loss: step')")
    window.wait_for_selector("#adapt-results .verdict:has-text('mean IoU')")
    assert window.locator("#adapt-results .compared").count() == 2
    assert window.locator("#adapt-results .compared figure").count() == 6
    cells = window.locator("#adapt-results tr.mean td.number").all_inner_texts()
    assert len(cells) == 3 and all(re.fullmatch(r"[+-]?[0-9.]+", cell) for cell in cells)
    with window.expect_download() as coming:
        window.click("#adapt-download")
    assert coming.value.suggested_filename == "clip-guided-sam-tiny-adapted-1.zip"
    coming.value.save_as(tmp_path / "bundle.zip")
    with ZipFile(tmp_path / "bundle.zip") as archive:
        archive.extractall(tmp_path)
    bundle = tmp_path / "clip-guided-sam-tiny-adapted-1"
    assert (bundle / "README.md").is_file()
    method, backbones = find_method("clip-guided-sam"), load_backbones(TINY)
    scene, prompt = EncodedImage(example_pictures()[7].image), prompt_from_classes([["sticker"]])
    logits = [method.load(backbones, folder).predict(scene, prompt) for folder in (bundle, None)]
    assert not np.array_equal(logits[0].logits(), logits[1].logits())


@pytest.mark.browser
def test_stop_keeps_what_has_been_learnt(window: object) -> None:
    load_example(window)
    choose(window, "10 minutes")
    assert window.locator("#adapt-stop").is_disabled()
    window.click("#adapt-start")
    window.wait_for_selector("#adapt-curve figcaption:has-text(' s left')")
    window.click("#adapt-stop")
    window.wait_for_selector("#adapt-results .verdict")
    window.wait_for_selector("#adapt-status :text('Saved for this session')")
    window.wait_for_selector("#adapt-start:enabled")


def files_of(pictures: tuple[LabelledImage, ...], folder: Path) -> list[Path]:
    paths = []
    for picture in pictures:
        for name, values in (
            (f"{picture.key}.png", picture.image),
            (f"{picture.key}_mask.png", (picture.classes == 0).astype(np.uint8) * 255),
        ):
            Image.fromarray(values).save(folder / name)
            paths.append(folder / name)
    return paths


@pytest.mark.browser
def test_files_come_and_go(window: object, tmp_path: Path) -> None:
    paths = files_of(example_pictures()[:5], tmp_path)
    window.click("#adapt-add")
    window.wait_for_selector("#adapt-message :text('Choose files first')")
    window.set_input_files("#adapt-files input[type=file]", paths)
    window.wait_for_selector("#adapt-files .file-preview")
    window.click("#adapt-add")
    window.wait_for_selector("#adapt-message :text('Every class needs a name')")
    window.locator("#adapt-names textarea, #adapt-names input").fill("label")
    window.click("#adapt-add")
    window.wait_for_selector("#adapt-listing figure:nth-child(5)")
    window.wait_for_selector("#adapt-message p", state="detached")
    assert window.locator("#adapt-listing .out").count() == 1
    window.get_by_role("button", name="Remove sticker 2").click()
    window.wait_for_selector("#adapt-listing figure:nth-child(5)", state="detached")
    keys = window.locator("#adapt-listing figcaption").all_inner_texts()
    assert [key.splitlines()[0] for key in keys] == [f"sticker {n}" for n in (1, 3, 4, 5)]
    window.get_by_role("button", name="Remove sticker 5").click()
    window.wait_for_selector("#adapt-listing :text('Add at least 1')")
    window.click("#adapt-start")
    window.wait_for_selector("#adapt-status [role=alert]:has-text('4 to 32 are needed')")


@pytest.mark.browser
def test_two_windows_hold_their_own_pictures(
    window: object, chromium: object, adapt_address: str
) -> None:
    load_example(window)
    other = chromium.new_context()
    second = other.new_page()
    second.goto(adapt_address)
    second.wait_for_selector("#adapt-listing p")
    second.click("#adapt-start")
    second.wait_for_selector("#adapt-status :text('There is no labelled image yet')")
    assert second.locator("#adapt-listing figure").count() == 0
    other.close()


@pytest.mark.browser
def test_what_is_trained_is_said(window: object) -> None:
    window.wait_for_selector("#adapt-trained :text('image encoder (0.89 M)')")
    window.click("#adapt-method input")
    window.get_by_role("option", name="SAM-PTx (tiny)").click()
    window.wait_for_selector("#adapt-trained :text('Trained parameters: 4.36 M')")


@pytest.mark.browser
def test_nothing_is_wider_than_a_phone(window: object) -> None:
    window.set_viewport_size({"width": 390, "height": 844})
    load_example(window)
    window.click("#adapt-start")
    window.wait_for_selector("#adapt-results table")
    assert window.evaluate("document.documentElement.scrollWidth") <= 390
