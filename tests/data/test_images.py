"""Every kind of picture that people upload, and everything that is none."""

from __future__ import annotations

import io
import itertools
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipsam.data import images
from clipsam.data.images import ImageError, load_image, open_image, open_mask
from tests.conftest import SHARED

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 7), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
SMOOTH = np.add.outer(np.arange(48), np.arange(64)).astype(np.uint8)
"""Grey ramp that JPEG keeps to within a few levels."""


def grey3(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return colour * share + 255 * (1 - share)


def write(folder: Path, name: str, picture: Image.Image, **settings) -> Path:
    path = folder / name
    picture.save(path, **settings)
    return path


def check(path: Path | io.BytesIO, expected: np.ndarray, tolerance: float = 0) -> None:
    opened = open_image(path)
    assert opened.dtype == np.uint8
    assert opened.shape == expected.shape
    np.testing.assert_allclose(opened.astype(float), expected, atol=tolerance)


def palette(transparency: int | None = None) -> tuple[Image.Image, np.ndarray, np.ndarray]:
    """A palette picture, its indices, and its colours."""
    indices = RNG.integers(0, 4, (5, 7), dtype=np.uint8)
    picture = Image.fromarray(indices, "P")
    colours = np.array([[255, 0, 0], [0, 200, 10], [3, 4, 5], [90, 90, 250]], np.uint8)
    picture.putpalette(colours.ravel().tolist())
    if transparency is not None:
        picture.info["transparency"] = transparency
    return picture, indices, colours


def test_rgb_and_grey(tmp_path):
    check(write(tmp_path, "rgb.png", Image.fromarray(COLOUR)), COLOUR)
    check(write(tmp_path, "grey.png", Image.fromarray(GREY)), grey3(GREY))
    check(write(tmp_path, "one.png", Image.fromarray(COLOUR[:1, :1])), COLOUR[:1, :1])
    bits = GREY > 127
    check(write(tmp_path, "bits.png", Image.fromarray(bits)), grey3(bits * np.uint8(255)))


def test_an_open_file_will_do(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(COLOUR).save(buffer, "PNG")
    check(buffer, COLOUR)
    check(str(write(tmp_path, "rgb.bmp", Image.fromarray(COLOUR))), COLOUR)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_lies_over_white(tmp_path, mode):
    alpha = GREY.copy()
    alpha[0, 0], alpha[0, 1] = 0, 255
    colour = COLOUR if mode == "RGBA" else grey3(COLOUR[..., 0])
    picture = Image.fromarray(colour).convert(mode)
    picture.putalpha(Image.fromarray(alpha))
    path = write(tmp_path, "clear.png", picture)
    check(path, over_white(colour, alpha), tolerance=1)
    assert (open_image(path)[0, 0] == 255).all()


def test_palette(tmp_path):
    picture, indices, colours = palette()
    check(write(tmp_path, "palette.png", picture), colours[indices])
    picture, indices, colours = palette(transparency=2)
    colours[2] = 255
    check(write(tmp_path, "clear.png", picture, transparency=2), colours[indices])
    check(write(tmp_path, "clear.gif", picture, transparency=2), colours[indices])


def test_transparent_colour_of_rgb(tmp_path):
    colour = COLOUR.copy()
    colour[2, 3] = 7, 8, 9
    path = write(tmp_path, "key.png", Image.fromarray(colour), transparency=(7, 8, 9))
    colour[2, 3] = 255
    check(path, colour)


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        (np.uint16, [0, 257, 65535, 32768], [0, 1, 255, 128]),
        (np.uint16, [0, 17, 200, 255], [0, 17, 200, 255]),  # 8-bit levels in a 16-bit file
        (np.uint16, [0, 400, 1020, 1023], [0, 100, 254, 255]),  # 10 bits
        (np.uint16, [0, 16, 2048, 4095], [0, 1, 128, 255]),  # 12 bits
        (np.uint16, [0, 64, 8192, 16383], [0, 1, 128, 255]),  # 14 bits
        (np.float32, [0.0, 0.2, 0.6, 1.0], [0, 51, 153, 255]),
        (np.int32, [0, 257, 65535, 32768], [0, 1, 255, 128]),
        (np.int32, [-100, 0, 100, 50], [0, 128, 255, 191]),  # by its own range
        (np.float32, [-1.0, 0.0, 1.0, 0.5], [0, 128, 255, 191]),
    ],
)
def test_deep_grey(tmp_path, dtype, values, expected):
    picture = Image.fromarray(np.array(values, dtype).reshape(2, 2))
    deep = grey3(np.array(expected).reshape(2, 2))
    check(write(tmp_path, "deep.tiff", picture), deep)
    if dtype == np.uint16:
        check(write(tmp_path, "deep.png", picture), deep)


@pytest.mark.parametrize(
    ("values", "used"),
    [
        (np.array([[0, 1020]], np.uint16), "0 to 1,023 (10 bits)"),
        (np.array([[0, 4000]], np.uint16), "0 to 4,095 (12 bits)"),
        (np.array([[0, 0.5]], np.float32), "0 to 1"),
        (np.array([[-2, 2]], np.float32), "-2 to 2"),
        (np.array([[0, 60000]], np.uint16), ""),
        (np.array([[0, 200]], np.uint16), ""),
    ],
)
def test_the_range_of_deep_grey_is_said(tmp_path, caplog, values, used):
    path = write(tmp_path, "deep.tiff", Image.fromarray(values))
    note = f"deep.tiff was scaled to 8 bits from the range {used}." if used else ""
    assert load_image(path).note == note
    open_image(path)
    assert caplog.messages == ([note] if note else [])


@pytest.mark.parametrize("name", ["u10.png", "u12.tif", "u16.png", "float01.tif"])
def test_real_deep_images(name):
    folder = SHARED / "cases" / "bit-depth"
    if not folder.is_dir():
        pytest.skip(f"the cases are not here: {folder}")
    loaded = load_image(folder / name)
    levels = np.asarray(Image.open(folder / "u16.png")).astype(int) // 257
    assert np.abs(loaded.values[..., 0].astype(int) - levels).max() <= 1
    assert bool(loaded.note) == (name != "u16.png")


@pytest.mark.filterwarnings("error")
def test_odd_floats(tmp_path):
    flat = np.full((2, 3), -5.0, np.float32)
    check(write(tmp_path, "flat.tiff", Image.fromarray(flat)), np.zeros((2, 3, 3)))
    holes = np.array([[0, np.nan, 255], [np.inf, 51, -np.inf]], np.float32)
    path = write(tmp_path, "holes.tiff", Image.fromarray(holes))
    check(path, grey3(np.array([[0, 0, 255], [0, 51, 0]])))


def test_cmyk_jpeg(tmp_path):
    picture = Image.fromarray(grey3(SMOOTH)).convert("CMYK")
    check(write(tmp_path, "print.jpg", picture, quality=95), grey3(SMOOTH), tolerance=6)


# What each EXIF orientation says about where the stored rows and columns belong.
ORIENTATIONS = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored),
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_rotation(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = grey3(SMOOTH)
    path = write(tmp_path, "phone.jpg", Image.fromarray(stored), exif=exif, quality=95)
    check(path, ORIENTATIONS[orientation](stored), tolerance=6)


@pytest.mark.parametrize("ending", ["gif", "webp", "png"])
def test_first_frame_of_an_animation(tmp_path, ending):
    frames = [Image.new("RGB", (9, 6), colour) for colour in ("red", "lime", "blue")]
    settings = dict(lossless=True) if ending == "webp" else {}
    path = tmp_path / f"moving.{ending}"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=50, **settings)
    check(path, np.broadcast_to([255, 0, 0], (6, 9, 3)))


def broken(folder: Path) -> dict[str, Path]:
    """Files that are no picture, by what is wrong with them."""
    noise = Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for ending in ("png", "jpg", "gif", "tiff", "webp"):
        whole = write(folder, f"whole.{ending}", noise).read_bytes()
        (folder / f"cut.{ending}").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("these are words")
    (folder / "empty.png").touch()
    (folder / "folder.png").mkdir()
    names = [f"cut.{ending}" for ending in ("png", "jpg", "gif", "tiff", "webp")]
    names += ["text.png", "empty.png", "folder.png", "missing.png"]
    return {name: folder / name for name in names}


@pytest.mark.parametrize("read", [open_image, open_mask])
def test_what_is_no_picture_is_refused_in_one_sentence(tmp_path, read):
    for name, path in broken(tmp_path).items():
        with pytest.raises(ImageError) as error:
            read(path)
        message = str(error.value)
        assert name in message
        assert message.endswith(".")
        assert not message.endswith("..")
        assert "\n" not in message
        assert str(tmp_path) not in message, "people do not know our folders"


def test_too_many_pixels(tmp_path, monkeypatch):
    path = write(tmp_path, "huge.png", Image.fromarray(COLOUR))
    monkeypatch.setattr(images, "MAX_PIXELS", COLOUR.shape[0] * COLOUR.shape[1])
    check(path, COLOUR)
    monkeypatch.setattr(images, "MAX_PIXELS", COLOUR.shape[0] * COLOUR.shape[1] - 1)
    with pytest.raises(ImageError, match=r"huge\.png has 7 × 5 pixels"):
        open_image(path)


def test_decompression_bomb(tmp_path, monkeypatch):
    """Pillow's own limit must end in the same kind of sentence."""
    path = write(tmp_path, "bomb.png", Image.fromarray(COLOUR))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ImageError, match=r"bomb\.png has more pixels than the limit"):
        open_image(path)


IDS = np.array([[0, 1, 2], [3, 255, 7]])


def masks() -> dict[str, tuple[str, Image.Image, np.ndarray]]:
    small = Image.fromarray(IDS.astype(np.uint8))
    indexed = small.copy()
    indexed.putpalette(list(itertools.chain(*[(255 - i, i, 9) for i in range(256)])))
    wide = IDS * 200
    return {
        "grey": ("png", small, IDS),
        "palette": ("png", indexed, IDS),
        "1-bit": ("png", Image.fromarray(IDS > 2), (IDS > 2).astype(int)),
        "16-bit": ("png", Image.fromarray(wide.astype(np.uint16)), wide),
        "32-bit": ("tiff", Image.fromarray(wide.astype(np.int32)), wide),
        "RGB, but grey": ("png", Image.fromarray(grey3(IDS.astype(np.uint8))), IDS),
        "RGBA, but grey": ("png", small.convert("RGBA"), IDS),
        "LA": ("png", small.convert("LA"), IDS),
    }


@pytest.mark.parametrize("kind", masks())
def test_mask_values_are_not_touched(tmp_path, kind):
    ending, picture, expected = masks()[kind]
    opened = open_mask(write(tmp_path, f"mask.{ending}", picture))
    assert opened.dtype == np.int64
    np.testing.assert_array_equal(opened, expected)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK", "F"])
def test_masks_that_hold_no_ids_are_refused(tmp_path, mode):
    picture = Image.fromarray(COLOUR[..., 0] - 300.5) if mode == "F" else Image.fromarray(COLOUR)
    path = write(tmp_path, "mask.tiff", picture.convert(mode))
    with pytest.raises(ImageError, match=r"mask\.tiff .*must contain ids"):
        open_mask(path)


# ---- what costs too much, and what never ends ----


def test_large_images_are_converted_in_strips(monkeypatch):
    """In strips or at once: the same pixels, transparency over white and palettes included."""
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, (40, 30, 4), np.uint8)
    palette = Image.fromarray(levels[..., 0]).convert("P")
    palette.info["transparency"] = 7
    for picture in (
        Image.fromarray(levels),
        Image.fromarray(levels[..., :2].copy(), "LA"),
        Image.fromarray(levels[..., 0] > 127),
        Image.fromarray(levels, "CMYK"),
        palette,
    ):
        monkeypatch.setattr(images, "STRIP_PIXELS", 10**6)
        whole = images.as_pixels(picture)
        monkeypatch.setattr(images, "STRIP_PIXELS", 7 * 30)
        np.testing.assert_array_equal(images.as_pixels(picture), whole)


@pytest.mark.parametrize("turn", [1, 6])
def test_a_jpeg_is_decoded_at_reduced_size_for_those_who_reduce_it(tmp_path, turn):
    """Half of 4096 is still larger than what is asked; the true size is told, upright."""
    exif = Image.Exif()
    exif[0x0112] = turn
    picture = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (1000, 16)))
    picture.save(tmp_path / "a.jpg", exif=exif)
    found = images.load_image(tmp_path / "a.jpg", side=1000)
    size, reduced = ((1000, 4096), (1000, 4096)) if turn == 1 else ((4096, 1000), (4096, 1000))
    assert found.full_size is None and found.values.shape[:2] == size == reduced
    found = images.load_image(tmp_path / "a.jpg", side=500)
    assert found.full_size == size
    assert found.values.shape[:2] == tuple(side // 2 for side in size)
    whole = images.load_image(tmp_path / "a.jpg").values
    halved = whole.reshape(size[0] // 2, 2, size[1] // 2, 2, 3).mean((1, 3))
    assert np.abs(halved - found.values).mean() < 2


def test_decoding_waits_for_others():
    """Two of 60 pixels do not fit into 100; the second begins when the first has ended."""
    budget = images._DecodingBudget(100)
    order = []

    def second():
        with budget.take(60):
            order.append("second")

    with budget.take(60):
        thread = threading.Thread(target=second)
        thread.start()
        with budget.take(40):
            order.append("small")
        thread.join(0.2)
        order.append("first ends")
    thread.join(5)
    assert order == ["small", "first ends", "second"]


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for read in (images.open_image, images.open_mask):
        with pytest.raises(ImageError, match=r"pipe\.png is no regular file, expected an image"):
            read(tmp_path / "pipe.png")


def test_damaged_exif_says_nothing(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" * 3)
    assert images.open_image(tmp_path / "a.jpg").shape == COLOUR.shape


def test_unusual_formats_are_refused_by_name_of_the_usual_ones(tmp_path):
    """What Pillow rarely opens is not tried, whatever the ending says."""
    (tmp_path / "a.png").write_bytes(b"FTEX" + bytes(60))
    (tmp_path / "b.png").write_bytes(b"icns" + (16).to_bytes(4, "big") + bytes(8))
    for name in ("a.png", "b.png"):
        with pytest.raises(ImageError, match="is not a supported image"):
            images.open_image(tmp_path / name)


def test_a_tiff_of_another_colour_space(tmp_path):
    """YCbCr as Pillow writes it, which some of its versions cannot read: right, or told."""
    picture = Image.fromarray(np.full((16, 16, 3), (200, 30, 60), np.uint8)).convert("YCbCr")
    picture.save(tmp_path / "a.tif")
    expected = np.asarray(picture.convert("RGB")).astype(int)
    try:
        found = images.open_image(tmp_path / "a.tif").astype(int)
    except ImageError as error:
        assert "a.tif is damaged or incomplete" in str(error)
    else:
        assert np.abs(found - expected).max() <= 2
