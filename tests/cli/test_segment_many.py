"""A collection as a table of masks: every kind of source, damaged images, files for other tools."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO

from clipsam import segment_many
from clipsam.cli import main
from clipsam.data.images import open_image
from clipsam.data.synthetic import SceneData
from clipsam.encoded_image import EncodedImage
from clipsam.registry import load_predictor
from clipsam.types import prompt_from_classes

TEXT = ["--text", "red disc, zebra", "--method", "clip-surgery-sam"]
NAMES = ["0.png", "b/1.png", "b/2.png", "broken.jpg"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images of different sizes, one damaged file, and what is no image."""
    scenes, folder = SceneData(3, seed=4), tmp_path / "images"
    (folder / "b").mkdir(parents=True)
    for index, name in enumerate(NAMES[:3]):
        Image.fromarray(scenes[index].image[: 90 + 20 * index, :120]).save(folder / name)
    (folder / "broken.jpg").write_bytes((folder / "0.png").read_bytes()[:200])
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


def segment(source: Path | str, out: Path, *more: str) -> list[dict]:
    assert main(["segment", str(source), *TEXT, "--out", str(out), *more]) == 0
    return pq.read_table(out / "masks.parquet").to_pylist()


def timeless(rows: list[dict]) -> list[dict]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def decode(mask: dict) -> np.ndarray:
    return run_lengths.decode(mask["rle"]).astype(bool)


def test_a_protocol_prepares_the_images_of_a_folder_too(folder: Path, tmp_path: Path, capsys):
    """A preset that cannot prepare them so is refused, as it is for a single image."""
    for source in (folder, folder / "0.png"):
        out = ["--out", str(tmp_path / "out"), "--preset", "huge-sam"]
        words = ["segment", str(source), *TEXT, *out, "--protocol", "clip-guided-sam"]
        assert main(words) == 2
        assert "prepares images as the protocol clip-guided-sam does" in capsys.readouterr().err


def test_a_folder(folder: Path, tmp_path: Path, tiny, caplog):
    caplog.set_level("INFO")
    rows = segment(folder, tmp_path / "out")
    assert "4 images, 1 of them with an error" in caplog.text
    assert [row["key"] for row in rows] == NAMES
    predictor = load_predictor("clip-surgery-sam", tiny)
    for row in rows[:3]:
        image = open_image(folder / row["key"])
        assert (row["height"], row["width"]) == image.shape[:2]
        assert row["path"] == str(folder / row["key"]) and row["error"] is None
        assert (row["method"], row["preset"]) == ("clip-surgery-sam", "tiny")
        assert row["seconds"] > 0
        prediction = predictor.predict(
            EncodedImage(image), prompt_from_classes([["red disc"], ["zebra"]])
        )
        masks = dict(zip(prediction.texts, prediction.masks(), strict=True))
        presence = dict(zip(prediction.texts, prediction.presence, strict=True))
        assert [one["class"] for one in row["masks"]] == [n for n in masks if masks[n].any()]
        for one in row["masks"]:
            assert np.array_equal(decode(one), masks[one["class"]])
            assert one["area"] == masks[one["class"]].sum() and one["instance"] is None
            assert one["bbox"] == run_lengths.toBbox(one["rle"]).tolist()
            assert one["score"] == pytest.approx(float(presence[one["class"]]))
    broken = rows[3]
    assert broken["masks"] == [] and broken["height"] is None and "broken.jpg" in broken["error"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.json",
        "masks.parquet",
    ]


def test_it_goes_on_with_what_is_new(folder: Path, monkeypatch):
    out = folder / "out"  # inside, where its PNGs must not be taken for images
    before = segment(folder, out, "--png")
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(folder / "a.png")
    read = []
    monkeypatch.setattr(segment_many, "EncodedImage", lambda p: read.append(1) or EncodedImage(p))
    after = segment(folder, out, "--png")
    assert after[:-1] == before and after[-1]["key"] == "a.png" and len(read) == 1
    assert segment(folder, out) == after and len(read) == 1


def test_every_source_gives_the_same_masks(folder: Path, tmp_path: Path):
    expected = segment(folder, tmp_path / "0")
    contents = [(folder / name).read_bytes() for name in NAMES]

    (tmp_path / "shards").mkdir()
    for number in range(2):
        with tarfile.open(tmp_path / "shards" / f"s{number}.tar", "w") as archive:
            for index in (2 * number, 2 * number + 1):
                name, suffix = Path(NAMES[index]).with_suffix(""), Path(NAMES[index]).suffix
                for ending, content in (
                    ("json", b"{}"),
                    ("seg.png", b""),
                    (suffix[1:], contents[index]),
                ):
                    entry = tarfile.TarInfo(f"{name}.{ending}")
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))
    rows = segment(f"webdataset:{tmp_path / 'shards'}", tmp_path / "1")
    assert [row["key"] for row in rows] == ["s0.tar/0", "s0.tar/b/1", "s1.tar/b/2", "s1.tar/broken"]
    assert rows[0]["path"] == "s0.tar/0.png"
    assert [row["masks"] for row in rows] == [row["masks"] for row in expected]
    assert "broken" in rows[3]["error"]

    structs = [
        {"bytes": content, "path": name} for content, name in zip(contents, NAMES, strict=True)
    ]
    pq.write_table(pa.table({"label": [1, 2, 3, 4], "image": structs}), tmp_path / "t.parquet")
    rows = segment(f"parquet:{tmp_path / 't.parquet'}", tmp_path / "2")
    assert [row["key"] for row in rows] == [f"t.parquet/{index}" for index in range(4)]
    assert [row["masks"] for row in rows] == [row["masks"] for row in expected]

    keys = ["x", "y", "x", "z"]
    pq.write_table(pa.table({"key": keys, "jpg": [*contents[:3], None]}), tmp_path / "u.parquet")
    rows = segment(f"parquet:{tmp_path / 'u.parquet'}", tmp_path / "3")
    assert [row["key"] for row in rows] == ["x", "y", "x (2)", "z"]
    assert [row["masks"] for row in rows] == [row["masks"] for row in expected]
    assert rows[3]["error"] == "u.parquet/3 has no bytes of an image."


def test_a_coco_source_keeps_its_ids(folder: Path, tmp_path: Path):
    """So that what is exported is read as results of the file that it was made from."""
    expected = segment(folder, tmp_path / "0")
    (tmp_path / "annotations").mkdir()
    listing = tmp_path / "annotations" / "instances_images.json"
    images = []
    for number, row in enumerate(expected[:3]):
        size = {"height": row["height"], "width": row["width"]}
        images.append({"id": 70 - number, "file_name": row["key"], **size})
    images.append({"id": 5, "file_name": "missing.png", "height": 3, "width": 3})
    names = [{"id": 9, "name": "Zebra"}, {"id": 3, "name": "cat"}]
    listing.write_text(json.dumps({"images": images, "annotations": [], "categories": names}))
    rows = segment(f"coco:{listing}", tmp_path / "1", "--coco", "--regions")
    assert [row["key"] for row in rows] == [*NAMES[:3], "missing.png"]
    assert "missing.png" in rows[3]["error"]
    content = json.loads((tmp_path / "1" / "coco.json").read_text())
    assert [one["id"] for one in content["images"]] == [70, 69, 68]
    assert {one["name"]: one["id"] for one in content["categories"]} == {"red disc": 10, "zebra": 9}
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(listing)
        truth.loadRes(content["annotations"])
    # The regions of a class are its mask, each of them with a number of its own.
    for row, whole in zip(rows[:3], expected, strict=False):
        assert [one["instance"] for one in row["masks"]] == list(range(1, len(row["masks"]) + 1))
        for mask in whole["masks"]:
            parts = [decode(one) for one in row["masks"] if one["class"] == mask["class"]]
            assert np.array_equal(np.sum(parts, axis=0), decode(mask))


def test_files_for_other_tools(folder: Path, tmp_path: Path):
    out = tmp_path / "out"
    rows = segment(folder, out, "--yolo", "--png", "--coco")
    for row in rows[:3]:
        stem = Path(row["key"]).with_suffix("")
        lines = (out / "yolo" / "labels" / f"{stem}.txt").read_text().splitlines()
        assert len(lines) == len(row["masks"])
        labels = np.asarray(Image.open(out / "label-maps" / f"{stem}.png"))
        union = np.any([decode(one) for one in row["masks"]], axis=0)
        assert np.array_equal(labels > 0, union)
    assert not (out / "label-maps" / "broken.png").exists()


def test_one_image_is_as_it_was_and_has_the_files_asked_for(folder: Path, tmp_path: Path):
    image = folder / "0.png"
    assert main(["segment", str(image), *TEXT, "--out", str(tmp_path / "0")]) == 0
    plain = sorted(path.name for path in (tmp_path / "0" / "clip-surgery-sam").iterdir())
    assert not set(plain) & {"coco.json", "yolo", "label-maps"}
    more = ["--coco", "--yolo", "--png"]
    assert main(["segment", str(image), *TEXT, "--out", str(tmp_path / "1"), *more]) == 0
    there = tmp_path / "1" / "clip-surgery-sam"
    assert (there / "yolo" / "labels" / "0.txt").is_file()
    assert (there / "instance-maps" / "0.png").is_file()
    listed = {"coco.json", "instance-maps", "label-maps", "yolo"}
    assert {path.name for path in there.iterdir()} == {*plain, *listed}
    content = json.loads((there / "coco.json").read_text())
    annotations = json.loads((there / "annotations.json").read_text())["annotations"]
    assert content["annotations"] == annotations


def test_a_damaged_archive_ends_with_a_row(folder: Path, tmp_path: Path):
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w") as archive:
        for name in NAMES[:3]:
            archive.add(folder / name, name)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    rows = segment(f"webdataset:{path}", tmp_path / "out")
    assert rows[0]["error"] is None and "damaged" in rows[-1]["error"]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (["--point", "zebra:1,2,1"], "--point is for a single image"),
        (["--truth", "x.png"], "--truth is for a single image"),
        (["--method", "esc-net"], "one --method"),
        (["--overlap", "argmax"], "no --overlap"),
    ],
)
def test_what_a_folder_does_not_take(folder: Path, tmp_path: Path, capsys, changed, says):
    assert main(["segment", str(folder), *TEXT, "--out", str(tmp_path / "out"), *changed]) == 2
    message = capsys.readouterr().err
    assert says in message and message.count("\n") == 1


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("empty", "holds no image"),
        ("parquet:nothing", "is no file"),
        ("parquet:images/notes.txt", "not a Parquet file"),
        ("parquet:plain.parquet", "no column of image bytes; its columns are a"),
        ("webdataset:empty", "no folder of .tar"),
        ("coco:images/notes.txt", "not valid JSON"),
    ],
)
def test_bad_sources_are_one_sentence(
    folder: Path, tmp_path: Path, capsys, source, says, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    pq.write_table(pa.table({"a": [1]}), "plain.parquet")
    assert main(["segment", source, *TEXT, "--out", "out"]) == 2
    message = capsys.readouterr().err
    assert says in message and message.count("\n") == 1


def test_a_folder_of_results_belongs_to_one_job(folder: Path, tmp_path: Path, capsys):
    segment(folder, tmp_path / "out")
    for more in (["--threshold", "1"], ["--regions"], ["--num-points", "3"]):
        arguments = ["segment", str(folder), *TEXT, "--out", str(tmp_path / "out"), *more]
        assert main(arguments) == 2
        assert "contains masks with another setting" in capsys.readouterr().err
    arguments = ["segment", str(folder), "--text", "a", "--method", "sam"]
    assert main([*arguments, "--out", str(tmp_path / "new")]) == 2
    assert "needs a foreground point" in capsys.readouterr().err
    (tmp_path / "out" / "masks.parquet").write_bytes(b"PAR1")
    assert main(["segment", str(folder), *TEXT, "--out", str(tmp_path / "out")]) == 2
    assert "is damaged" in capsys.readouterr().err


def test_interrupted_by_ctrl_c_what_was_done_is_kept(folder: Path, tmp_path: Path, monkeypatch):
    expected, read = segment(folder, tmp_path / "0"), []

    def stop_at_the_second(pixels: np.ndarray) -> EncodedImage:
        read.append(1)
        if len(read) == 2:
            raise KeyboardInterrupt
        return EncodedImage(pixels)

    monkeypatch.setattr(segment_many, "EncodedImage", stop_at_the_second)
    out = tmp_path / "1"
    assert main(["segment", str(folder), *TEXT, "--out", str(out)]) == 130
    assert len(list((out / "parts").iterdir())) == 1
    assert timeless(segment(folder, out)) == timeless(expected)
    assert len(read) == 4
