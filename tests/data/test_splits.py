"""Splits: the papers' sizes, files in the published form, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from clipsam.data.readers import DataError
from clipsam.data.splits import choose_split


class Listed:
    """Only the names of a data set: a split never reads an image."""

    names = ("cat",)

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = keys

    def __len__(self) -> int:
        return len(self.keys)


def numbered(count: int) -> Listed:
    return Listed([f"{number:012d}" for number in range(count)])


COCO, ADE20K, VOC = 118_287, 20_210, 1_464


@pytest.mark.parametrize(
    ("total", "sizes"),
    [
        (COCO, {"1/512": 232, "1/256": 463, "1/128": 925, "1/64": 1849, "1/32": 3697}),
        (ADE20K, {"1/64": 316, "1/32": 631, "1/16": 1262, "1/8": 2526, "1/4": 5052}),
        (VOC, {"1/16": 92, "1/8": 183, "1/4": 366, "1/2": 732}),
        (10, {"1/3": 4, "1/512": 1, "1/1": 10}),
    ],
)
def test_sizes_of_the_papers(total, sizes):
    data = numbered(total)
    for text, size in sizes.items():
        split = choose_split(data, text, seed=0)
        assert len(set(split.indices)) == len(split.indices) == size
        assert min(split.indices) >= 0 and max(split.indices) < total


def test_only_ade20k_rounds_like_ade20k():
    assert len(choose_split(numbered(ADE20K), "1/32", 0, "ade20k").indices) == 631
    assert len(choose_split(numbered(ADE20K), "1/32", 0, "folder").indices) == 632


def test_names_say_how_the_images_were_chosen():
    data = numbered(COCO)
    assert choose_split(data, "1/512", 0).name == "1/512 (232 images, seeded random, seed 0)"
    assert choose_split(data, "16", 3).name == "16 images (seeded random, seed 3)"
    assert choose_split(data, "full", 0).name == "full (118287 images)"


def test_random_splits():
    data = numbered(200)
    first = choose_split(data, "20", 1).indices
    assert first == choose_split(data, "20", 1).indices
    assert first != choose_split(data, "20", 2).indices
    assert set(first) < set(choose_split(data, "1/4", 1).indices)
    assert choose_split(data, "full", 1).indices == tuple(range(200))


@pytest.mark.parametrize(
    "text",
    [
        "train2017/000000000003.jpg masks/000000000003.png\n"
        "train2017/000000000001.jpg masks/000000000001.png\n",
        "JPEGImages/000000000003.jpg\n\nJPEGImages/000000000001.jpg\n",
        "000000000003\n000000000001\n000000000003\n",
    ],
    ids=["pairs", "images", "stems"],
)
def test_file(tmp_path, text):
    path = tmp_path / "labeled.txt"
    path.write_text(text)
    split = choose_split(numbered(5), str(path), seed=0)
    assert split.indices == (3, 1)
    assert split.name == f"{path} (2 images)"


def test_file_with_names_of_several_data_sets_and_with_spaces(tmp_path):
    path = tmp_path / "split.txt"
    path.write_text("coco/a\nmy dog.jpg\n1.5 metres.jpg\n")
    split = choose_split(Listed(["my dog", "coco/a", "1.5 metres"]), str(path), seed=0)
    assert split.indices == (1, 0, 2)


def test_file_errors(tmp_path):
    path = tmp_path / "labeled.txt"
    path.write_text("images/1.jpg masks/1.png\nimages/nine.jpg masks/nine.png\n")
    with pytest.raises(DataError, match=r"labeled\.txt lists images/nine\.jpg"):
        choose_split(Listed(["1", "2"]), str(path), seed=0)
    path.write_text("\n")
    with pytest.raises(DataError, match=r"labeled\.txt is empty"):
        choose_split(Listed(["1", "2"]), str(path), seed=0)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"labeled\.txt cannot be read"):
        choose_split(Listed(["1", "2"]), str(path), seed=0)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("some", "is not valid, expected full, a fraction such as 1/512"),
        ("-1", "is not valid, expected full"),
        ("1/0", "is not valid, expected full"),
        ("0.5", "is not valid, expected full"),
        ("", "is not valid, expected full"),
        ("11", "needs 11 images, but the data set has 10 images"),
        ("3/2", "needs 15 images, but the data set has 10 images"),
        ("0", "empty"),
        ("0/4", "empty"),
    ],
)
def test_refused(text, named):
    with pytest.raises(DataError, match=named):
        choose_split(numbered(10), text, seed=0)


def test_no_image_at_all():
    for text in ("full", "1/4"):
        with pytest.raises(DataError, match="empty"):
            choose_split(numbered(0), text, seed=0)
