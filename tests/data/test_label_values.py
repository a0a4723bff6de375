"""What mask values mean, against masks whose meaning was decided before they were drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from clipsam.data.images import ImageError, load_mask
from clipsam.data.label_values import LabelNames, is_soft
from clipsam.data.samples import BACKGROUND, VOID

B, V = BACKGROUND, VOID
ONE = ["background", "person"]


def disc(size: int = 96) -> np.ndarray:
    """A binary mask, 0 and 255."""
    picture = Image.new("L", (size, size))
    ImageDraw.Draw(picture).ellipse((size // 4, size // 4, 3 * size // 4, 3 * size // 4), fill=255)
    return np.asarray(picture)


def read(names: list[str], ids: object, holds_ids: bool = False) -> list[list[int]]:
    values = LabelNames(names).read(np.array(ids), "a mask", lambda: holds_ids).values
    assert values.dtype == np.int16
    return values.tolist()


@pytest.mark.parametrize(
    ("names", "ids", "classes"),
    [
        (ONE, [[0, 255]], [[B, 0]]),
        (["person"], [[0, 255]], [[B, 0]]),
        (["person"], [[0, 1]], [[B, 0]]),
        (["person"], [[0, 1, 255]], [[B, 0, V]]),
        (ONE, [[0, 65535]], [[B, 0]]),
        (ONE, [[0, 1, 255]], [[B, 0, V]]),  # 1 is an id, so 255 is void
        (["Background", "person", "Unlabeled"], [[0, 1, 2]], [[B, 0, V]]),
        (["_background_", "person", "__ignore__", "VOID"], [[0, 1, 2, 3]], [[B, 0, V, V]]),
        (["cat", "dog", " Cat "], [[0, 1, 2]], [[0, 1, 0]]),  # one class
        (["", "cat", "dog"], [[0, 1, 2]], [[B, 0, 1]]),
        ([f"class {i}" for i in range(300)], [[0, 255, 299]], [[0, 255, 299]]),
    ],
)
def test_values_and_names(names: list[str], ids: list, classes: list) -> None:
    assert read(names, ids) == classes


def test_in_a_set_of_ids_255_is_void() -> None:
    assert read(ONE, [[0, 255]], holds_ids=True) == [[B, V]]
    assert LabelNames(ONE).has_ids(np.array([[0, 1, 255]]))
    assert not LabelNames(ONE).has_ids(np.array([[0, 255]]))


@pytest.mark.parametrize(
    ("names", "ids", "sentence"),
    [
        (ONE, [[0, 7]], "contains the id 7, but names are given for 0 to 1 only"),
        (["background", "cat", "dog"], [[0, 255]], "contains only 0, 255.*2 classes are named"),
        (["person"], [[1, 2]], "contains the ids 1, 2, but only “person” is named"),
        (["a", "", "b"], [[1, 2]], "contains the id 1, but names are given for 0, 2 only"),
    ],
)
def test_values_without_a_name(names: list[str], ids: list, sentence: str) -> None:
    with pytest.raises(ImageError, match=sentence):
        read(names, ids)


def blurred(mask: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(mask).filter(ImageFilter.GaussianBlur(1)))


def box_blurred(mask: np.ndarray) -> np.ndarray:
    square = np.zeros_like(mask)
    square[20:70, 20:70] = 255
    return np.asarray(Image.fromarray(square).filter(ImageFilter.BoxBlur(1)))


def smaller(mask: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(mask).resize((48, 48), Image.Resampling.BILINEAR))


def compressed(tmp_path: Path, mask: np.ndarray, quality: int) -> np.ndarray:
    Image.fromarray(mask).save(tmp_path / "a.jpg", quality=quality)
    return np.asarray(Image.open(tmp_path / "a.jpg"))


@pytest.mark.parametrize("soften", [blurred, box_blurred, smaller])
def test_soft_edges_are_cut_in_the_middle(soften) -> None:
    soft = soften(disc())
    for names in (ONE, ["person"]):
        loaded = LabelNames(names).read(soft.astype(np.int64), "a mask")
        np.testing.assert_array_equal(loaded.values == 0, soft >= 128)
        assert loaded.note == (
            "a mask has grey levels, so it was read as a binary mask, cut in the middle."
        )
    wide = soft.astype(np.int64) * 257
    np.testing.assert_array_equal(LabelNames(ONE).read(wide, "a mask").values == 0, wide >= 32768)


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_a_jpeg_saved_again_as_png_is_soft(tmp_path: Path, quality: int) -> None:
    soft = compressed(tmp_path, disc(), quality)
    classes = LabelNames(ONE).read(soft.astype(np.int64), "a mask").values
    assert (classes == 0)[disc() > 0].mean() > 0.98
    assert (classes == 0)[disc() == 0].mean() < 0.02


def ids_of_many_classes() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.kron(rng.integers(0, 60, (8, 8)), np.ones((12, 12), int))


@pytest.mark.parametrize(
    "ids",
    [
        disc().astype(int),
        ids_of_many_classes(),
        np.where(disc() > 0, 255, ids_of_many_classes()),  # a void region
        np.random.default_rng(0).integers(0, 256, (50, 50)),  # no mask of anything
        np.array([[0, 1, 2, 3, 4, 5, 6, 255]]),
        np.array([[0, 60, 120, 180, 240, 1000000]]),
        np.array([[-3, 0, 50, 100, 150, 200, 255]]),
    ],
)
def test_these_are_not_soft(ids: np.ndarray) -> None:
    assert not is_soft(ids)


# ---- files ----


def save(folder: Path, name: str, picture: Image.Image, **settings: object) -> Path:
    picture.save(folder / name, **settings)
    return folder / name


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (200, 10, 10)])
def test_transparency_over_one_colour_is_the_mask(tmp_path: Path, colour: tuple) -> None:
    picture = Image.new("RGB", (96, 96), colour)
    picture.putalpha(Image.fromarray(disc()))
    loaded = load_mask(save(tmp_path, "a.png", picture))
    np.testing.assert_array_equal(loaded.values, disc())
    assert "from its transparency" in loaded.note


def test_ids_over_a_transparent_background_stay_ids(tmp_path: Path) -> None:
    ids = np.where(disc() > 0, 3, 0).astype(np.uint8)
    ids[40:50, 40:50] = 4
    picture = Image.merge("LA", (Image.fromarray(ids), Image.fromarray(disc())))
    np.testing.assert_array_equal(load_mask(save(tmp_path, "a.png", picture)).values, ids)


def test_a_cut_out_photograph_is_no_mask(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    picture = Image.fromarray(noise)
    picture.putalpha(Image.fromarray(disc()))
    with pytest.raises(ImageError, match="several colours as well as transparency"):
        load_mask(save(tmp_path, "a.png", picture))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_is_black_and_white_or_nothing(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(disc()).convert(mode)
    loaded = load_mask(save(tmp_path, "a.jpg", picture, quality=60))
    assert set(np.unique(loaded.values)) == {0, 255}
    assert ((loaded.values > 0) == (disc() > 0)).mean() > 0.99
    assert "compressed like a photograph" in loaded.note
    ids = Image.fromarray((disc() // 40).astype(np.uint8)).convert(mode)
    with pytest.raises(ImageError, match="compressed like a photograph, which changes ids"):
        load_mask(save(tmp_path, "ids.jpg", ids))


def test_fractions_are_cut_in_the_middle(tmp_path: Path) -> None:
    shares = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    loaded = load_mask(save(tmp_path, "a.tif", Image.fromarray(shares)))
    np.testing.assert_array_equal(loaded.values, np.where(shares > 0.5, 255, 0))
    assert loaded.note.endswith("cut at 0.5.")
    whole = np.array([[0, 1], [7, 255]], np.float32)
    loaded = load_mask(save(tmp_path, "b.tif", Image.fromarray(whole)))
    np.testing.assert_array_equal(loaded.values, whole)
    assert not loaded.note


def test_a_mask_turns_as_its_exif_says(tmp_path: Path) -> None:
    ids = np.arange(6, dtype=np.uint8).reshape(2, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path, "a.png", Image.fromarray(ids), exif=exif)
    np.testing.assert_array_equal(load_mask(path).values, np.rot90(ids, -1))
