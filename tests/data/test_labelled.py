"""What people upload as labelled pictures: accepted as meant, or refused with one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

from clipsam.data.labelled import (
    KEPT_SIDE,
    MAX_IMAGES,
    LabelledImages,
    from_ids,
    from_masks,
    read_upload,
    with_more,
)
from clipsam.data.readers import DataError
from clipsam.data.samples import BACKGROUND, VOID

SIZE = (20, 30)


def picture(seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def square(value: int = 255, size: tuple[int, int] = SIZE) -> np.ndarray:
    ids = np.zeros(size, np.int64)
    ids[5:15, 5:15] = value
    return ids


def save(folder: Path, name: str, values: np.ndarray) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)
    return path


# ---- ids and masks ----


@pytest.mark.parametrize("white", [1, 7, 255])
def test_a_black_and_white_mask_shows_the_one_name(white: int) -> None:
    made = from_ids("a", picture(), square(white), ["  my   dog "])
    assert made.names == ("my dog",)
    assert np.array_equal(made.classes == 0, square() > 0)
    assert set(np.unique(made.classes)) == {BACKGROUND, 0}


def test_ids_are_the_places_of_their_names() -> None:
    ids = square(2)
    ids[0, 0], ids[0, 1], ids[0, 2] = 1, 255, 3
    made = from_ids("a", picture(), ids, ["background", "cat", "dog", "unlabelled", "never there"])
    assert made.names == ("cat", "dog")
    assert np.array_equal(made.classes == 1, ids == 2)
    assert made.classes[0, 0] == 0
    assert made.classes[0, 1] == made.classes[0, 2] == VOID
    assert made.classes[0, 3] == BACKGROUND


def test_of_masks_that_overlap_the_smallest_counts() -> None:
    car, wheel = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    car[2:18], wheel[10:14, 3:8] = True, True
    made = from_masks("a", picture(), {"wheel": wheel, "car": car, "sky": np.zeros(SIZE, bool)})
    assert made.names == ("wheel", "car")
    assert np.array_equal(made.classes == 0, wheel)
    assert np.array_equal(made.classes == 1, car & ~wheel)


def test_a_large_picture_is_made_smaller() -> None:
    size = (600, 2048)
    mask = np.zeros(size, bool)
    mask[:300] = True
    made = from_masks("a", picture(size=size), {"top": mask})
    assert made.image.shape == (300, KEPT_SIDE, 3)
    assert np.array_equal(made.classes[:, 0] == 0, np.arange(300) < 150)


@pytest.mark.parametrize(
    ("ids", "names", "sentence"),
    [
        (square(size=(20, 31)), ["dog"], "a: the mask is 31 × 20 pixels, but the image is 30"),
        (square(0), ["dog"], "a: the mask has no foreground"),
        (square(255), ["background", "dog", "cat"], "contains only 0, 255, as a binary mask does"),
        (square(1), [], "Every class needs a name"),
        (square(1), ["dog", " "], "Every class needs a name"),
        (square(4), ["background", "dog"], "contains the id 4, but names are given for 0 to 1"),
        (square(1) + np.eye(20, 30, dtype=int), ["dog"], "contains the ids 1, 2, but only “dog”"),
    ],
    ids=["size", "black", "binary", "nameless", "blank", "unnamed", "several"],
)
def test_ids_that_cannot_be_used(ids: np.ndarray, names: list[str], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        from_ids("a", picture(), ids, names)


def test_masks_that_cannot_be_used() -> None:
    with pytest.raises(DataError, match="Both must have the same size"):
        from_masks("a", picture(), {"dog": np.ones((3, 3), bool)})
    with pytest.raises(DataError, match="no foreground"):
        from_masks("a", picture(), {"dog": np.zeros(SIZE, bool)})
    with pytest.raises(DataError, match="Two classes are named “Dog”"):
        from_masks("a", picture(), {"Dog": np.ones(SIZE, bool), "dog": np.ones(SIZE, bool)})


# ---- files ----


def test_files_find_their_masks(tmp_path: Path) -> None:
    paths = [
        save(tmp_path, "b.png", picture(1)),
        save(tmp_path, "b_mask.png", square()),
        save(tmp_path, "a.jpg", picture(2)),
        save(tmp_path, "a.png", square()),
    ]
    first, second = read_upload(paths, ["dog"])
    assert (first.key, second.key) == ("a", "b")
    assert np.array_equal(second.image, picture(1))
    assert np.array_equal(first.classes == 0, square() > 0)


def archive(
    folder: Path, *left_out: str, names: object = ("background", "dog"), top: str = ""
) -> Path:
    path = folder / "pictures.zip"
    with ZipFile(path, "w") as made:
        for index in range(4):
            for name, values in (
                (f"images/{index}.png", picture(index)),
                (f"masks/{index}.png", square(1)),
            ):
                if name not in left_out:
                    made.write(save(folder, name, values), top + name)
        if "classes.json" not in left_out:
            made.writestr(f"{top}classes.json", json.dumps(names))
        made.writestr(f"__MACOSX/{top}images/._0.png", "no picture")
    return path


@pytest.mark.parametrize("top", ["", "my pictures/"])
def test_an_archive_brings_its_names(tmp_path: Path, top: str) -> None:
    made = read_upload([archive(tmp_path, top=top)], ["something else"])
    assert [one.key for one in made] == ["0", "1", "2", "3"]
    assert all(one.names == ("dog",) for one in made)
    assert np.array_equal(made[2].image, picture(2))


def test_an_archive_without_names_takes_the_typed_ones(tmp_path: Path) -> None:
    made = read_upload([archive(tmp_path, "classes.json")], ["cat"])
    assert all(one.names == ("cat",) for one in made)


def cut_off(folder: Path) -> list[Path]:
    whole = archive(folder).read_bytes()
    (folder / "cut.zip").write_bytes(whole[: len(whole) // 2])
    return [folder / "cut.zip"]


def bare_archive(folder: Path) -> list[Path]:
    with ZipFile(folder / "bare.zip", "w") as made:
        made.writestr("notes.txt", "nothing")
    return [folder / "bare.zip"]


def no_picture(folder: Path) -> list[Path]:
    (folder / "a.jpg").write_text("no picture")
    return [folder / "a.jpg", save(folder, "a.png", square())]


def colourful_mask(folder: Path) -> list[Path]:
    return [save(folder, "a.jpg", picture()), save(folder, "a_mask.png", picture())]


def too_many(folder: Path) -> list[Path]:
    names = [f"{index}{ending}" for index in range(MAX_IMAGES + 1) for ending in (".jpg", ".png")]
    return [folder / name for name in names]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda _: [], "Choose files first"),
        (lambda f: [save(f, "a.jpg", picture())], "a.jpg has no mask. Add a.png or a_mask.png"),
        (lambda f: [save(f, "a.png", square())], "a.png has no partner"),
        (
            lambda f: [save(f, n, square()) for n in ("a.jpg", "a.bmp")],
            "Cannot tell which file of a is",
        ),
        (lambda f: [archive(f), save(f, "a.png", square())], "either one zip, or images"),
        (lambda f: [archive(f, "masks/2.png")], "images/2.png has no mask masks/2.png"),
        (lambda f: [archive(f, names={"0": "dog"})], "classes.json is not a list of class names"),
        (cut_off, "cut.zip is not a zip archive"),
        (bare_archive, "bare.zip contains no labelled images"),
        (no_picture, "a.jpg is not a supported image"),
        (colourful_mask, "a_mask.png is a colour image"),
        (too_many, "33 images are more than the limit of 32"),
    ],
)
def test_uploads_that_cannot_be_used(
    tmp_path: Path, make: Callable[[Path], list[Path]], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence) as caught:
        read_upload(make(tmp_path), ["dog"])
    assert str(tmp_path) not in str(caught.value)


def test_an_archive_cannot_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipsam.data.unpacking.MAX_BYTES", 1000)
    with pytest.raises(DataError, match="when unpacked"):
        read_upload([archive(tmp_path)], ["dog"])


# ---- several ----


def labelled(index: int, name: str = "dog"):
    return from_ids(f"{index}", picture(index), square(), [name])


def test_pictures_join_into_one_data_set() -> None:
    data = LabelledImages([labelled(0, "Dog"), labelled(1, "cat"), labelled(2, "dog")])
    assert data.names == ("Dog", "cat")
    assert data.keys == ("0", "1", "2")
    assert [data[index].present() for index in range(3)] == [[0], [1], [0]]
    assert all(data[index].names == data.names for index in range(3))


def test_a_picture_is_there_once_and_there_are_at_most_32() -> None:
    full = with_more((), [labelled(index) for index in range(MAX_IMAGES)])
    assert len(full) == MAX_IMAGES
    with pytest.raises(DataError, match="33 images are more than the limit of 32"):
        with_more(full, [labelled(MAX_IMAGES)])
    with pytest.raises(DataError, match="There is already an image 1"):
        with_more(full[:4], [labelled(1)])
    again = from_ids("again", picture(2), square(), ["dog"])
    with pytest.raises(DataError, match="again is the same image as 2"):
        with_more(full[:4], [again])


def test_a_large_photograph_is_decoded_small_and_its_mask_follows(tmp_path: Path) -> None:
    """The left half, of a JPEG that is decoded at a quarter; a mask of another size is told."""
    wide = np.zeros((1600, 8200, 3), np.uint8)
    ids = np.zeros((1600, 8200), np.uint8)
    wide[:, :4100], ids[:, :4100] = 255, 1
    files = [save(tmp_path, "a.jpg", wide), save(tmp_path, "a_mask.png", ids)]
    (one,) = read_upload(files, ["left"])
    assert one.image.shape == (200, KEPT_SIDE, 3)
    assert np.array_equal(one.classes == 0, one.image[..., 0] > 127)
    assert one.classes[0, 511] == 0 and one.classes[0, 513] == BACKGROUND
    save(tmp_path, "a_mask.png", ids[:, :8100])
    with pytest.raises(DataError, match="the mask is 8100 × 1600 pixels, but the image is 8200 ×"):
        read_upload(files, ["left"])
