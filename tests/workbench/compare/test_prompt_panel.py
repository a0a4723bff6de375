"""How maps become prompts, set on the page."""

from __future__ import annotations

import pytest

from clipsam.types import Prediction
from tests.workbench.driving import GUIDED, SURGERY, Workbench

pytestmark = pytest.mark.browser

FOLD = "#prompting button"


def set_points(bench: Workbench, count: str) -> None:
    field = bench.tab.locator("#num-points :is(textarea, input)")
    field.fill(count)
    field.press("Tab")


def test_what_is_set_prompts_all_methods_and_is_said(
    bench: Workbench, predictions: list[Prediction]
) -> None:
    bench.example("Shapes")
    bench.choose_methods(GUIDED, SURGERY)
    bench.run()
    assert [made.overrides for made in predictions] == [{}, {}]
    usual = len(predictions[0].results[0].prompts.points)
    assert usual != 2
    bench.tab.locator(FOLD).first.click()
    set_points(bench, "2")
    bench.expect_text("#stale", "Press Run")
    bench.run()
    for title, made in zip((GUIDED, SURGERY), predictions[2:], strict=True):
        assert made.overrides == {"num_points": 2}
        assert all(len(result.prompts.points) == 2 for result in made.results)
        assert "Prompts from maps, set by hand: num points 2." in bench.card(title).inner_text()
    set_points(bench, "")
    bench.run()
    assert [made.overrides for made in predictions[4:]] == [{}, {}]
    assert len(predictions[4].results[0].prompts.points) == usual


def test_what_cannot_be_is_refused_in_a_sentence(bench: Workbench) -> None:
    bench.example("Shapes")
    bench.tab.locator(FOLD).first.click()
    set_points(bench, "0")
    bench.tab.click("#run")
    bench.expect_text("#message", "num_points is 0, expected 1 to 1,000.")
    set_points(bench, "two")
    bench.tab.click("#run")
    bench.expect_text("#message", "num_points is “two”, expected an integer.")
