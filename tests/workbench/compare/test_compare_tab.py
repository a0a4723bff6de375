"""The Compare tab as a user meets it, in a real Chromium: running, stopping, coming back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clipsam.types import Prediction
from tests.workbench.driving import (
    CLICK,
    DEFAULT,
    ESC_NET,
    GUIDED,
    SAM,
    SURGERY,
    HeldUp,
    Workbench,
    middle,
    wait_for,
)

pytestmark = pytest.mark.browser


def test_an_example_runs_in_two_clicks(bench: Workbench, predictions: list[Prediction]) -> None:
    bench.example("Shapes")
    bench.run()
    assert [made.method for made in predictions] == [
        "clip-guided-sam",
        "esc-net",
        "clip-surgery-sam",
    ]
    bench.expect_labels(ESC_NET, predictions[1].label_map(0))
    for title, made in zip(DEFAULT, predictions, strict=True):
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
    assert len(predictions) == 3
    made = predictions[0]
    for threshold in (middle(made), 10, -10):
        bench.set_slider("threshold", threshold)
        bench.expect_mask(GUIDED, 0, made.class_mask(0, threshold))
    assert len(predictions) == 3


def test_opacity_redraws_without_a_model(bench: Workbench, predictions: list[Prediction]) -> None:
    bench.example("Shapes")
    bench.run()
    bench.set_slider("threshold", middle(predictions[0]))
    bench.expect_mask(GUIDED, 0, predictions[0].class_mask(0, middle(predictions[0])))
    fill = bench.card(GUIDED).locator(".fill").first
    before = fill.screenshot()
    bench.tab.click("#more-fold button")
    bench.set_slider("opacity", 1)
    bench.tab.keyboard.press("Escape")
    bench.tab.wait_for_function(
        "getComputedStyle(document.querySelector('.card .fill')).opacity == '1'"
    )
    assert fill.screenshot() != before
    assert len(predictions) == 3


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
    bench.tab.get_by_role("radio", name="Background point").click()
    bench.click(0.8, 0.25)
    wait_for(bench, lambda: len(predictions) == 2)
    second = predictions[-1]
    concept = second.prompt.concepts[0]
    assert concept.labels.tolist() == [1, 0]
    assert np.allclose(concept.points, [[51.2, 128], [204.8, 64]], atol=CLICK)
    assert not np.array_equal(first.class_mask(0, threshold), second.class_mask(0, threshold))
    bench.expect_mask(SAM, 0, second.class_mask(0, threshold))
    assert bench.card(SAM).locator(".overlay").first.screenshot() != before


def test_a_click_asks_for_its_class_alone(
    bench: Workbench, predictions: list[Prediction], monkeypatch: pytest.MonkeyPatch
) -> None:
    guided = HeldUp(monkeypatch, at=0)
    bench.example("Shapes")
    bench.choose_methods(GUIDED, SURGERY)
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


def test_a_mark_stays_with_its_class_under_another_of_its_names(
    bench: Workbench, predictions: list[Prediction], scene: tuple[Path, np.ndarray]
) -> None:
    bench.upload_picture(scene[0], (256, 256))
    bench.type_classes("green square")
    bench.choose_methods(SAM)
    bench.click(0.3, 0.6)

    def drawn() -> str:
        return bench.tab.evaluate("document.querySelector('#annotator canvas').toDataURL()")

    before = drawn()
    bench.type_classes("shape; Green  square")
    wait_for(bench, lambda: drawn() == before)
    bench.run()
    (concept,) = predictions[0].prompt.concepts
    assert concept.text == "shape"
    assert np.allclose(concept.points, [[0.3 * 256, 0.6 * 256]], atol=CLICK)
    bench.type_classes("shape")
    wait_for(bench, lambda: drawn() != before)


def test_a_box_and_undo_and_clear(
    bench: Workbench, predictions: list[Prediction], scene: tuple[Path, np.ndarray]
) -> None:
    bench.upload_picture(scene[0], (256, 256))
    bench.type_classes("green square, checked triangle")
    bench.choose_methods(SAM)
    bench.tab.get_by_role("radio", name="Box").click()
    bench.drag(0.5, 0.75, 0.25, 0.5)
    bench.tab.get_by_role("radio", name="checked triangle").click()
    bench.tab.get_by_role("radio", name="Foreground point").click()
    bench.click(0.5, 0.5)
    bench.click(0.9, 0.9)
    bench.tab.get_by_role("button", name="Undo").click()
    bench.run()
    square, triangle = predictions[-1].prompt.concepts
    assert np.allclose(square.box, [64, 128, 128, 192], atol=CLICK)
    assert len(square.points) == 0
    assert triangle.box is None
    assert np.allclose(triangle.points, [[128, 128]], atol=CLICK)
    bench.tab.get_by_role("button", name="Clear").click()
    bench.expect_text(".card .head + .problem", "needs a foreground point or a box")


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
    assert "failed with an unexpected error" in bench.card(SURGERY).locator(".problem").inner_text()
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
    assert [made.texts[0] for made in predictions] == ["lion"] * 3
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
    bench.expect_text("#status", "Stopped: 0 of 3 methods done")
    assert guided.asked == ["red heart", "red cross"] and predictions == []
    bench.card(SURGERY).locator(".problem", has_text="Stopped before it finished").wait_for()
    bench.run()
    bench.expect_mask(GUIDED, 0, predictions[0].class_mask(0))
    assert len(predictions) == 3


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
    bench.expect_text("#status", "3 of 3 methods done")
    assert guided.asked[2:] == list(predictions[0].texts) and len(predictions) == 3


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
    bench.expect_text("#status", "Stopped: 0 of 3 methods done")


def test_stop_ends_what_still_waits_for_others(
    bench: Workbench,
    chromium: object,
    address: str,
    predictions: list[Prediction],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One runs at a time; the other is told that it waits, and may leave."""
    guided = HeldUp(monkeypatch)
    bench.example("Shapes")
    bench.tab.click("#run")
    guided.wait()
    other = chromium.new_context()
    second = Workbench(other.new_page(), address)
    second.example("Lion")
    second.tab.click("#run")
    second.expect_text("#status", "Others are using the models")
    second.tab.click("#stop")
    guided.go_on()
    bench.expect_text("#status", "3 of 3 methods done")
    second.expect_text("#status", "Stopped: 0 of 3 methods done")
    assert [made.texts[0] for made in predictions] == ["red heart"] * 3
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


def test_run_without_a_picture(bench: Workbench) -> None:
    bench.tab.click("#run")
    bench.expect_text("#message", "There is no image yet")


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [("", "Enter at least one class name"), ("Dog, cat, dog", "is given twice")],
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
    bench.expect_text("#message", "Select at least one method")


def test_methods_by_class_names_are_ticked_and_cleared_at_once(bench: Workbench) -> None:
    bench.open_methods()
    group = bench.tab.locator("#methods-list fieldset", has_text="Prompted by class names")
    ready = group.locator(".method input:enabled")
    ticked = bench.tab.locator("#methods-list .method input:checked")
    group.locator(".all").check()
    wait_for(bench, lambda: ticked.count() == ready.count() > 3)
    group.locator(".all").uncheck()
    wait_for(bench, lambda: ticked.count() == 0)
    bench.expect_text("#methods-fold", "None selected")


def test_the_methods_fold_to_their_names_and_are_found(bench: Workbench) -> None:
    bench.expect_text("#methods-fold", "CLIP-Guided SAM, ESC-Net, CLIP Surgery + SAM")
    lines = bench.tab.locator("#methods-list .method:visible")
    assert lines.count() == 0
    bench.open_methods()
    ready = lines.count()
    assert ready > 10 and not lines.locator("input:disabled").count()
    bench.tab.get_by_label("Only ready ones").uncheck()
    wait_for(bench, lambda: lines.count() > ready)
    bench.tab.locator("#methods-list input[type=search]").fill("esc sliding")
    wait_for(
        bench,
        lambda: (
            lines.locator("span").all_inner_texts()
            == [
                "ESC-Net · sliding-window",
                "CAT-Seg (ESC-Net without SAM) · sliding-window",
            ]
        ),
    )
    lines.locator("input").first.check()
    bench.expect_text(
        "#methods-fold", "ESC-Net · whole-image, ESC-Net · sliding-window, CLIP Surgery + SAM"
    )
    bench.tab.get_by_role("button", name="Default methods").click()
    bench.expect_text("#methods-fold", "CLIP-Guided SAM, ESC-Net, CLIP Surgery + SAM")
    bench.tab.keyboard.press("Escape")
    wait_for(bench, lambda: lines.count() == 0)


def test_methods_that_need_points_join_once_they_can_run(
    bench: Workbench, predictions: list[Prediction]
) -> None:
    bench.example("Lion")
    bench.run()
    assert len(predictions) == 3
    bench.click(0.5, 0.4)
    bench.expect_text("#status", "5 of 5 methods done")
    assert {made.method for made in predictions[3:]} >= {"sam-ptx", "sam"}
    bench.expect_text("#methods-fold", "CLIP Surgery + SAM, SAM-PTx, SAM")
    bench.tab.get_by_role("button", name="Undo").click()
    bench.expect_text("#status", "3 of 3 methods done")
    bench.choose_methods(SURGERY)
    bench.click(0.5, 0.4)
    bench.expect_text("#status", "1 of 1 methods done")


def test_a_class_that_is_absent_runs(bench: Workbench, predictions: list[Prediction]) -> None:
    bench.example("One class is absent")
    bench.run()
    for index in range(3):
        bench.expect_mask(GUIDED, index, predictions[0].class_mask(index))


def test_presets_without_weights_explain_what_is_missing(bench: Workbench) -> None:
    bench.tab.click("#preset input")
    bench.tab.get_by_role("option", name="base: SAM ViT-B with CLIP ViT-B/16").click()
    bench.open_methods()
    bench.expect_text("#methods-note", "not available with base")
    text = bench.tab.locator("#methods-note").inner_text()
    assert "CLIP-Guided SAM (semi-automatic, manual)" in text
    assert "Not available" in text


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
    bench.tab.get_by_role("radio", name="Box").focus()
    keys.press("Enter")
    bench.tab.locator("#annotator canvas").focus()
    for key in ("Enter", *["ArrowLeft"] * 4, *["ArrowDown"] * 3, "Enter"):
        keys.press(key)
    bench.tab.locator("#run").focus()
    keys.press("Enter")
    bench.expect_text("#status", "1 of 1 methods done")
    (concept,) = predictions[0].prompt.concepts
    step = 256 / 40
    assert np.allclose(concept.points, [[128 + 2 * step, 128 - 256 / 200]], atol=0.01)
    assert np.allclose(concept.box, [128 - 4 * step, 128, 128, 128 + 3 * step], atol=0.01)
