"""Comparing by eye, and the keyboard, in a real Chromium."""

from __future__ import annotations

import pytest

from clipsam.types import Prediction
from tests.workbench.driving import DEFAULT, GUIDED, SURGERY, Workbench, wait_for

pytestmark = pytest.mark.browser

MARK = """(one) => {
  const mark = getComputedStyle(one, "::after");
  return [parseFloat(mark.left) / one.clientWidth, parseFloat(mark.top) / one.clientHeight];
}"""
"""JavaScript that returns where an image is marked, as shares of its width and height."""


def test_the_same_place_is_marked_everywhere(bench: Workbench) -> None:
    bench.example("Shapes")
    bench.run()
    everywhere = [bench.card(title).locator(".overlay").first for title in DEFAULT]
    everywhere.append(bench.tab.locator("#annotator .stage"))
    for picture in (everywhere[0], everywhere[-1]):
        box = picture.bounding_box()
        bench.tab.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 0.6 * box["height"])
        for one in everywhere:
            assert one.evaluate(MARK) == pytest.approx([0.25, 0.6], abs=0.01)
    bench.tab.mouse.move(2, 2)
    bench.tab.wait_for_selector("#desk:not(.pointing)")


def test_a_result_is_enlarged_and_compared(bench: Workbench, predictions: list[Prediction]) -> None:
    bench.example("Shapes")
    bench.choose_methods(GUIDED, SURGERY)
    bench.run()
    card = bench.card(GUIDED).locator(".overlay").first
    small = card.bounding_box()
    card.click()
    tab, viewer = bench.tab, bench.tab.locator("#viewer .enlarged")
    heading, sheet = viewer.locator("h3"), viewer.locator(".sheet")
    heading.get_by_text("CLIP-Guided SAM semi-automatic").wait_for()
    whole = sheet.bounding_box()
    assert whole["width"] > 1.5 * small["width"]
    assert whole["width"] == pytest.approx(whole["height"], abs=1)
    tab.keyboard.press("ArrowRight")
    heading.get_by_text("CLIP Surgery + SAM vanilla").wait_for()
    tab.keyboard.press("ArrowRight")
    heading.get_by_text("CLIP-Guided SAM semi-automatic").wait_for()
    # Zoom around the pointer: what is under it stays there.
    x, y = whole["x"] + 0.25 * whole["width"], whole["y"] + 0.5 * whole["height"]
    tab.mouse.move(x, y)
    tab.mouse.wheel(0, -100)
    wait_for(bench, lambda: sheet.bounding_box()["width"] > 1.1 * whole["width"])
    zoomed = sheet.bounding_box()
    assert zoomed["x"] + 0.25 * zoomed["width"] == pytest.approx(x, abs=1)
    tab.mouse.down()
    tab.mouse.move(x + 40, y + 30)
    tab.mouse.up()
    assert sheet.bounding_box()["x"] == pytest.approx(zoomed["x"] + 40, abs=1)
    tab.keyboard.press("0")
    assert sheet.bounding_box() == pytest.approx(whole)
    # Another view is drawn here too.
    tab.keyboard.press("2")
    sheet.locator("img[alt='Mask only of red heart']").wait_for()
    tab.keyboard.press("1")
    sheet.locator("img[alt='mask of red heart']").wait_for()
    viewer.locator("select").select_option("CLIP Surgery + SAM vanilla")
    wait_for(bench, lambda: sheet.locator(".overlay").count() == 2)
    viewer.locator(".split").fill("30")
    sheets = sheet.locator(".overlay").evaluate_all(
        "all => all.map(one => getComputedStyle(one).clipPath)"
    )
    assert ["70%" in sheets[0], "30%" in sheets[1]] == [True, True]
    tab.keyboard.press("Escape")
    viewer.wait_for(state="hidden")
    assert len(predictions) == 2


def test_keys(bench: Workbench, predictions: list[Prediction]) -> None:
    bench.example("Lion")
    bench.choose_methods(SURGERY)
    press = bench.tab.keyboard.press
    press("r")
    bench.expect_text("#status", "1 of 1 methods done")
    for number, view in enumerate(("Masks", "Mask only", "Logits", "Prompts", "Errors"), start=1):
        press(f"{number}")
        bench.tab.locator("#view label.selected", has_text=view).wait_for()
    press("1")
    press("-")
    assert (
        bench.tab.get_by_role("radio", name="Background point").get_attribute("aria-checked")
        == "true"
    )
    bench.tab.locator("#live input").uncheck()
    bench.click(0.5, 0.5)
    bench.click(0.6, 0.6)
    press("z")
    press("r")
    wait_for(bench, lambda: len(predictions) == 2)
    assert predictions[-1].prompt.concepts[0].labels.tolist() == [0]
    press("?")
    bench.tab.locator("#viewer .keys", has_text="Undo the last point or box").wait_for()
    press("Escape")
    # Letters that are typed are letters.
    bench.tab.locator("#classes textarea, #classes input").press_sequentially("rz1?")
    assert bench.tab.locator("#viewer .keys").is_hidden()
    bench.expect_text("#stale", "Press Run")
    assert len(predictions) == 2
