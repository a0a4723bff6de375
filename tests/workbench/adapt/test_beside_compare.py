"""What Compare and Adapt give each other, in a real Chromium."""

from __future__ import annotations

import numpy as np
import pytest

from clipsam.types import Prediction
from clipsam.workbench.adapt import adapt_tab as adapt_tab
from tests.workbench.driving import (
    GUIDED,
    SURGERY,
    Workbench,
    wait_for,
)

pytestmark = pytest.mark.browser


def test_masks_of_a_card_become_labels_under_adapt(
    bench: Workbench, predictions: list[Prediction]
) -> None:
    bench.example("Shapes")
    bench.choose_methods(SURGERY)
    bench.run()
    send = bench.open_menu(SURGERY).get_by_role("button", name="Use as labels in Adapt")
    send.click()
    bench.expect_text("#status", "1 labelled image is now in the Adapt tab")
    send.click()
    bench.expect_text("#message", "the same image")
    bench.tab.get_by_role("tab", name="Adapt").click()
    bench.expect_text("#adapt-listing", "from Compare 1")
    assert len(predictions) == 1


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
    bench.open_menu(GUIDED).get_by_role("button", name="Use as labels in Adapt").click()
    bench.expect_text("#status", "1 labelled image is now in the Adapt tab")
    bench.tab.get_by_role("tab", name="Adapt").click()
    bench.tab.click("#adapt-example")
    bench.tab.wait_for_selector("#adapt-listing figure:nth-child(8)")
    bench.tab.click("#adapt-start")
    bench.tab.wait_for_selector("#adapt-results .verdict")
    bench.tab.get_by_role("tab", name="Compare").click()
    own = "CLIP-Guided SAM, adapted 1 · semi-automatic"
    ticked = bench.tab.get_by_label(own, exact=True)
    wait_for(bench, lambda: ticked.count() == 1 and ticked.is_checked(), "and selected")
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
    second.expect_text("#message", "There is no image yet")
    second.tab.get_by_role("tab", name="Adapt").click()
    second.expect_text("#adapt-listing", "There is no labelled image yet")
    second.tab.get_by_role("tab", name="Evaluate").click()
    assert second.tab.get_by_label("CLIP-Guided SAM, adapted 1", exact=False).count() == 0
    assert second.console == []
    other.close()
