"""The page as a user meets it, in a real Chromium."""

from __future__ import annotations

import base64
import io
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipsam.data.scenes import SceneData
from clipsam.methods.clip_guided_sam import ClipGuidedSamPredictor
from clipsam.registry import find_method
from clipsam.types import Concept, Prediction
from clipsam.weights.availability import method_status
from clipsam.weights.presets import TINY
from clipsam.workbench import page as page_module
from clipsam.workbench.adapt import tab as adapt_tab
from clipsam.workbench.compare.scoring import MEAN
from clipsam.workbench.models import ModelStore
from tests.workbench.driving import (
    ESC_NET,
    GUIDED,
    PATIENCE,
    SAM,
    SURGERY,
    Workbench,
    wait_for,
)

pytestmark = pytest.mark.browser


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


# ---- running ----


def test_an_example_runs_in_two_clicks(bench: Workbench, predictions: list[Prediction]) -> None:
    bench.example("Shapes")
    bench.run()
    assert [made.method for made in predictions] == ["clip-guided-sam", "clip-surgery-sam"]
    for title, made in zip((GUIDED, SURGERY), predictions, strict=True):
        card = bench.card(title)
        for index, result in enumerate(made.results):
            bench.expect_mask(title, index, made.class_mask(index))
            scale = card.locator(".scale").nth(index)
            assert scale.locator("span").first.inner_text() == f"{result.similarity.min():.3f}"
            assert scale.locator("span").last.inner_text() == f"{result.similarity.max():.3f}"
        bench.expect_maps(title, 3)
        first = card.locator("img.map").first
        assert first.is_visible()
        wait_for(bench, lambda first=first: first.evaluate("image => image.naturalWidth") == 320)


def test_the_threshold_redraws_without_a_model(
    bench: Workbench, predictions: list[Prediction]
) -> None:
    bench.example("Shapes")
    bench.run()
    assert len(predictions) == 2
    made = predictions[0]
    for threshold in (middle(made), 10, -10):
        bench.set_slider("threshold", threshold)
        bench.expect_mask(GUIDED, 0, made.class_mask(0, threshold))
    assert len(predictions) == 2


def test_opacity_redraws_without_a_model(bench: Workbench, predictions: list[Prediction]) -> None:
    bench.example("Shapes")
    bench.run()
    bench.set_slider("threshold", middle(predictions[0]))
    bench.expect_mask(GUIDED, 0, predictions[0].class_mask(0, middle(predictions[0])))
    fill = bench.card(GUIDED).locator(".fill").first
    before = fill.screenshot()
    bench.set_slider("opacity", 1)
    bench.tab.wait_for_function(
        "getComputedStyle(document.querySelector('.card .fill')).opacity == '1'"
    )
    assert fill.screenshot() != before
    assert len(predictions) == 2


def test_a_click_changes_the_mask(
    bench: Workbench, predictions: list[Prediction], scene: tuple[Path, np.ndarray]
) -> None:
    bench.upload_picture(scene[0], (256, 256))
    bench.type_classes("green square")
    bench.choose_methods(SAM)
    bench.click(0.2, 0.5)
    bench.run()
    first = predictions[-1]
    threshold = middle(first)
    bench.set_slider("threshold", threshold)
    bench.expect_mask(SAM, 0, first.class_mask(0, threshold))
    before = bench.card(SAM).locator(".overlay").first.screenshot()
    bench.tab.get_by_role("radio", name="− point").click()
    bench.click(0.8, 0.25)
    wait_for(bench, lambda: len(predictions) == 2)
    second = predictions[-1]
    concept = second.prompt.concepts[0]
    assert concept.labels.tolist() == [1, 0]
    assert np.allclose(concept.points, [[51.2, 128], [204.8, 64]], atol=0.5)
    assert not np.array_equal(first.class_mask(0, threshold), second.class_mask(0, threshold))
    bench.expect_mask(SAM, 0, second.class_mask(0, threshold))
    assert bench.card(SAM).locator(".overlay").first.screenshot() != before


def test_a_click_asks_for_its_class_alone(
    bench: Workbench, predictions: list[Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    guided = HeldUp(monkeypatch, at=0)
    bench.example("Shapes")
    bench.run()
    first, asked = predictions[0], list(guided.asked)
    bench.click(0.2, 0.5)
    wait_for(bench, lambda: len(predictions) == 4)
    second = predictions[2]
    assert asked == list(first.texts) and guided.asked == [*asked, first.texts[0]]
    assert len(second.prompt.concepts[0].points) == 1
    assert second.results[1:] == first.results[1:]
    bench.expect_mask(GUIDED, 1, first.class_mask(1))
    bench.run()
    assert guided.asked[len(asked) + 1 :] == asked


def test_a_box_and_undo_and_clear(
    bench: Workbench, predictions: list[Prediction], scene: tuple[Path, np.ndarray]
) -> None:
    bench.upload_picture(scene[0], (256, 256))
    bench.type_classes("green square, checked triangle")
    bench.choose_methods(SAM)
    bench.tab.get_by_role("radio", name="box").click()
    bench.drag(0.5, 0.75, 0.25, 0.5)
    bench.tab.get_by_role("radio", name="checked triangle").click()
    bench.tab.get_by_role("radio", name="+ point").click()
    bench.click(0.5, 0.5)
    bench.click(0.9, 0.9)
    bench.tab.get_by_role("button", name="Undo").click()
    bench.run()
    square, triangle = predictions[-1].prompt.concepts
    assert np.allclose(square.box, [64, 128, 128, 192], atol=0.5)
    assert len(square.points) == 0
    assert triangle.box is None
    assert np.allclose(triangle.points, [[128, 128]], atol=0.5)
    bench.tab.get_by_role("button", name="Clear").click()
    bench.expect_text(".card h3 + .problem", "needs a foreground point or a box")


def test_a_method_without_its_point_explains_itself_and_the_others_run(
    bench: Workbench, predictions: list[Prediction]
) -> None:
    bench.example("Shapes")
    bench.choose_methods(SAM, SURGERY)
    bench.run()
    assert [made.method for made in predictions] == ["clip-surgery-sam"]
    problem = bench.card(SAM).locator(".problem").inner_text()
    assert problem.startswith("SAM (manual) needs a foreground point or a box for “red heart”")
    bench.expect_maps(SURGERY, 3)


def test_an_unexpected_failure_hides_no_other_result(
    bench: Workbench, predictions: list[Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    from baselines.clip_surgery_sam import ClipSurgerySamPredictor

    def broken(*_: object) -> None:
        raise RuntimeError("deliberately broken")

    monkeypatch.setattr(ClipSurgerySamPredictor, "_predict_concept", broken)
    bench.example("Shapes")
    bench.run()
    assert "failed unexpectedly" in bench.card(SURGERY).locator(".problem").inner_text()
    bench.expect_maps(GUIDED, 3)


def test_a_class_can_be_switched_off(bench: Workbench, predictions: list[Prediction]) -> None:
    bench.example("Shapes")
    bench.run()
    threshold = middle(predictions[0])
    bench.set_slider("threshold", threshold)
    bench.expect_mask(GUIDED, 0, predictions[0].class_mask(0, threshold))
    card = bench.card(GUIDED)
    assert card.locator(".fill.layer-0").is_visible()
    card.locator(".toggle-0").uncheck()
    card.locator(".fill.layer-0").wait_for(state="hidden")


def test_changed_classes_mark_the_results_as_old(bench: Workbench) -> None:
    bench.example("Shapes")
    bench.run()
    bench.type_classes("red heart")
    bench.expect_text("#stale", "Press Run")
    bench.type_classes("red heart, red cross, checked star")
    bench.tab.wait_for_function("document.querySelector('#stale').innerText.trim() === ''")


def test_a_new_picture_clears_marks_and_results(
    bench: Workbench, predictions: list[Prediction], scene: tuple[Path, np.ndarray]
) -> None:
    bench.example("Shapes")
    bench.click(0.5, 0.5)
    bench.run()
    assert len(predictions[-1].prompt.concepts[0].points) == 1
    bench.upload_picture(scene[0], (256, 256))
    bench.tab.wait_for_selector(".card", state="hidden")
    bench.run()
    assert len(predictions[-1].prompt.concepts[0].points) == 0


def test_a_new_picture_ends_the_run_of_the_old(
    bench: Workbench, predictions: list[Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    guided = HeldUp(monkeypatch)
    bench.example("Shapes")
    bench.tab.click("#run")
    bench.tab.wait_for_selector(".card:visible")
    guided.wait()
    bench.example("Lion")
    bench.tab.wait_for_selector(".card", state="hidden")
    guided.go_on()
    bench.run()
    assert [made.texts[0] for made in predictions] == ["lion", "lion"]
    bench.expect_mask(GUIDED, 0, predictions[0].class_mask(0))


def test_stop_ends_a_run_after_the_class_at_hand(
    bench: Workbench, predictions: list[Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    guided = HeldUp(monkeypatch, at=2)
    bench.example("Shapes")
    bench.tab.click("#run")
    guided.wait()
    bench.tab.click("#stop")
    bench.expect_text("#stop", "Stopping")
    guided.go_on()
    bench.expect_text("#status", "Stopped: 0 of 2 done")
    assert guided.asked == ["red heart", "red cross"] and predictions == []
    bench.card(SURGERY).locator(".problem", has_text="Stopped before it could answer").wait_for()
    bench.run()
    bench.expect_mask(GUIDED, 0, predictions[0].class_mask(0))
    assert len(predictions) == 2


def test_run_right_after_stop_does_not_revive_what_was_stopped(
    bench: Workbench, predictions: list[Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    guided = HeldUp(monkeypatch, at=2)
    bench.example("Shapes")
    bench.tab.click("#run")
    guided.wait()
    bench.tab.click("#stop")
    bench.expect_text("#stop", "Stopping")
    bench.tab.click("#run")
    bench.tab.wait_for_selector("#stop:enabled")
    guided.go_on()
    bench.expect_text("#status", "2 of 2 done")
    assert guided.asked[2:] == list(predictions[0].texts) and len(predictions) == 2


def test_stop_is_offered_to_the_second_of_two_runs(
    bench: Workbench, predictions: list[Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = HeldUp(monkeypatch)
    bench.example("Shapes")
    bench.tab.click("#run")
    first.wait()
    bench.tab.click("#run")
    second = HeldUp(monkeypatch)
    first.go_on()
    second.wait()
    bench.tab.wait_for_timeout(500)  # What ends the first may do its harm.
    bench.tab.click("#stop")
    bench.expect_text("#stop", "Stopping")
    second.go_on()
    bench.expect_text("#status", "Stopped: 0 of 2 done")


def test_stop_ends_what_still_waits_for_others(
    bench: Workbench,
    chromium: object,
    address: str,
    predictions: list[Prediction],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One runs at a time; the other is told its place, and may leave."""
    guided = HeldUp(monkeypatch)
    bench.example("Shapes")
    bench.tab.click("#run")
    guided.wait()
    other = chromium.new_context()
    second = Workbench(other.new_page(), address)
    second.example("Lion")
    second.tab.click("#run")
    second.expect_text("#status", "queue: 1/1")
    second.tab.click("#stop")
    guided.go_on()
    bench.expect_text("#status", "2 of 2 done")
    second.expect_text("#status", "Stopped before it began")
    assert [made.texts[0] for made in predictions] == ["red heart", "red heart"]
    other.close()


def test_two_windows_do_not_share_a_picture(
    bench: Workbench, chromium: object, address: str, predictions: list[Prediction]
) -> None:
    bench.example("Shapes")
    other = chromium.new_context()
    second = Workbench(other.new_page(), address)
    second.example("Lion")
    second.choose_methods(SURGERY)
    second.run()
    bench.choose_methods(SURGERY)
    bench.run()
    assert [made.texts for made in predictions] == [
        ("lion",),
        ("red heart", "red cross", "checked star"),
    ]
    other.close()


# ---- what cannot work says why ----


def test_run_without_a_picture(bench: Workbench) -> None:
    bench.tab.click("#run")
    bench.expect_text("#message", "There is no picture yet")


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [("", "Type at least one class name"), ("Dog, cat, dog", "is named twice")],
)
def test_classes_that_cannot_be_used(bench: Workbench, classes: str, sentence: str) -> None:
    bench.example("Lion")
    bench.tab.locator("#classes textarea, #classes input").fill(classes)
    bench.tab.click("#run")
    bench.expect_text("#message", sentence)


def test_no_method(bench: Workbench) -> None:
    bench.example("Lion")
    bench.choose_methods()
    bench.tab.click("#run")
    bench.expect_text("#message", "Tick at least one method")


def test_methods_by_class_names_are_ticked_and_cleared_at_once(bench: Workbench) -> None:
    every = bench.tab.locator("#by-text").get_by_title("Select/Deselect All")
    boxes = bench.tab.locator("#by-text .wrap input")
    ticked = bench.tab.locator("#methods .wrap input:checked")
    every.check()
    wait_for(bench, lambda: ticked.count() == boxes.count() > 2)
    every.uncheck()
    wait_for(bench, lambda: ticked.count() == 0)


def test_nothing_is_wider_than_a_phone(bench: Workbench) -> None:
    bench.tab.set_viewport_size({"width": 390, "height": 844})
    bench.example("Shapes")
    for box in bench.tab.locator("#methods .wrap input").all():
        box.check()
    bench.tab.click("#methods-note summary")
    bench.tab.get_by_role("button", name="Ground truth").click()
    bench.run()
    assert bench.scores()
    assert bench.tab.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_class_that_is_absent_runs(bench: Workbench, predictions: list[Prediction]) -> None:
    bench.example("One is absent")
    bench.run()
    for index in range(3):
        bench.expect_mask(GUIDED, index, predictions[0].class_mask(index))


def test_presets_without_weights_explain_what_is_missing(bench: Workbench) -> None:
    bench.tab.click("#preset input")
    bench.tab.get_by_role("option", name="base: SAM ViT-B with CLIP ViT-B/16").click()
    bench.expect_text("#methods-note", "not available with base")
    text = bench.tab.locator("#methods-note").inner_text()
    assert "CLIP-Guided SAM (semi-automatic, manual)" in text
    assert "Not available" in text


# ---- pictures of all kinds ----


def grey(tmp_path: Path) -> Path:
    Image.fromarray(np.arange(48 * 64, dtype=np.uint8).reshape(48, 64)).save(tmp_path / "grey.png")
    return tmp_path / "grey.png"


def deep(tmp_path: Path) -> Path:
    values = np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    return tmp_path / "deep.png"


def in_mode(mode: str, name: str, tmp_path: Path) -> Path:
    rng = np.random.default_rng(5)
    picture = Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8))
    picture.convert(mode).save(tmp_path / name)
    return tmp_path / name


def rotated(tmp_path: Path) -> Path:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (48, 64), "teal").save(tmp_path / "rotated.jpg", exif=exif)
    return tmp_path / "rotated.jpg"


def animated(tmp_path: Path) -> Path:
    frames = [Image.new("P", (64, 48), colour) for colour in (1, 2, 3)]
    frames[0].save(tmp_path / "animated.gif", save_all=True, append_images=frames[1:])
    return tmp_path / "animated.gif"


def one_pixel(tmp_path: Path) -> Path:
    Image.new("RGB", (1, 1), "red").save(tmp_path / "one.png")
    return tmp_path / "one.png"


PICTURES = {
    "grey": (grey, (64, 48)),
    "16-bit": (deep, (64, 48)),
    "RGBA": (lambda folder: in_mode("RGBA", "rgba.png", folder), (64, 48)),
    "palette": (lambda folder: in_mode("P", "palette.png", folder), (64, 48)),
    "CMYK": (lambda folder: in_mode("CMYK", "cmyk.jpg", folder), (64, 48)),
    "TIFF": (lambda folder: in_mode("RGB", "picture.tiff", folder), (64, 48)),
    "EXIF-rotated": (rotated, (64, 48)),
    "animated": (animated, (64, 48)),
    "1×1": (one_pixel, (1, 1)),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_every_kind_of_picture_runs(
    bench: Workbench, predictions: list[Prediction], tmp_path: Path, kind: str
) -> None:
    make, (width, height) = PICTURES[kind]
    bench.upload_picture(make(tmp_path), (width, height))
    bench.type_classes("thing")
    bench.run()
    assert len(predictions) == 2
    for title, made in zip((GUIDED, SURGERY), predictions, strict=True):
        assert made.transform.image_size == (height, width)
        bench.expect_mask(title, 0, made.class_mask(0))


def test_48_megapixels(bench: Workbench, predictions: list[Prediction], tmp_path: Path) -> None:
    Image.new("RGB", (8000, 6000), "olive").save(tmp_path / "large.png", compress_level=1)
    bench.upload_picture(tmp_path / "large.png", (8000, 6000))
    bench.type_classes("thing")
    bench.choose_methods(SAM)
    bench.click(0.75, 0.5)
    bench.run()
    assert np.allclose(predictions[0].prompt.concepts[0].points, [[6000, 3000]], atol=12)
    bench.expect_mask(SAM, 0, predictions[0].class_mask(0, size=(768, 1024)))


def truncated(tmp_path: Path) -> Path:
    whole = in_mode("RGB", "whole.png", tmp_path).read_bytes()
    (tmp_path / "truncated.png").write_bytes(whole[: len(whole) // 2])
    return tmp_path / "truncated.png"


def text_file(tmp_path: Path) -> Path:
    (tmp_path / "notes.png").write_text("this is no picture")
    return tmp_path / "notes.png"


def empty_file(tmp_path: Path) -> Path:
    (tmp_path / "empty.jpg").write_bytes(b"")
    return tmp_path / "empty.jpg"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (truncated, "truncated.png is damaged or cut off"),
        (text_file, "notes.png is not a picture"),
        (empty_file, "empty.jpg is not a picture"),
    ],
)
def test_a_bad_file_gets_one_sentence_and_the_page_lives_on(
    bench: Workbench, tmp_path: Path, make: Callable[[Path], Path], sentence: str
) -> None:
    bench.upload(make(tmp_path))
    bench.expect_text("#message", sentence)
    assert bench.tab.locator("#message p").count() == 1
    bench.upload_picture(one_pixel(tmp_path), (1, 1))
    bench.tab.wait_for_selector("#message p", state="detached")


def test_a_pasted_and_a_dropped_picture(bench: Workbench, tmp_path: Path) -> None:
    for size, how in (((31, 17), "paste"), ((13, 29), "drop")):
        stream = io.BytesIO()
        Image.new("RGB", size, "navy").save(stream, "PNG")
        bench.tab.evaluate(
            """([data, how]) => {
              const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
              const files = new DataTransfer();
              files.items.add(new File([bytes], "picture.png", { type: "image/png" }));
              const event = how === "paste"
                ? new ClipboardEvent("paste", { clipboardData: files, bubbles: true })
                : new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true });
              document.querySelector("#annotator .stage").dispatchEvent(event);
            }""",
            [base64.b64encode(stream.getvalue()).decode(), how],
        )
        bench.expect_text("#annotator .size", f"{size[0]} × {size[1]} pixels")


# ---- ground truth ----


def by_hand(mask: np.ndarray, truth: np.ndarray) -> float:
    return (mask & truth).sum() / (mask | truth).sum()


def give_truth(bench: Workbench, path: Path) -> None:
    bench.tab.get_by_role("button", name="Ground truth").click()
    bench.tab.set_input_files("#truth-file input[type=file]", path)


def test_a_binary_truth_gives_the_iou_of_the_mask_shown(
    bench: Workbench,
    predictions: list[Prediction],
    scene: tuple[Path, np.ndarray],
    tmp_path: Path,
) -> None:
    picture, square = scene
    Image.fromarray(square).save(tmp_path / "truth.png")
    bench.upload_picture(picture, (256, 256))
    bench.type_classes("green square")
    bench.run()
    threshold = middle(predictions[0])
    bench.set_slider("threshold", threshold)
    give_truth(bench, tmp_path / "truth.png")
    for title, made in zip((GUIDED, SURGERY), predictions, strict=True):
        bench.expect_mask(title, 0, made.class_mask(0, threshold))
        expected = by_hand(made.class_mask(0, threshold), square)
        bench.expect_iou(title, "green square", expected)
        bench.expect_iou(title, MEAN, expected)
    bench.set_slider("threshold", -10)
    lowest = by_hand(predictions[0].class_mask(0, -10), square)
    bench.expect_iou(GUIDED, "green square", lowest)
    assert len(predictions) == 2


@pytest.mark.parametrize("kind", ["palette", "16-bit"])
def test_a_truth_of_ids_with_names(
    bench: Workbench, predictions: list[Prediction], tmp_path: Path, kind: str
) -> None:
    data = SceneData(12, seed=7)[9]
    square = data.classes == data.names.index("green square")
    triangle = data.classes == data.names.index("checked triangle")
    ids = np.zeros(square.shape, np.uint16 if kind == "16-bit" else np.uint8)
    ids[square], ids[triangle] = 2, 1
    picture = Image.fromarray(ids)
    if kind == "palette":
        picture.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0])
    picture.save(tmp_path / "ids.png")
    Image.fromarray(data.image).save(tmp_path / "scene.png")
    bench.upload_picture(tmp_path / "scene.png", (256, 256))
    bench.type_classes("Green square, checked triangle")
    bench.choose_methods(SURGERY)
    bench.set_slider("threshold", -10)
    bench.run()
    made = predictions[0]
    bench.tab.get_by_role("button", name="Ground truth").click()
    names = bench.tab.locator("#truth-names textarea, #truth-names input")
    names.fill("background, checked triangle, green square")
    bench.tab.set_input_files("#truth-file input[type=file]", tmp_path / "ids.png")
    expected = [
        by_hand(made.class_mask(index, -10), truth)
        for index, truth in enumerate((square, triangle))
    ]
    bench.expect_iou(SURGERY, "Green square", expected[0])
    bench.expect_iou(SURGERY, "checked triangle", expected[1])
    bench.expect_iou(SURGERY, MEAN, np.mean(expected))


def test_a_binary_truth_shows_the_chosen_class(
    bench: Workbench, scene: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    Image.fromarray(scene[1]).save(tmp_path / "truth.png")
    bench.upload_picture(scene[0], (256, 256))
    bench.type_classes("green square, checked triangle")
    bench.choose_methods(SURGERY)
    bench.run()
    give_truth(bench, tmp_path / "truth.png")
    assert (SURGERY, "green square") in bench.scores()
    bench.tab.get_by_role("radio", name="checked triangle").click()
    wait_for(bench, lambda: (SURGERY, "checked triangle") in bench.scores())
    assert (SURGERY, "green square") not in bench.scores()


def test_a_truth_of_another_size_gets_one_sentence(
    bench: Workbench, scene: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    Image.new("L", (7, 5)).save(tmp_path / "small.png")
    bench.upload_picture(scene[0], (256, 256))
    bench.type_classes("green square")
    bench.choose_methods(SURGERY)
    bench.run()
    give_truth(bench, tmp_path / "small.png")
    bench.expect_text("#truth-message", "The ground truth is 7 × 5 pixels")


def test_a_truth_that_is_no_picture_gets_one_sentence(bench: Workbench, tmp_path: Path) -> None:
    bench.example("Shapes")
    give_truth(bench, text_file(tmp_path))
    bench.expect_text("#truth-message", "notes.png is not a picture")


# ---- answers that come late ----


def hold_first(bench: Workbench, function: str) -> tuple[list[object], Callable[[], None]]:
    """Hold the next answer of one of the page's functions.

    Returns:
        The answer once it is held, and what lets it go.
    """
    ids = bench.tab.evaluate(
        "name => window.gradio_config.dependencies"
        ".filter(one => one.api_name.replace(/_[0-9]+$/, '') === name).map(one => one.id)",
        function,
    )
    held: list[object] = []

    def hold(route: object) -> None:
        if held or route.request.post_data_json["fn_index"] not in ids:
            route.continue_()
        else:
            held.append((route, route.fetch()))

    def let_go() -> None:
        bench.tab.wait_for_timeout(500)  # Others may overtake it.
        route, answer = held[0]
        route.fulfill(response=answer)
        bench.tab.wait_for_timeout(500)  # It may do its harm.

    bench.tab.route("**/run/predict*", hold)
    return held, let_go


def test_a_late_score_from_before_the_truth_does_not_hide_the_table(
    bench: Workbench, scene: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    Image.fromarray(scene[1]).save(tmp_path / "truth.png")
    bench.upload_picture(scene[0], (256, 256))
    bench.type_classes("green square")
    bench.choose_methods(SURGERY)
    held, let_go = hold_first(bench, "score")
    bench.run()
    wait_for(bench, lambda: held)
    give_truth(bench, tmp_path / "truth.png")
    bench.tab.wait_for_selector("#truth-file .file-preview")
    let_go()
    assert (SURGERY, "green square") in bench.scores()


def test_a_late_drawing_does_not_undo_a_threshold(
    bench: Workbench, predictions: list[Prediction]
) -> None:
    bench.example("Shapes")
    bench.choose_methods(SURGERY)
    held, let_go = hold_first(bench, "redraw")
    bench.run()
    wait_for(bench, lambda: held)
    bench.set_slider("threshold", -10)
    let_go()
    bench.expect_mask(SURGERY, 0, predictions[0].class_mask(0, -10))


def test_a_late_note_does_not_call_new_results_old(bench: Workbench) -> None:
    bench.example("Shapes")
    bench.choose_methods(SURGERY)
    bench.run()
    held, let_go = hold_first(bench, "freshness")
    bench.type_classes("red heart")
    wait_for(bench, lambda: held)
    bench.run()
    let_go()
    bench.tab.wait_for_selector("#stale p", state="detached")


def test_a_late_score_of_the_old_picture_is_not_shown_with_the_new(bench: Workbench) -> None:
    bench.example("Shapes")
    bench.choose_methods(SURGERY)
    bench.run()
    bench.tab.get_by_role("button", name="Ground truth").click()
    assert bench.scores()
    held, let_go = hold_first(bench, "score")
    bench.set_slider("threshold", -1)
    wait_for(bench, lambda: held)
    bench.example("Lion")
    let_go()
    bench.tab.wait_for_selector("#scores td", state="detached")


# ---- methods whose classes compete ----


@pytest.fixture
def esc_net() -> None:
    if method_status(find_method("esc-net"), TINY) != "ready":
        pytest.skip("the bundled ESC-Net is not here")


def test_competing_classes_share_a_label_map_beside_another_method(
    bench: Workbench, predictions: list[Prediction], esc_net: None
) -> None:
    bench.example("Shapes")
    bench.choose_methods(SURGERY, ESC_NET)
    bench.run()
    made = {one.method: one for one in predictions}
    assert set(made) == {"clip-surgery-sam", "esc-net"}
    bench.expect_mask(SURGERY, 0, made["clip-surgery-sam"].class_mask(0))
    found = made["esc-net"]
    for threshold in (0, middle(found)):
        bench.set_slider("threshold", threshold)
        labels = found.label_map(threshold)
        bench.expect_labels(ESC_NET, labels)
        for index in range(3):
            bench.expect_mask(ESC_NET, index, found.class_mask(index, threshold))
    card = bench.card(ESC_NET)
    legend = card.locator(".best li").all_inner_texts()
    assert len(legend) == 3 + (labels < 0).any()
    for text, line in zip(found.texts, legend, strict=False):
        assert line.startswith(text)
    most = np.bincount(labels[labels >= 0]).argmax()
    assert f"area {100 * (labels == most).mean():.1f} %" in legend[most]
    # The other view, which a redraw leaves chosen.
    assert not card.locator(".each .legend").is_visible()
    card.get_by_text("mask of each class").click()
    card.locator(".each .legend").wait_for(state="visible")
    bench.set_slider("threshold", -10)
    bench.expect_mask(ESC_NET, 0, found.class_mask(0, -10))
    assert card.locator(".each .legend").is_visible()
    assert not card.locator(".best .legend").is_visible()
    assert len(predictions) == 2


def test_the_maps_of_every_block_open_by_keyboard(
    bench: Workbench, predictions: list[Prediction], esc_net: None
) -> None:
    bench.example("Shapes")
    bench.choose_methods(ESC_NET)
    bench.run()
    rounds = predictions[0].results[1].rounds
    blocks = bench.card(ESC_NET).locator("details.rounds").nth(1)
    pictures = blocks.locator("svg")
    wait_for(bench, lambda: pictures.count() == len(rounds))
    assert not pictures.first.is_visible()
    blocks.locator("summary").focus()
    bench.tab.keyboard.press("Enter")
    pictures.first.wait_for(state="visible")
    points = blocks.evaluate(
        "all => [...all.querySelectorAll('svg')].map(one => one.querySelectorAll('circle').length)"
    )
    assert points == [len(seen.points) for seen in rounds]
    ranges = blocks.locator(".scale").all_inner_texts()
    for text, seen in zip(ranges, rounds, strict=True):
        low, high = text.split()
        assert (low, high) == (f"{seen.similarity.min():.3f}", f"{seen.similarity.max():.3f}")
    # A slider changes none of it.
    bench.set_slider("threshold", -10)
    bench.expect_labels(ESC_NET, predictions[0].label_map(-10))
    assert pictures.first.is_visible()
    assert len(predictions) == 1


def test_an_earlier_run_comes_back_without_a_model(
    bench: Workbench, predictions: list[Prediction]
) -> None:
    """Picture, classes, marks, methods and masks are as they were; the next Run is a new one."""
    bench.example("Shapes")
    bench.choose_methods(SAM)
    bench.type_classes("heart, cross")
    bench.click(0.2, 0.3)
    bench.tab.locator("#annotator .chip", has_text="cross").click()
    bench.click(0.8, 0.3)
    bench.run()
    mask = predictions[-1].class_mask(1)
    bench.expect_mask(SAM, 1, mask)
    bench.example("Camouflage")
    bench.choose_methods(SURGERY)
    bench.run()
    asked = len(predictions)
    bench.tab.locator("#past button").nth(1).wait_for()
    bench.tab.locator("#past button", has_text="heart, cross").click()
    bench.expect_mask(SAM, 1, mask)
    assert bench.card(SURGERY).count() == 0
    assert len(predictions) == asked
    bench.expect_text("#annotator .chip", "heart")
    bench.run()
    np.testing.assert_array_equal(
        predictions[-1].prompt.concepts[1].points,
        predictions[0].prompt.concepts[1].points,
    )
    assert bench.tab.locator("#past button").count() == 2


def test_views_and_overlap_need_no_model(bench: Workbench, predictions: list[Prediction]) -> None:
    bench.example("Shapes")
    bench.choose_methods(SURGERY)
    bench.run()
    (prediction,) = predictions
    bench.tab.locator("#overlap label", has_text="The highest logit").click()
    bench.expect_mask(SURGERY, 1, prediction.masks(overlap="argmax")[1])
    for view, shows in (
        ("Errors", "rightly nothing"),
        ("Logits", "white is the threshold"),
        ("What SAM was told", "red cross"),
        ("Mask alone", "red cross"),
    ):
        if shows == "red cross":
            bench.tab.locator("#annotator .chip", has_text="red cross").click()
        bench.tab.locator("#view label", has_text=view).click()
        bench.card(SURGERY).locator(".overlay > img").first.wait_for()
        bench.tab.locator(".card:visible", has_text=shows).first.wait_for()
        bench.tab.wait_for_selector(f".overlay > img[alt^='{view} of']")
    bench.tab.locator("#view label", has_text="Masks over").click()
    bench.expect_mask(SURGERY, 1, prediction.masks(overlap="argmax")[1])
    assert len(predictions) == 1


def test_a_candidate_takes_the_place_of_the_answer(
    bench: Workbench, predictions: list[Prediction]
) -> None:
    bench.example("Shapes")
    bench.choose_methods(SURGERY)
    bench.run()
    card = bench.card(SURGERY)
    card.locator(".candidates summary", has_text="red heart").click()
    card.locator("button[data-index='0'][data-candidate='2']").click()
    bench.expect_mask(SURGERY, 0, predictions[0].candidate_masks(0)[2])
    bench.tab.wait_for_selector("text=predicted IoU >> text=taken", state="attached")
    assert len(predictions) == 1


def test_a_run_is_downloaded_whole(
    bench: Workbench, predictions: list[Prediction], tmp_path: Path
) -> None:
    bench.tab.click("#export")
    bench.expect_text("#message", "press Run")
    bench.example("Shapes")
    bench.choose_methods(SURGERY, GUIDED)
    bench.run()
    bench.tab.click("#export")
    with bench.tab.expect_download() as download:
        bench.tab.locator("#archive a").first.click()
    download.value.save_as(tmp_path / "run.zip")
    with zipfile.ZipFile(tmp_path / "run.zip") as archive:
        names = archive.namelist()
        assert {"figure.pdf", "scores.csv", "reproduce.txt", "results.json"} <= {*names}
        with archive.open("clip-surgery-sam/red heart.png") as file:
            mask = np.asarray(Image.open(file)) > 0
    surgery = next(one for one in predictions if one.method == "clip-surgery-sam")
    np.testing.assert_array_equal(mask, surgery.class_mask(0))


def test_all_methods_beside_each_other(bench: Workbench, predictions: list[Prediction]) -> None:
    bench.example("Shapes")
    bench.choose_methods(SURGERY, GUIDED)
    bench.run()
    bench.tab.locator("button", has_text="All methods: costs").click()
    masks = [one.class_mask(0, 0.0) for one in predictions]
    iou = (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
    bench.expect_text("#differences", f"{iou:.3f}")
    bench.expect_text("#costs", "Parameters")
    bench.tab.wait_for_function(
        "wanted => document.querySelectorAll('#two .left img, #two .right img').length === wanted",
        arg=2 * 2 * len(predictions[0].texts),
    )


def test_masks_of_a_card_become_labels_under_adapt(
    bench: Workbench, predictions: list[Prediction]
) -> None:
    bench.example("Shapes")
    bench.choose_methods(SURGERY)
    bench.run()
    send = bench.card(SURGERY).get_by_role("button", name="Use these masks as labels")
    send.click()
    bench.expect_text("#status", "1 labelled picture is under Adapt now")
    send.click()
    bench.expect_text("#message", "the same picture")
    bench.tab.get_by_role("tab", name="Adapt").click()
    bench.expect_text("#adapt-listing", "from Compare 1")
    assert len(predictions) == 1


def test_a_link_asks_the_same_again_elsewhere(
    bench: Workbench, chromium: object, predictions: list[Prediction]
) -> None:
    bench.example("Shapes")
    bench.choose_methods(SAM)
    bench.type_classes("heart, cross")
    bench.click(0.2, 0.3)
    bench.tab.locator("#annotator .chip", has_text="cross").click()
    bench.click(0.8, 0.3)
    bench.run()
    bench.set_slider("threshold", -1)
    bench.tab.click("#link")
    field = bench.tab.locator("#address textarea, #address input")
    wait_for(bench, lambda: field.count() and field.input_value().startswith("http"))
    other = chromium.new_context()
    second = Workbench(other.new_page(), field.input_value())
    second.expect_text("#status", "1 of 1 done")
    assert len(predictions) == 2
    for one, same in zip(*(made.prompt.concepts for made in predictions), strict=True):
        assert one.synonyms == same.synonyms
        np.testing.assert_array_equal(one.points, same.points)
    second.expect_mask(SAM, 1, predictions[0].class_mask(1, -1))
    assert second.console == []
    other.close()


def test_a_link_about_somebody_s_picture_waits_for_it(
    bench: Workbench,
    chromium: object,
    predictions: list[Prediction],
    scene: tuple[Path, np.ndarray],
) -> None:
    bench.upload_picture(scene[0], (256, 256))
    bench.type_classes("green square")
    bench.choose_methods(SAM)
    bench.click(0.3, 0.6)
    bench.tab.click("#link")
    field = bench.tab.locator("#address textarea, #address input")
    wait_for(bench, lambda: field.count() and field.input_value().startswith("http"))
    other = chromium.new_context()
    second = Workbench(other.new_page(), field.input_value())
    second.expect_text("#message", "256 × 256 pixels, which stayed with its owner")
    second.upload_picture(scene[0], (256, 256))
    second.run()
    (made,) = predictions
    assert np.allclose(made.prompt.concepts[0].points, [[0.3 * 256, 0.6 * 256]], atol=0.5)
    assert second.console == []
    other.close()


def test_points_and_a_box_by_keyboard(
    bench: Workbench, predictions: list[Prediction], scene: tuple[Path, np.ndarray]
) -> None:
    bench.upload_picture(scene[0], (256, 256))
    bench.type_classes("green square")
    bench.choose_methods(SAM)
    keys = bench.tab.keyboard
    bench.tab.locator("#annotator canvas").focus()
    for key in ("ArrowRight", "ArrowRight", "Shift+ArrowUp", "Enter"):
        keys.press(key)
    bench.tab.get_by_role("radio", name="box").focus()
    keys.press("Enter")
    bench.tab.locator("#annotator canvas").focus()
    for key in ("Enter", *["ArrowLeft"] * 4, *["ArrowDown"] * 3, "Enter"):
        keys.press(key)
    bench.tab.locator("#run").focus()
    keys.press("Enter")
    bench.expect_text("#status", "1 of 1 done")
    (concept,) = predictions[0].prompt.concepts
    step = 256 / 40
    assert np.allclose(concept.points, [[128 + 2 * step, 128 - 256 / 200]], atol=0.01)
    assert np.allclose(concept.box, [128 - 4 * step, 128, 128, 128 + 3 * step], atol=0.01)


def test_what_a_session_trains_is_compared_there_and_nowhere_else(
    bench: Workbench,
    chromium: object,
    address: str,
    predictions: list[Prediction],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two windows at once: pictures, runs, labels and weights of one never show in the other."""
    monkeypatch.setitem(adapt_tab.BUDGETS, "1 minute", 0.01)
    other = chromium.new_context()
    second = Workbench(other.new_page(), address)
    bench.example("Shapes")
    bench.choose_methods(GUIDED)
    bench.run()
    bench.card(GUIDED).get_by_role("button", name="Use these masks as labels").click()
    bench.expect_text("#status", "1 labelled picture is under Adapt now")
    bench.tab.get_by_role("tab", name="Adapt").click()
    bench.tab.click("#adapt-example")
    bench.tab.wait_for_selector("#adapt-listing figure:nth-child(8)")
    bench.tab.click("#adapt-start")
    bench.tab.wait_for_selector("#adapt-results .verdict")
    bench.tab.get_by_role("tab", name="Compare").click()
    own = "CLIP-Guided SAM, adapted 1 · semi-automatic"
    ticked = bench.tab.get_by_label(own, exact=True)
    wait_for(bench, lambda: ticked.count() == 1 and ticked.is_checked(), "it is ticked")
    bench.choose_methods(GUIDED, own)
    predictions.clear()
    bench.run()
    before, after = predictions
    assert not np.array_equal(before.logits(), after.logits())
    bench.expect_mask(own, 0, after.class_mask(0))

    assert second.tab.get_by_label(own, exact=True).count() == 0
    assert second.tab.locator("#past button").count() == 0
    assert second.tab.locator("#annotator .filled").count() == 0
    second.tab.click("#run")
    second.expect_text("#message", "There is no picture yet")
    second.tab.get_by_role("tab", name="Adapt").click()
    second.expect_text("#adapt-listing", "There is no labelled picture yet")
    second.tab.get_by_role("tab", name="Evaluate").click()
    assert second.tab.get_by_label("CLIP-Guided SAM, adapted 1", exact=False).count() == 0
    assert second.console == []
    other.close()


def test_who_comes_when_the_queue_is_full_is_told_so(
    chromium: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    if method_status(find_method("sam"), TINY) != "ready":
        pytest.skip("the bundled tiny weights are not here")
    models = ModelStore()
    for method in ("clip-guided-sam", "clip-surgery-sam"):  # or the page's warm-up is held up too
        models.warm_up(TINY.name, method)
    guided = HeldUp(monkeypatch)
    monkeypatch.setattr(page_module, "MOST_WAITING", 1)
    page = page_module.build_page(models)
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
        window.expect_text("#status", "2 of 2 done")
    windows[2].run()
    context.close()
    page.close()
