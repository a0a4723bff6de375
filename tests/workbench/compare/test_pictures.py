"""Pictures of all kinds on the Compare tab, in a real Chromium."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipsam.types import Prediction
from tests.workbench.driving import (
    DEFAULT,
    SAM,
    Workbench,
    text_file,
)

pytestmark = pytest.mark.browser


def grey(tmp_path: Path) -> Path:
    Image.fromarray(np.arange(48 * 64, dtype=np.uint8).reshape(48, 64)).save(tmp_path / "grey.png")
    return tmp_path / "grey.png"


def deep(tmp_path: Path) -> Path:
    values = np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    return tmp_path / "deep.png"


def in_mode(mode: str, name: str, tmp_path: Path) -> Path:
    rng = np.random.default_rng(5)
    picture = Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8))
    picture.convert(mode).save(tmp_path / name)
    return tmp_path / name


def rotated(tmp_path: Path) -> Path:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (48, 64), "teal").save(tmp_path / "rotated.jpg", exif=exif)
    return tmp_path / "rotated.jpg"


def animated(tmp_path: Path) -> Path:
    frames = [Image.new("P", (64, 48), colour) for colour in (1, 2, 3)]
    frames[0].save(tmp_path / "animated.gif", save_all=True, append_images=frames[1:])
    return tmp_path / "animated.gif"


def one_pixel(tmp_path: Path) -> Path:
    Image.new("RGB", (1, 1), "red").save(tmp_path / "one.png")
    return tmp_path / "one.png"


PICTURES = {
    "grey": (grey, (64, 48)),
    "16-bit": (deep, (64, 48)),
    "RGBA": (lambda folder: in_mode("RGBA", "rgba.png", folder), (64, 48)),
    "palette": (lambda folder: in_mode("P", "palette.png", folder), (64, 48)),
    "CMYK": (lambda folder: in_mode("CMYK", "cmyk.jpg", folder), (64, 48)),
    "TIFF": (lambda folder: in_mode("RGB", "picture.tiff", folder), (64, 48)),
    "EXIF-rotated": (rotated, (64, 48)),
    "animated": (animated, (64, 48)),
    "1×1": (one_pixel, (1, 1)),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_every_kind_of_picture_runs(
    bench: Workbench, predictions: list[Prediction], tmp_path: Path, kind: str
) -> None:
    make, (width, height) = PICTURES[kind]
    bench.upload_picture(make(tmp_path), (width, height))
    bench.type_classes("thing")
    bench.run()
    assert len(predictions) == 3
    for title, made in zip(DEFAULT, predictions, strict=True):
        assert made.transform.image_size == (height, width)
        bench.expect_mask(title, 0, made.class_mask(0))


def test_48_megapixels(bench: Workbench, predictions: list[Prediction], tmp_path: Path) -> None:
    Image.new("RGB", (8000, 6000), "olive").save(tmp_path / "large.png", compress_level=1)
    bench.upload_picture(tmp_path / "large.png", (8000, 6000))
    bench.type_classes("thing")
    bench.choose_methods(SAM)
    bench.click(0.75, 0.5)
    bench.run()
    shown = bench.tab.locator("#annotator canvas").bounding_box()
    screen_pixel = 8000 / shown["width"]
    points = predictions[0].prompt.concepts[0].points
    assert np.allclose(points, [[6000, 3000]], atol=screen_pixel)
    bench.expect_mask(SAM, 0, predictions[0].class_mask(0, size=(768, 1024)))


def truncated(tmp_path: Path) -> Path:
    whole = in_mode("RGB", "whole.png", tmp_path).read_bytes()
    (tmp_path / "truncated.png").write_bytes(whole[: len(whole) // 2])
    return tmp_path / "truncated.png"


def empty_file(tmp_path: Path) -> Path:
    (tmp_path / "empty.jpg").write_bytes(b"")
    return tmp_path / "empty.jpg"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (truncated, "truncated.png is damaged or incomplete"),
        (text_file, "notes.png is not a supported image"),
        (empty_file, "empty.jpg is not a supported image"),
    ],
)
def test_a_bad_file_gets_one_sentence_and_the_page_lives_on(
    bench: Workbench, tmp_path: Path, make: Callable[[Path], Path], sentence: str
) -> None:
    bench.upload(make(tmp_path))
    bench.expect_text("#message", sentence)
    assert bench.tab.locator("#message p").count() == 1
    bench.upload_picture(one_pixel(tmp_path), (1, 1))
    bench.tab.wait_for_selector("#message p", state="detached")


def test_a_pasted_and_a_dropped_picture(bench: Workbench, tmp_path: Path) -> None:
    for size, how in (((31, 17), "paste"), ((13, 29), "drop")):
        stream = io.BytesIO()
        Image.new("RGB", size, "navy").save(stream, "PNG")
        bench.tab.evaluate(
            """([data, how]) => {
              const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
              const files = new DataTransfer();
              files.items.add(new File([bytes], "picture.png", { type: "image/png" }));
              const event = how === "paste"
                ? new ClipboardEvent("paste", { clipboardData: files, bubbles: true })
                : new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true });
              document.querySelector("#annotator .stage").dispatchEvent(event);
            }""",
            [base64.b64encode(stream.getvalue()).decode(), how],
        )
        bench.expect_text("#annotator .size", f"{size[0]} × {size[1]} pixels")
