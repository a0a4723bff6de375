"""The result cards, in a real Chromium: views, label maps, blocks and candidates."""

from __future__ import annotations

import numpy as np
import pytest

from clipsam.registry import find_info
from clipsam.types import Prediction
from clipsam.weights.availability import method_status
from clipsam.weights.presets import TINY
from tests.workbench.driving import (
    ESC_NET,
    GUIDED,
    SURGERY,
    Workbench,
    middle,
    wait_for,
)

pytestmark = pytest.mark.browser


@pytest.fixture
def esc_net() -> None:
    if method_status(find_info("esc-net"), TINY) != "ready":
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
    card.get_by_text("One mask per class").click()
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
    block_traces = predictions[0].results[1].block_traces
    blocks = bench.open_menu(ESC_NET).locator("details.rounds").nth(1)
    pictures = blocks.locator("svg")
    wait_for(bench, lambda: pictures.count() == len(block_traces))
    assert not pictures.first.is_visible()
    blocks.locator("summary").focus()
    bench.tab.keyboard.press("Enter")
    pictures.first.wait_for(state="visible")
    points = blocks.evaluate(
        "all => [...all.querySelectorAll('svg')].map(one => one.querySelectorAll('circle').length)"
    )
    assert points == [len(seen.points) for seen in block_traces]
    ranges = blocks.locator(".scale").all_inner_texts()
    for text, seen in zip(ranges, block_traces, strict=True):
        low, high = text.split()
        assert (low, high) == (f"{seen.similarity.min():.3f}", f"{seen.similarity.max():.3f}")
    # A slider changes none of it.
    bench.set_slider("threshold", -10)
    bench.expect_labels(ESC_NET, predictions[0].label_map(-10))
    assert pictures.first.is_visible()
    assert len(predictions) == 1


def test_views_and_overlap_need_no_model(bench: Workbench, predictions: list[Prediction]) -> None:
    bench.example("Shapes")
    bench.choose_methods(SURGERY)
    bench.run()
    (prediction,) = predictions
    bench.tab.click("#overlap input")
    bench.tab.get_by_role("option", name="Highest logit wins").click()
    bench.expect_mask(SURGERY, 1, prediction.masks(overlap="argmax")[1])
    for view, shows in (
        ("Errors", "true negative"),
        ("Logits", "white is the threshold"),
        ("Prompts", "red cross"),
        ("Mask only", "red cross"),
    ):
        if shows == "red cross":
            bench.tab.locator("#annotator .chip", has_text="red cross").click()
        bench.tab.locator("#view label", has_text=view).click()
        bench.card(SURGERY).locator(".overlay > img").first.wait_for()
        bench.tab.locator(".card:visible", has_text=shows).first.wait_for()
        bench.tab.wait_for_selector(f".overlay > img[alt^='{view} of']")
    bench.tab.locator("#view label", has_text="Masks").click()
    bench.expect_mask(SURGERY, 1, prediction.masks(overlap="argmax")[1])
    assert len(predictions) == 1


def test_a_candidate_takes_the_place_of_the_answer(
    bench: Workbench, predictions: list[Prediction]
) -> None:
    bench.example("Shapes")
    bench.choose_methods(SURGERY)
    bench.run()
    card = bench.open_menu(SURGERY)
    card.locator(".candidates summary", has_text="red heart").click()
    card.locator("button[data-index='0'][data-candidate='2']").click()
    bench.expect_mask(SURGERY, 0, predictions[0].candidate_masks(0)[2])
    bench.tab.wait_for_selector("text=predicted IoU >> text=selected", state="attached")
    assert len(predictions) == 1


def test_all_methods_beside_each_other(bench: Workbench, predictions: list[Prediction]) -> None:
    bench.example("Shapes")
    bench.choose_methods(SURGERY, GUIDED)
    bench.run()
    bench.tab.locator("button", has_text="All methods: cost").click()
    masks = [one.class_mask(0, 0.0) for one in predictions]
    iou = (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
    bench.expect_text("#differences", f"{iou:.3f}")
    bench.expect_text("#costs", "Parameters")
