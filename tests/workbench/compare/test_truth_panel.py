"""The ground-truth panel, in a real Chromium."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipsam.data.synthetic import SceneData
from clipsam.types import Prediction
from clipsam.workbench.compare.score_tables import MEAN
from tests.workbench.driving import (
    DEFAULT,
    GUIDED,
    SURGERY,
    Workbench,
    give_truth,
    middle,
    text_file,
    wait_for,
)

pytestmark = pytest.mark.browser


def by_hand(mask: np.ndarray, truth: np.ndarray) -> float:
    return (mask & truth).sum() / (mask | truth).sum()


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
    for title, made in zip(DEFAULT, predictions, strict=True):
        bench.expect_mask(title, 0, made.class_mask(0, threshold))
        expected = by_hand(made.class_mask(0, threshold), square)
        bench.expect_iou(title, "green square", expected)
        bench.expect_iou(title, MEAN, expected)
        bench.card(title).locator(".facts", has_text=f"IoU {expected:.2f}").wait_for()
    bench.set_slider("threshold", -10)
    lowest = by_hand(predictions[0].class_mask(0, -10), square)
    bench.expect_iou(GUIDED, "green square", lowest)
    assert len(predictions) == 3


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
    bench.expect_text("#truth-message", "notes.png is not a supported image")
