"""Reading everything once: the samples, and the first bad image by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipsam.data.checking import CheckedData, check_data
from clipsam.data.readers import DataError, FolderData, open_data


@pytest.fixture
def folder(tmp_path) -> Path:
    """Four images: a cat; a cat and a dog; background alone; a single pixel of a dog."""
    masks = [
        [[0, 1, 1], [0, 255, 1]],
        [[1, 1, 2], [0, 0, 2]],
        [[0, 0, 0], [0, 0, 255]],
        [[0, 0, 0], [0, 2, 0]],
    ]
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for name, mask in zip("abcd", masks, strict=True):
        Image.fromarray(np.zeros((2, 3, 3), np.uint8)).save(tmp_path / "images" / f"{name}.png")
        Image.fromarray(np.array(mask, np.uint8)).save(tmp_path / "masks" / f"{name}.png")
    (tmp_path / "classes.json").write_text(json.dumps(["background", "cat", "dog"]))
    return tmp_path


def test_samples_are_the_classes_present(folder):
    checked = check_data(FolderData(folder), (3, 0, 1, 2))
    assert checked == CheckedData(((3, 1), (0, 0), (1, 0), (1, 1)), ())


def wrong_size(folder: Path) -> None:
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(folder / "masks" / "b.png")


def wrong_id(folder: Path) -> None:
    Image.fromarray(np.full((2, 3), 7, np.uint8)).save(folder / "masks" / "b.png")


def cut_off(folder: Path) -> None:
    path = folder / "images" / "b.png"
    path.write_bytes(path.read_bytes()[:40])


def gone(folder: Path) -> None:
    (folder / "images" / "b.png").unlink()


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (wrong_size, r"masks/b\.png is 3 × 3 pixels, but its image .*images/b\.png is 3 × 2"),
        (wrong_id, r"masks/b\.png contains the id 7, but names are given for 0 to 2 only"),
        (cut_off, r"images/b\.png: .*"),
        (gone, r"images/b\.png: b\.png does not exist"),
    ],
)
def test_bad_image(folder, damage, sentence):
    data = FolderData(folder)
    damage(folder)
    with pytest.raises(DataError, match=sentence):
        check_data(data, range(4))
    seen = []
    checked = check_data(
        data, range(4), skip_bad=True, progress=lambda done, total: seen.append((done, total))
    )
    assert checked.samples == ((0, 0), (3, 1))
    assert len(checked.left_out) == 1
    with pytest.raises(DataError, match=sentence):
        raise DataError(checked.left_out[0])
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_no_sample(folder):
    with pytest.raises(DataError, match="none of 1 images shows a named class"):
        check_data(FolderData(folder), [2])
    wrong_size(folder)
    with pytest.raises(DataError, match="1 could not be used"):
        check_data(FolderData(folder), [1, 2], skip_bad=True)


@pytest.mark.parametrize("spec", ["folder:{}/camvid", "folder:{}/ccp", "coco-panoptic:{}/coco100"])
def test_real_data_is_sound(photographs, spec):
    data = open_data(spec.format(photographs), "val")
    checked = check_data(data, range(0, len(data), 10))
    assert {index for index, _ in checked.samples} == set(range(0, len(data), 10))
    assert not checked.left_out
