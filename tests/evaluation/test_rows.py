"""Rows on disk: nothing is lost but the image that was being scored, nothing counts twice."""

from __future__ import annotations

import math

import pytest

from clipsam.data.readers import DataError
from clipsam.evaluation.metrics import Counts, SampleScore
from clipsam.evaluation.rows import Row, RowWriter, read_rows


def row(image: str, name: str, seed: int = 0, **score) -> Row:
    fields = {"values": {"mae": 0.25, "iou": 0.5}, "seconds": 0.125, "presence": 0.75, **score}
    return Row("sam", "manual", seed, SampleScore(name, Counts(1, 2, 3), image, **fields))


IMAGES = {
    "a": [row("a", "cat"), row("a", "Kätzchen “1”\n", 1)],
    "empty": [],
    "b": [row("b", "cat", values={"s_measure": 0.1}, present=False)],
}


def write(path, images=IMAGES):
    with RowWriter(path) as writer:
        for image, rows in images.items():
            writer.add(image, rows)


def test_what_is_written_is_read(tmp_path):
    write(tmp_path / "rows" / "0-of-1.jsonl")
    assert read_rows(tmp_path / "rows") == IMAGES
    assert read_rows(tmp_path / "nothing") == {}


def test_an_unknown_presence_stays_unknown(tmp_path):
    write(tmp_path / "0.jsonl", {"a": [row("a", "cat", presence=math.nan)]})
    assert math.isnan(read_rows(tmp_path)["a"][0].score.presence)
    assert "NaN" not in (tmp_path / "0.jsonl").read_text()


def test_rows_of_version_0_1_are_read(tmp_path):
    """So that an evaluation that was begun then can be concluded."""
    (tmp_path / "0.jsonl").write_text(
        '{"method": "sam", "mode": "manual", "seed": 0, "image": "a", "class": "cat", '
        '"present": true, "intersection": 1, "predicted": 2, "truth": 3, "mae": 0.25, '
        '"boundary_f": 0.5, "seconds": 0.125, "presence": null, "saliency": '
        '{"s_measure": 0.1, "e_measure": 0.2, "weighted_f": 0.3, "mae": 0.4}}\n'
        '{"done": "a", "rows": 1}\n'
    )
    ((read,),) = read_rows(tmp_path).values()
    assert (read.method, read.score.counts) == ("sam", Counts(1, 2, 3))
    assert read.score.values == {
        **{"iou": 1 / 4, "dice": 2 / 5, "mae": 0.25, "boundary_f": 0.5},
        **{"s_measure": 0.1, "e_measure": 0.2, "weighted_f": 0.3, "saliency_mae": 0.4},
    }


def test_cut_anywhere_whole_images_stay_and_the_rest_can_be_written_again(tmp_path):
    path = tmp_path / "0.jsonl"
    write(path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        kept = read_rows(tmp_path)
        assert list(kept) == list(IMAGES)[: len(kept)]
        assert all(kept[image] == IMAGES[image] for image in kept)
        write(path, {image: rows for image, rows in IMAGES.items() if image not in kept})
        assert path.read_bytes() == whole


def test_an_image_in_two_files_counts_once(tmp_path):
    write(tmp_path / "0-of-1.jsonl")
    write(tmp_path / "1-of-2.jsonl", {"b": IMAGES["b"], "c": [row("c", "cow")]})
    assert read_rows(tmp_path) == {**IMAGES, "c": [row("c", "cow")]}


@pytest.mark.parametrize("line", ["{", "[]", "3", '{"a": 1}', '{"done": "a", "rows": 1}'])
def test_damage_is_named(tmp_path, line):
    path = tmp_path / "0.jsonl"
    write(path)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DataError, match=r"Line 7 of .*0\.jsonl is damaged"):
        read_rows(tmp_path)
