"""COCO's AP of masks: equal to pycocotools' own, also where unlabelled pixels are a crowd."""

from __future__ import annotations

import contextlib
import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn

from clipsam.cli import main
from clipsam.data.samples import BACKGROUND, VOID, LabelledImage
from clipsam.encoded_image import EncodedImage
from clipsam.encoded_masks import coco_annotation, encode_masks
from clipsam.evaluation.mask_ap import average_precision, match_objects
from clipsam.evaluation.metrics import mask_ap
from clipsam.evaluation.rows import Row, RowWriter, read_rows
from clipsam.evaluation.runner import MethodRun, score_image
from clipsam.evaluation.summary import present_figures, results_csv, summarize
from clipsam.predictor import Predictor
from clipsam.registry import MethodInfo, load_predictor
from clipsam.types import ConceptResult, Instance, SamPrompts, prompt_from_classes

SIDE = 64


def encode(mask: np.ndarray) -> dict:
    return run_lengths.encode(np.asfortranarray(mask.astype(np.uint8)))


def theirs(truths: list[dict], found: list[dict], images: int, classes: int = 1) -> float:
    """AP by pycocotools, from ``image_id``, ``category_id``, ``segmentation`` and the rest."""
    listed = [{"id": n, "width": SIDE, "height": SIDE} for n in range(1, images + 1)]
    for number, one in enumerate(truths, start=1):
        box = run_lengths.toBbox(one["segmentation"]).tolist()
        area = int(run_lengths.area(one["segmentation"]))
        one |= {"id": number, "bbox": box, "area": area}
        one.setdefault("iscrowd", 0)
    content = {
        "images": listed,
        "categories": [{"id": n, "name": str(n)} for n in range(1, classes + 1)],
        "annotations": truths,
    }
    coco = COCO()
    with contextlib.redirect_stdout(io.StringIO()):
        coco.dataset = content
        coco.createIndex()
        scorer = COCOeval(coco, coco.loadRes(found), "segm")
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return float(scorer.stats[0])


def disc(x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return (rows - y) ** 2 + (columns - x) ** 2 < radius**2


@pytest.mark.parametrize("seed", range(8))
def test_random_scenes_score_as_pycocotools_has_it(seed):
    """True discs, found ones beside them, some of nothing, and a crowd in some images."""
    rng = np.random.default_rng(seed)
    matches, truths, found = [], [], []
    for image in range(1, 5):
        centres = rng.uniform(8, SIDE - 8, (rng.integers(1, 5), 2))
        true = [disc(x, y, rng.uniform(4, 12)) for x, y in centres]
        void = disc(*rng.uniform(0, SIDE, 2), 14) if image % 2 else np.zeros((SIDE, SIDE), bool)
        near = np.concatenate((centres, centres)) + rng.normal(0, 1.5, (2 * len(centres), 2))
        places = np.concatenate((near, rng.uniform(0, SIDE, (3, 2))))
        masks = [disc(x, y, rng.uniform(4, 12)) for x, y in places]
        # Rounded: some scores are equal.
        scores = [round(float(score), 1) for score in rng.random(len(masks))]
        matches.append(match_objects(zip(scores, masks, strict=True), true, void))
        where = {"image_id": image, "category_id": 1}
        truths += [{**where, "segmentation": encode(one)} for one in true]
        if void.any():
            truths.append({**where, "segmentation": encode(void), "iscrowd": 1})
        found += [
            {**where, "segmentation": encode(one), "score": score}
            for one, score in zip(masks, scores, strict=True)
        ]
    expected = theirs(truths, found, images=4)
    assert 0 < expected < 1
    assert average_precision(matches) == pytest.approx(expected, abs=1e-9)


def test_by_hand():
    """Two true objects; the surest find is right, the next one wrong, the last one right."""
    halves = [np.zeros((4, 8), bool) for _ in range(2)]
    halves[0][:, :3], halves[1][:, 5:] = True, True
    nothing = np.zeros((4, 8), bool)
    wrong = np.zeros((4, 8), bool)
    wrong[:, 3:5] = True
    found = [(0.9, halves[0]), (0.8, wrong), (0.7, halves[1])]
    one = match_objects(found, halves, nothing)
    # Precision 1 at the 51 recalls up to a half, 2/3 at the 50 above.
    assert average_precision([one]) == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert average_precision([match_objects([], halves, nothing)]) == 0
    assert np.isnan(average_precision([match_objects(found, [], nothing)]))
    # On unlabelled pixels, what is wrong does not count.
    one = match_objects(found, halves, wrong)
    assert average_precision([one]) == pytest.approx(1)


class Finder(Predictor):
    """Finds, for each class, the objects that it was told."""

    info = MethodInfo("finder", "Finder", "none", "baseline", ("text",), "", "")
    told: dict[str, tuple[Instance, ...]]

    def network(self):
        return nn.Linear(1, 1)

    def _predict_concept(self, encoded, concept, mode, options, watch):
        found = self.told[concept.text]
        logits = np.max([one.logits for one in found], axis=0)
        with watch.step("all"):
            return ConceptResult(logits, SamPrompts(), presence=0.5, instances=found)


def instance(mask: np.ndarray, score: float) -> Instance:
    side = 4 * SIDE  # so that enlarging and reducing change nothing
    large = np.kron(np.where(mask, 9.0, -9.0), np.ones((4, 4))).astype(np.float32)
    assert large.shape == (side, side)
    return Instance(large, None, score)


@pytest.fixture
def scene() -> LabelledImage:
    """Two cats and a dog, numbered, beside unlabelled pixels."""
    classes = np.full((SIDE, SIDE), BACKGROUND, np.int16)
    segments = np.zeros((SIDE, SIDE), np.int32)
    for number, (mask, value) in enumerate(
        ((disc(16, 16, 10), 0), (disc(46, 16, 9), 0), (disc(30, 48, 11), 1)), start=1
    ):
        classes[mask], segments[mask] = value, number
    classes[60:, :] = VOID
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    return LabelledImage("a", image, classes, segments, ("cat", "dog"), tells_objects=True)


@pytest.fixture
def finder(tiny) -> Finder:
    finder = Finder(tiny)
    finder.told = {
        "cat": (instance(disc(16, 17, 9), 0.9), instance(disc(40, 20, 9), 0.6)),
        "dog": (instance(disc(31, 48, 11), 0.7), instance(disc(50, 50, 5), 0.8)),
    }
    return finder


def test_an_evaluation_has_the_figure_of_its_own_export(finder, scene, tmp_path: Path):
    """What is exported as COCO scores in pycocotools what the evaluation says."""
    encoded, run = EncodedImage(scene.image), MethodRun("finder", "text")
    scores = score_image(scene, encoded, finder, run, seed=0)
    prediction = finder.predict(encoded, prompt_from_classes([["cat"], ["dog"]]))
    found = [
        coco_annotation(one, (SIDE, SIDE), n, 1, one.category + 1)
        for n, one in enumerate(encode_masks(prediction), start=1)
    ]
    truths = [
        {
            "image_id": 1,
            "category_id": 1 if number < 3 else 2,
            "segmentation": encode(scene.segments == number),
        }
        for number in (1, 2, 3)
    ]
    for category in (1, 2):
        void = encode(scene.classes == VOID)
        truths.append({"image_id": 1, "category_id": category, "segmentation": void, "iscrowd": 1})
    expected = theirs(truths, found, images=1, classes=2)
    assert 0 < expected < 1
    assert mask_ap(scores) == pytest.approx(expected, abs=1e-9)

    rows = [Row("finder", "text", 0, score) for score in scores]
    with RowWriter(tmp_path / "0.jsonl") as writer:
        writer.add("a", rows)
    assert read_rows(tmp_path) == {"a": rows}
    assert present_figures(scores)["mask_ap"] == pytest.approx(expected)
    (line,) = csv.DictReader(io.StringIO(results_csv(summarize(rows, "tiny"))))
    assert float(line["mask_ap"]) == pytest.approx(expected, abs=1e-6)


def test_no_figure_where_the_truth_tells_no_objects_apart(finder, scene):
    plain = replace(scene, tells_objects=False)
    run = MethodRun("finder", "text")
    scores = score_image(plain, EncodedImage(plain.image), finder, run, seed=0)
    assert "mask_ap" not in present_figures(scores)
    assert "mask_ap" not in results_csv(summarize([Row("f", "text", 0, s) for s in scores], "tiny"))


def test_methods_without_objects_are_scored_by_regions(tiny, scene):
    predictor = load_predictor("clip-surgery-sam", tiny)
    run = MethodRun("clip-surgery-sam", predictor.info.modes[0])
    scores = score_image(scene, EncodedImage(scene.image), predictor, run, seed=0)
    assert 0 <= mask_ap(scores) <= 1
    assert all(score.objects is not None for score in scores)


def test_an_evaluation_of_scenes_lists_it(tiny, tmp_path: Path):
    """The scenes number their objects: the figure is on the leaderboard, and said."""
    arguments = ["--data", "scenes:1", "--method", "clip-surgery-sam", "--out", str(tmp_path)]
    assert main(["evaluate", *arguments]) == 0
    report = (tmp_path / "report.html").read_text()
    assert "<th>mask AP %</th>" in report and "COCO’s" in report
    (line,) = csv.DictReader((tmp_path / "results.csv").read_text().splitlines())
    assert 0 <= float(line["mask_ap"]) <= 1
