"""Archives and links of the Compare tab, in a real Chromium."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipsam.types import Prediction
from tests.workbench.driving import (
    CLICK,
    GUIDED,
    SAM,
    SURGERY,
    Workbench,
    wait_for,
)

pytestmark = pytest.mark.browser


def test_a_run_is_downloaded_whole(
    bench: Workbench, predictions: list[Prediction], tmp_path: Path
) -> None:
    bench.tab.click("#export")
    bench.expect_text("#message", "Press Run")
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
    second.expect_text("#status", "1 of 1 methods done")
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
    second.expect_text("#message", "256 × 256 pixels, which is not part of the link")
    second.upload_picture(scene[0], (256, 256))
    second.run()
    (made,) = predictions
    assert np.allclose(made.prompt.concepts[0].points, [[0.3 * 256, 0.6 * 256]], atol=CLICK)
    assert second.console == []
    other.close()
