"""Suggested names as chips to take or drop."""

from __future__ import annotations

import pytest

from clipsam.suggest import Suggestion
from clipsam.workbench.compare.suggest_panel import chips_html, toggled
from tests.workbench.driving import Workbench, wait_for


@pytest.mark.parametrize(
    ("typed", "name", "expected"),
    [
        ("", "dog", "dog"),
        ("dog; puppy, grass", "sky", "dog; puppy, grass, sky"),
        ("dog; puppy, grass", "Puppy", "grass"),
        ("dog", "dog", ""),
        ("hot dog", "dog", "hot dog, dog"),
    ],
)
def test_a_chip_takes_or_drops_its_name(typed: str, name: str, expected: str) -> None:
    assert toggled(typed, name) == expected


def test_chips_are_pressed_where_typed_and_no_markup() -> None:
    found = [Suggestion("<i>", 0.75, 0.5), Suggestion("sky", float("nan"), 0.25)]
    html = chips_html(found, "Sky")
    assert "<i>" not in html and "&lt;i&gt;" in html
    assert [part.split("'")[0] for part in html.split("aria-pressed='")[1:]] == ["false", "true"]
    assert "0.75" in html and "0.25" in html
    assert chips_html([], "sky") == ""


@pytest.mark.browser
def test_a_newcomer_who_knows_no_name_gets_a_first_answer(bench: Workbench) -> None:
    bench.tab.click("#suggest")
    bench.expect_text("#message", "There is no image yet")
    bench.example("Lion")
    classes = bench.tab.locator("#classes textarea, #classes input")
    classes.fill("")
    bench.tab.click("#suggest")
    chips = bench.tab.locator("#suggestions button")
    wait_for(bench, lambda: chips.count() == 10 and classes.input_value())
    taken = bench.tab.locator("#suggestions [aria-pressed=true]")
    wait_for(bench, lambda: 1 <= taken.count() <= 3)
    first = chips.first.inner_text().rsplit(" ", 1)[0].strip()
    assert classes.input_value().split(", ")[0] == first
    chips.first.click()
    wait_for(bench, lambda: first not in classes.input_value().split(", "))
    bench.tab.wait_for_selector("#suggestions button:first-child[aria-pressed=false]")
    chips.first.click()
    wait_for(bench, lambda: first in classes.input_value().split(", "))
    bench.run()
    bench.example("Tower")
    chips.first.wait_for(state="hidden")


@pytest.mark.browser
def test_names_of_a_list_of_one_s_own(bench: Workbench) -> None:
    bench.example("Lion")
    bench.tab.click("#suggest")
    chips = bench.tab.locator("#suggestions button")
    wait_for(bench, lambda: chips.count() == 10)
    bench.tab.click("#vocabulary input")
    bench.tab.get_by_role("option", name="A list of your own").click()
    bench.tab.locator("#own-names textarea").fill("lion\nsky, car")
    bench.tab.click("#suggest")
    wait_for(bench, lambda: chips.count() == 3)
    names = {chip.rsplit(" ", 1)[0].strip() for chip in chips.all_inner_texts()}
    assert names == {"lion", "sky", "car"}
