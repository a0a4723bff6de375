"""Archives of labels: the same in every place that takes them, and none at others' cost."""

from __future__ import annotations

import json
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipsam.data import unpacking
from clipsam.data.labelled import read_upload
from clipsam.data.readers import DataError, open_data
from clipsam.data.samples import LabelledImage
from clipsam.data.uploads import from_zip

SIZE = (24, 30)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)


def ids(seed: int) -> np.ndarray:
    """A mask of background, cat and dog, each of them present."""
    made = np.random.default_rng(seed).integers(0, 3, SIZE).astype(np.uint8)
    made[0, :3] = 0, 1, 2
    return made


def write(path: Path, top: str = "", between: str = "/", litter: bool = False) -> Path:
    """Write a zip of two labelled images by hand."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:

        def add(name: str, content: bytes | str) -> None:
            info = zipfile.ZipInfo("x")
            info.filename = (top + name).replace("/", between)  # ZipInfo itself would mend it.
            archive.writestr(info, content)

        for number in range(2):
            for folder, values in (("images", picture(number)), ("masks", ids(number))):
                file = path.with_name("one.png")
                Image.fromarray(values).save(file)
                add(f"{folder}/{number}.png", file.read_bytes())
        add("classes.json", json.dumps(["background", "cat", "dog"]))
        if litter:
            for name in ("Thumbs.db", "images/Thumbs.db", "masks/desktop.ini", "images/._0.png"):
                add(name, b"litter")
            archive.writestr("__MACOSX/images/._1.png", b"litter")
            archive.writestr(".DS_Store", b"litter")
    return path


def in_evaluate(path: Path) -> list[LabelledImage]:
    source = from_zip(path)
    data = source.open(source.first_part)
    found = [data[index] for index in range(len(data))]
    source.close()
    return found


def on_the_command_line(path: Path) -> list[LabelledImage]:
    data = open_data(f"folder:{path}", "val")
    return [data[index] for index in range(len(data))]


PLACES = {
    "evaluate": in_evaluate,
    "adapt": lambda path: read_upload([path], ()),
    "command line": on_the_command_line,
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("top", ["", "my pictures/", "a/b/"])
@pytest.mark.parametrize("between", ["/", "\\"], ids=["slashes", "backslashes"])
def test_every_archive_is_the_same_everywhere(
    tmp_path: Path, place: str, top: str, between: str
) -> None:
    found = PLACES[place](write(tmp_path / "my.zip", top, between, litter=True))
    assert [one.key for one in found] == ["0", "1"]
    for number, one in enumerate(found):
        np.testing.assert_array_equal(one.image, picture(number))
        for value, name in ((1, "cat"), (2, "dog")):
            np.testing.assert_array_equal(
                one.classes == one.names.index(name), ids(number) == value
            )


@pytest.mark.parametrize("place", PLACES)
def test_backslashes_as_windows_writes_them(place: str) -> None:
    path = Path(__file__).resolve().parents[3] / "shared" / "cases" / "paths" / "backslash.zip"
    if not path.is_file():
        pytest.skip(f"small odd inputs are not here: {path}")
    assert PLACES[place](path)


def test_adapt_takes_listings_too(tmp_path: Path) -> None:
    """A COCO JSON with one square, whose pixels are known."""
    Image.fromarray(picture(0)).save(tmp_path / "photo.png")
    listing = {
        "images": [{"id": 1, "file_name": "photo.png", "height": 24, "width": 30}],
        "categories": [{"id": 5, "name": "dog"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 5,
                "segmentation": [[4, 6, 14, 6, 14, 16, 4, 16]],
            }
        ],
    }
    with zipfile.ZipFile(tmp_path / "coco.zip", "w") as archive:
        archive.write(tmp_path / "photo.png", "photo.png")
        archive.writestr("labels.json", json.dumps(listing))
    (one,) = read_upload([tmp_path / "coco.zip"], ())
    square = np.zeros(SIZE, bool)
    square[6:16, 4:14] = True
    assert one.names == ("dog",)
    np.testing.assert_array_equal(one.classes == 0, square)


# ---- what costs too much ----


def bomb(path: Path) -> Path:
    """300 MB of zeros in 0.3 MB."""
    write(path)
    zeros = bytes(2**20)
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("images/zeros.bmp", "w", force_zip64=True) as file,
    ):
        for _ in range(300):
            file.write(zeros)
    return path


def lying(path: Path) -> Path:
    """The same, by a directory that says one byte."""
    content = bomb(path).read_bytes()
    size = (300 * 2**20).to_bytes(4, "little")
    assert content.count(size) >= 1
    path.write_bytes(content.replace(size, (1).to_bytes(4, "little")))
    return path


def many_files(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(unpacking.MAX_FILES + 1):
            archive.writestr(f"images/{number}", b"")
    return path


def endless_directory(path: Path) -> Path:
    """A directory of 100 MB, announced as it is; nothing of it may be read."""
    entries = bytes(100 * 2**20)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 9, 9, len(entries), 0, 0)
    path.write_bytes(entries + end)
    return path


def endless_names(path: Path) -> Path:
    write(path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train/classes.json", json.dumps([f"class {n}" for n in range(300_000)]))
    return path


def many_names(path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for folder in ("images", "masks"):
            archive.writestr(f"{folder}/a.png", b"")
        archive.writestr("classes.json", json.dumps([f"c{n}" for n in range(70_000)]))
    return path


COSTLY: dict[str, tuple[Callable[[Path], Path], str]] = {
    "bomb": (bomb, "grows more than 100 times when unpacked"),
    "lying": (lying, "is a damaged zip"),
    "many files": (many_files, "contains 20,001 files, more than the limit of 20,000"),
    "endless directory": (endless_directory, "more files than the limit of 20,000"),
    "endless names": (endless_names, "contains classes.json of more than 1 MB"),
    "many names": (many_names, "has 70,000 classes, more than the limit of 1,000"),
}


@pytest.mark.parametrize("case", COSTLY)
@pytest.mark.parametrize("place", ["evaluate", "adapt"])
def test_what_costs_too_much_is_refused_at_once(tmp_path: Path, place: str, case: str) -> None:
    make, says = COSTLY[case]
    path = make(tmp_path / "my.zip")
    began = time.process_time()
    with pytest.raises(DataError) as caught:
        PLACES[place](path)
    # A second is promised; the limit allows for slow machines and still tells seconds from none.
    assert time.process_time() - began < 3
    sentence = str(caught.value)
    assert (says in sentence and "my.zip" in sentence) or "classes.json" in sentence
    assert "/tmp" not in sentence and str(tmp_path) not in sentence
    assert len(sentence.splitlines()) == 1


def test_what_comes_out_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small files count together, and nothing beyond the limit is written."""
    path = write(tmp_path / "my.zip")
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(8):
            archive.writestr(f"images/{number}.bin", bytes(1000))
    monkeypatch.setattr(unpacking, "MAX_BYTES", 7_000)
    (tmp_path / "there").mkdir()
    with pytest.raises(DataError, match="GB when unpacked"):
        unpacking.unpack(path, tmp_path / "there")
    written = sum(p.stat().st_size for p in (tmp_path / "there").rglob("*") if p.is_file())
    assert written <= 7_000
