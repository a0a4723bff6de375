"""Objects as files: read back by the tools that they are for."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from PIL import Image, ImageDraw
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy import ndimage

from clipsam.encoded_masks import (
    CocoIds,
    EncodedMask,
    ImageMasks,
    encode_masks,
    write_coco,
    write_maps,
    write_yolo,
)
from clipsam.geometry import SquareTransform
from clipsam.polygons import polygon_around
from clipsam.result import Result
from clipsam.types import ConceptResult, Instance, Prediction, SamPrompts, prompt_from_classes

SIDE = 96


def blob(seed: int, smooth: float = 6) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(SIDE, SIDE + 32))
    return ndimage.gaussian_filter(noise, smooth) > 0.02


def ring() -> np.ndarray:
    """A ring, and a square apart from it that touches the border."""
    rows, columns = np.mgrid[:SIDE, : SIDE + 32]
    radius = np.hypot(rows - 40, columns - 44)
    mask = (radius < 30) & (radius > 14)
    mask[80:, 100:] = True
    return mask


SHAPES = {"ring": ring(), **{f"blob {seed}": blob(seed) for seed in range(3)}}


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / (one | other).sum()


def images() -> list[ImageMasks]:
    """Two images: of objects of two classes, some on top of others, and of nothing."""
    masks = [
        EncodedMask.of(mask, category, number, 1 - number / 8)
        for number, (mask, category) in enumerate(
            zip(SHAPES.values(), (0, 1, 1, 0), strict=True), start=1
        )
    ]
    size = (SIDE, SIDE + 32)
    return [ImageMasks("day/one.jpg", "one.jpg", size, masks), ImageMasks("b", "b", (5, 7), [])]


@pytest.mark.parametrize("name", SHAPES)
def test_a_polygon_encloses_the_mask(name):
    mask = SHAPES[name]
    polygon = polygon_around(mask)
    assert polygon.min() >= 0 and (polygon.max(0) <= (SIDE + 32, SIDE)).all()
    # Centres of pixels inside by the even-odd rule, through a library of its own.
    canvas = Image.new("1", (8 * (SIDE + 32), 8 * SIDE))
    ImageDraw.Draw(canvas).polygon([(8 * x, 8 * y) for x, y in polygon], fill=1)
    drawn = np.asarray(canvas)[4::8, 4::8]
    assert iou(drawn, mask) > 0.97
    x, y = polygon.T
    area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    assert area == pytest.approx(mask.sum(), rel=0.05)


def test_the_smallest_polygons():
    mask = np.zeros((3, 4), bool)
    mask[1, 2] = True
    around = Outline(polygon_around(mask))
    assert around.contains_point((2.5, 1.5)) and not around.contains_point((1.5, 1.5))
    assert polygon_around(np.ones((3, 4), bool)).min() == 0


def test_yolo_labels_redrawn_cover_the_masks(tmp_path: Path):
    """As ultralytics documents it: class, then x and y in turn, 0 to 1; holes stay open."""
    write_yolo(tmp_path, images, ["dog", 'a "cat": large'])
    first, second = images()
    lines = (tmp_path / "labels" / "day" / "one.txt").read_text().splitlines()
    assert len(lines) == len(first.masks)
    for line, mask in zip(lines, first.masks, strict=True):
        number, *values = line.split()
        assert int(number) == mask.category and len(values) % 2 == 0 and len(values) >= 6
        points = np.array(values, float).reshape(-1, 2)
        assert points.min() >= 0 and points.max() <= 1
        scaled = points * (8 * (SIDE + 32), 8 * SIDE)
        canvas = Image.new("1", (8 * (SIDE + 32), 8 * SIDE))
        ImageDraw.Draw(canvas).polygon([tuple(one) for one in scaled], fill=1)
        assert iou(np.asarray(canvas)[4::8, 4::8], mask.decode(first.size)) > 0.97
    assert (tmp_path / "labels" / f"{second.key}.txt").read_text() == ""
    listing = (tmp_path / "data.yaml").read_text()
    assert '  0: "dog"\n  1: "a \\"cat\\": large"\n' in listing


def test_coco_is_read_and_scores_one_against_itself(tmp_path: Path):
    ids = CocoIds([7, 3], {"day/one.jpg": 41, "b": 12})
    write_coco(tmp_path / "coco.json", images, ["dog", "Kätzchen"], ids)
    content = json.loads((tmp_path / "coco.json").read_text())
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(tmp_path / "coco.json")
        found = truth.loadRes(content["annotations"])
        scorer = COCOeval(truth, found, "segm")
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    assert scorer.stats[0] == 1.0
    assert {one["id"]: one["name"] for one in content["categories"]} == {7: "dog", 3: "Kätzchen"}
    assert [one["id"] for one in content["images"]] == [41, 12]
    for one, mask in zip(truth.loadAnns([1, 2, 3, 4]), SHAPES.values(), strict=True):
        assert np.array_equal(truth.annToMask(one) > 0, mask)
        x, y, width, height = one["bbox"]
        rows, columns = np.nonzero(mask)
        assert [x, y] == [columns.min(), rows.min()]
        assert [width, height] == [np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert one["area"] == mask.sum() and 0 < one["score"] < 1


def test_maps_are_read_back_with_the_surest_on_top(tmp_path: Path):
    write_maps(tmp_path, images, ["dog", "cat"])
    labels = np.asarray(Image.open(tmp_path / "label-maps/day/one.png"))
    numbers = np.asarray(Image.open(tmp_path / "instance-maps/day/one.png"))
    assert labels.dtype == np.uint8 and numbers.dtype == np.uint16
    expected_labels, expected_numbers = np.zeros((2, SIDE, SIDE + 32), int)
    # Scores fall with the numbers.
    for number, category in ((4, 0), (3, 1), (2, 1), (1, 0)):
        mask = list(SHAPES.values())[number - 1]
        expected_labels[mask], expected_numbers[mask] = category + 1, number
    assert np.array_equal(labels, expected_labels)
    assert np.array_equal(numbers, expected_numbers)
    assert not np.asarray(Image.open(tmp_path / "label-maps/b.png")).any()


def test_no_name_leads_outside_and_none_is_lost(tmp_path: Path):
    keys = ["../up", "/root", "a.jpg", "a.png", "A", "..", "x/../../y", "v1.5"]
    listed = [ImageMasks(key, key, (4, 4), []) for key in keys]
    write_yolo(tmp_path / "here", lambda: listed, ["a"])
    assert [one.name for one in tmp_path.iterdir()] == ["here"]
    written = list((tmp_path / "here" / "labels").rglob("*.txt"))
    assert len(written) == len(keys)
    assert {"a.txt", "a 2.txt", "A 3.txt", "v1.5.txt"} <= {one.name for one in written}


@pytest.fixture
def prediction() -> Prediction:
    """Of one class with two objects, and one class whose method tells none apart."""
    logits = np.where([SHAPES["ring"], ~SHAPES["ring"], blob(1)], 5, -5).astype(np.float32)
    logits = np.pad(logits, ((0, 0), (0, 32), (0, 0)), constant_values=-5)
    box = np.array([1, 2, 120, 90], np.float32)
    found = (Instance(logits[0], box, 0.75), Instance(logits[1], None, 0.5))
    return Prediction(
        method="sam3",
        preset="tiny",
        mode="text",
        prompt=prompt_from_classes([["a", "b"], ["c"]]),
        transform=SquareTransform((SIDE, SIDE + 32), SIDE + 32),
        results=(
            ConceptResult(logits[:2].max(0), SamPrompts(), presence=0.9, instances=found),
            ConceptResult(logits[2], SamPrompts(), presence=0.25),
        ),
        seconds={},
        peak_memory_mb=0,
    )


def test_objects_of_a_prediction(prediction):
    first, second, whole = encode_masks(prediction)
    assert (first.category, first.instance, first.score) == (0, 1, 0.75)
    assert first.box == (1, 2, 120, 90) and first.bbox == [1, 2, 119, 88]
    assert np.array_equal(first.decode((SIDE, SIDE + 32)), SHAPES["ring"])
    assert (second.instance, second.box) == (2, (0, 0, SIDE + 32, SIDE))
    assert (whole.category, whole.instance, whole.score) == (1, None, 0.25)
    assert np.array_equal(whole.decode((SIDE, SIDE + 32)), blob(1))
    parts = encode_masks(prediction, regions=True)[2:]
    assert [one.instance for one in parts] == list(range(3, 3 + len(parts))) and len(parts) > 1
    union = np.any([one.decode((SIDE, SIDE + 32)) for one in parts], axis=0)
    assert np.array_equal(union, blob(1))


def test_a_result_lists_its_objects(prediction):
    result = Result(np.zeros((SIDE, SIDE + 32, 3), np.uint8), prediction, image_name="x.png")
    assert [one.score for one in result.instances("B")] == [0.75, 0.5]
    content = result.to_coco(instances=True)
    assert content["images"][0]["file_name"] == "x.png"
    counts = [one["category_id"] for one in content["annotations"]]
    assert counts.count(1) == 2 and counts.count(2) == len(result.instances("c"))
    assert len(result.to_coco()["annotations"]) == 2
    coco = COCO()
    with contextlib.redirect_stdout(io.StringIO()):
        coco.dataset = content
        coco.createIndex()
        assert len(coco.loadRes(content["annotations"]).anns) == len(content["annotations"])
