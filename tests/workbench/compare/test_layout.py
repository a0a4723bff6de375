"""What is in view without scrolling, by bounding boxes, in a real Chromium."""

from __future__ import annotations

import pytest

from tests.workbench.driving import DEFAULT, Workbench, wait_for

pytestmark = pytest.mark.browser


def in_view(bench: Workbench, part: object) -> float:
    """The share of an element's area that lies in the window."""
    box, window = part.bounding_box(), bench.tab.viewport_size
    width = min(box["x"] + box["width"], window["width"]) - max(box["x"], 0)
    height = min(box["y"] + box["height"], window["height"]) - max(box["y"], 0)
    return max(0, width) * max(0, height) / (box["width"] * box["height"])


def pictures(bench: Workbench) -> list[float]:
    """The share in view of each answer's picture, in the order of the cards."""
    return [in_view(bench, bench.card(title).locator(".overlay").first) for title in DEFAULT]


@pytest.mark.parametrize("example", ["Shapes", "Cheetah", "Tower"])
def test_a_desk_with_question_picture_and_answers(bench: Workbench, example: str) -> None:
    bench.tab.set_viewport_size({"width": 1440, "height": 900})
    bench.example(example)
    for part in ("#classes", "#methods-fold", "#preset", "#run", "#stop", "#annotator canvas"):
        assert in_view(bench, bench.tab.locator(part)) == 1, part
    bench.run()
    assert bench.tab.evaluate("scrollY") == 0
    assert sum(share >= 0.8 for share in pictures(bench)) >= 2
    assert max(in_view(bench, one) for one in bench.tab.locator("img.map:visible").all()) == 1
    first, second = (bench.card(title).bounding_box() for title in DEFAULT[:2])
    assert first["y"] == second["y"] and first["x"] + first["width"] <= second["x"]


def test_on_a_small_screen_one_answer_is_in_view(bench: Workbench) -> None:
    bench.tab.set_viewport_size({"width": 1280, "height": 720})
    bench.example("Shapes")
    assert in_view(bench, bench.tab.locator("#run")) == 1
    bench.run()
    assert bench.tab.evaluate("scrollY") == 0
    assert max(pictures(bench)) >= 0.6


def test_bar_and_picture_stay_while_answers_scroll(bench: Workbench) -> None:
    bench.tab.set_viewport_size({"width": 1280, "height": 720})
    bench.example("Shapes")
    bench.run()
    bench.card(DEFAULT[2]).locator(".overlay").first.scroll_into_view_if_needed()
    assert bench.tab.evaluate("scrollY") > 100
    for part in ("#run", "#view", "#threshold", "#annotator canvas"):
        assert in_view(bench, bench.tab.locator(part)) >= 0.99, part
    bar, view = (bench.tab.locator(part).bounding_box() for part in ("#bar", "#view-bar"))
    assert view["y"] >= bar["y"] + bar["height"] - 1


def test_controls_above_the_answers_do_not_overlap(bench: Workbench) -> None:
    bar = bench.tab.locator("#view-bar")
    for width in (1100, 1280, 1366, 1440, 1600, 1920):
        bench.tab.set_viewport_size({"width": width, "height": 900})
        whole, slider, overlap = (
            part.bounding_box()
            for part in (
                bar,
                bar.locator("#threshold input[type=range]"),
                bar.locator("#overlap"),
            )
        )
        in_one_row = slider["y"] < overlap["y"] + overlap["height"]
        if in_one_row:
            assert slider["x"] + slider["width"] <= overlap["x"]
        for part in bar.locator("> *").all():
            box = part.bounding_box()
            assert box["x"] + box["width"] <= whole["x"] + whole["width"] + 1


def test_on_a_phone_run_is_near_and_the_answer_comes_into_view(bench: Workbench) -> None:
    bench.tab.set_viewport_size({"width": 390, "height": 844})
    bench.example("Shapes")
    bench.tab.evaluate("scrollTo(0, 0)")
    tops = [
        bench.tab.locator(part).bounding_box()["y"]
        for part in ("#annotator canvas", "#classes", "#methods-fold", "#run")
    ]
    assert tops == sorted(tops) and tops[-1] < 1000
    bench.run()
    wait_for(bench, lambda: in_view(bench, bench.card(DEFAULT[0]).locator(".overlay").first) >= 0.9)
    assert bench.tab.evaluate("document.documentElement.scrollWidth") <= 390


def test_three_steps_until_the_first_run(bench: Workbench) -> None:
    steps = bench.tab.locator("#steps li")
    assert [text.split(".")[0] for text in steps.all_inner_texts()] == [
        "Choose an image",
        "Say what to find",
        "Run",
    ]
    bench.tab.click("#run")
    bench.expect_text("#message", "There is no image yet")
    assert steps.count() == 3
    bench.example("Lion")
    bench.run()
    assert steps.count() == 0
    bench.example("Shapes")
    assert steps.count() == 0
