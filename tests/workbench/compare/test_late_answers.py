"""Answers that overtake each other, in a real Chromium: the page shows what belongs together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipsam.types import Prediction
from tests.workbench.driving import (
    SURGERY,
    Workbench,
    give_truth,
    wait_for,
)

pytestmark = pytest.mark.browser


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
