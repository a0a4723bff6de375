"""Files and their labels find each other whatever their names look like."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path, PurePath
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

from clipsam.data.labelled import read_upload
from clipsam.data.pairing import FileIndex, is_litter
from clipsam.data.readers import DataError, NamedData, open_data
from clipsam.data.uploads import from_zip

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
LITTER = ("Thumbs.db", "desktop.ini", "._a.png", ".DS_Store", ".hidden/a.png", "__MACOSX/a.png")
IDS = np.array([[0, 1], [1, 0]], np.uint8)


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((2, 2, 3), 90, np.uint8)).save(path)
    return path


def mask(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(IDS).save(path)
    return path


def litter(folder: Path) -> None:
    for name in ("Thumbs.db", "desktop.ini", "._a.png", "._cafe.jpg"):
        (folder / name).write_bytes(b"nothing of yours")


@pytest.mark.parametrize("name", LITTER)
def test_litter(name: str) -> None:
    assert is_litter(PurePath(name))


@pytest.mark.parametrize("name", ["a.png", "thumbs.png", "images/a.png", "../a.png"])
def test_no_litter(name: str) -> None:
    assert not is_litter(PurePath(name))


PAIRS = [("a.jpg", "a.PNG"), ("a.PNG", "a.png"), (f"{NFC}.jpg", f"{NFD}.png")]


@pytest.mark.parametrize(("picture", "labels"), PAIRS)
def test_in_a_folder(tmp_path: Path, picture: str, labels: str) -> None:
    image(tmp_path / "images" / picture)
    mask(tmp_path / "masks" / labels)
    litter(tmp_path / "images")
    litter(tmp_path / "masks")
    (tmp_path / "classes.json").write_text(json.dumps(["background", "cat"]))
    data = open_data(f"folder:{tmp_path}", "val")
    assert data.keys == (unicodedata.normalize("NFC", PurePath(picture).stem),)
    np.testing.assert_array_equal(data[0].classes == 0, IDS == 1)


@pytest.mark.parametrize(("picture", "labels"), [PAIRS[0], PAIRS[2]])
@pytest.mark.parametrize("packed", [False, True])
def test_in_an_upload(tmp_path: Path, picture: str, labels: str, packed: bool) -> None:
    files = [image(tmp_path / "images" / picture), mask(tmp_path / "masks" / labels)]
    (tmp_path / "Thumbs.db").write_bytes(b"nothing of yours")
    files.append(tmp_path / "Thumbs.db")
    if packed:
        with ZipFile(tmp_path / "all.zip", "w") as archive:
            for file in files:
                archive.write(file, str(file.relative_to(tmp_path)))
        files = [tmp_path / "all.zip"]
    (sample,) = read_upload(files, ["background", "cat"])
    np.testing.assert_array_equal(sample.classes == 0, IDS == 1)


@pytest.mark.parametrize(("listed", "stored"), [("a.jpg", "a.JPG"), (f"{NFC}.jpg", f"{NFD}.jpg")])
def test_in_coco_json(tmp_path: Path, listed: str, stored: str) -> None:
    image(tmp_path / "val2017" / stored)
    content = {
        "images": [{"id": 1, "file_name": listed, "height": 2, "width": 2}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "segmentation": [[0, 0, 1, 0, 1, 1, 0, 1]]}
        ],
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    sample = open_data(f"coco-instances:{tmp_path}", "val")[0]
    assert sample.classes[0, 0] == 0
    with ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("labels.json", json.dumps(content))
        archive.write(tmp_path / "val2017" / stored, f"images/{stored}")
    source = from_zip(tmp_path / "all.zip")
    assert source.open(source.first_part)[0].present() == [0]
    source.close()


def test_in_published_layouts_and_lists_of_names(tmp_path: Path) -> None:
    image(tmp_path / "JPEGImages" / "a.JPG")
    mask(tmp_path / "SegmentationClass" / "a.PNG")
    listing = tmp_path / "ImageSets" / "Segmentation" / "val.txt"
    listing.parent.mkdir(parents=True)
    listing.write_text("a\n", encoding="utf-8-sig")
    np.testing.assert_array_equal(open_data(f"voc:{tmp_path}", "val")[0].classes == 0, IDS == 1)
    image(tmp_path / "images" / f"{NFD}.jpg")
    (tmp_path / "labels.json").write_text(json.dumps({f"{NFC}.jpg": "coffee"}))
    assert NamedData(tmp_path)[0].image.shape == (2, 2, 3)


def test_an_exact_name_comes_first(tmp_path: Path) -> None:
    lower, upper = image(tmp_path / "a.png"), image(tmp_path / "a.PNG")
    files = FileIndex(tmp_path)
    assert (files.find("a.png"), files.find("a.PNG")) == (lower, upper)
    assert files.find("b.png") is None
    assert files.locate("b.png") == tmp_path / "b.png"


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in (f"{NFC}.jpg", f"{NFD}.jpg"):
        image(tmp_path / "images" / name)
    mask(tmp_path / "masks" / f"{NFC}.png")
    (tmp_path / "classes.json").write_text('["background", "cat"]')
    with pytest.raises(DataError, match=f"more than one image {NFC}"):
        open_data(f"folder:{tmp_path}", "val")
