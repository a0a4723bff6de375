"""Scores of images whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from clipsam.data.synthetic import SceneData
from clipsam.encoded_image import EncodedImage
from clipsam.evaluation.metrics import Counts
from clipsam.evaluation.runner import MethodRun, absent_classes, evaluate, prompt_of, score_image
from clipsam.evaluation.saliency import saliency_score
from clipsam.registry import load_predictor

TEXT = MethodRun("halves", "text")
QUARTER = 128 * 128


def test_scores_counted_by_hand(halves, quarters):
    # cat | dog      Cats are looked for in the left half, a quarter of which is void; dogs in the
    # void | none    upper half.
    sample = quarters[0]
    cat, dog = score_image(sample, EncodedImage(sample.image), halves, TEXT, seed=0)
    assert (cat.name, cat.image, cat.present) == ("cat", "a", True)
    assert "s_measure" not in cat.values
    assert cat.counts == Counts(QUARTER, QUARTER, QUARTER)
    assert dog.counts == Counts(QUARTER, 2 * QUARTER, QUARTER)
    assert cat.values["mae"] == pytest.approx(0) and dog.values["mae"] == pytest.approx(1 / 3)
    assert cat.values["boundary_f"] == 1
    # The dog's outline has 255 pixels (an inner corner shared, no image's edge). The mask's is the
    # 256 of its lower rim, half of them near (the tolerance is 3), and none of its outline runs
    # up between cat and dog, but the lowest 3 pixels there and the corner's.
    precision, recall = (128 + 3) / 256, (128 + 3) / 255
    assert dog.values["boundary_f"] == pytest.approx(2 * precision * recall / (precision + recall))
    assert cat.presence == 0.9 and dog.presence == 0.2


def test_absent_classes_are_asked_apart(halves, quarters):
    sample = quarters[3]
    encoded = EncodedImage(sample.image)
    alone = score_image(sample, encoded, halves, TEXT, 0)
    dog, cat, cow = score_image(sample, encoded, halves, TEXT, 0, absent=("cat", "cow"))
    assert dog.counts == alone[0].counts == Counts(2 * QUARTER, 2 * QUARTER, 4 * QUARTER)
    assert (cat.present, cow.present) == (False, False)
    assert cat.counts == cow.counts == Counts(0, 2 * QUARTER, 0)
    assert cat.values["boundary_f"] == 0 and cat.values["mae"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("joint", "asked"), [(False, [("dog",), ("cat", "cow")]), (True, [("dog", "cat", "cow")])]
)
def test_where_classes_compete_all_are_asked_together(halves, quarters, monkeypatch, joint, asked):
    prompts = []
    predict = halves.predict

    def noted(encoded, prompt, options):
        prompts.append(tuple(concept.text for concept in prompt.concepts))
        return predict(encoded, prompt, options)

    monkeypatch.setattr(halves, "predict", noted)
    monkeypatch.setattr(type(halves), "joint", joint)
    sample = quarters[3]
    scores = score_image(sample, EncodedImage(sample.image), halves, TEXT, 0, absent=("cat", "cow"))
    assert prompts == asked
    assert [score.name for score in scores] == ["dog", "cat", "cow"]
    assert [score.present for score in scores] == [True, False, False]


def test_all_classes_can_be_asked_in_every_image(halves, quarters):
    present = evaluate(quarters, {"halves": halves}, [TEXT], (0,))[TEXT, 0]
    everything = evaluate(quarters, {"halves": halves}, [TEXT], (0,), all_classes=True)[TEXT, 0]
    assert {score.present for score in present} == {True}
    counted = [(score.image, score.name, score.counts) for score in everything if score.present]
    assert counted == [(score.image, score.name, score.counts) for score in present]
    for index in range(len(quarters)):
        sample = quarters[index]
        names = {score.name for score in everything if score.image == sample.key}
        labelled = (sample.classes != -1).any()
        assert names == (set(sample.names) if labelled else set())


def test_nobody_clicks_on_what_is_absent(halves, quarters):
    sample = quarters[3]
    run = MethodRun("halves", "manual", clicks=2)
    scores = score_image(sample, EncodedImage(sample.image), halves, run, 0, absent=("cat",))
    assert [score.name for score in scores] == ["dog"]


def test_absent_classes_are_chosen_by_image():
    data = SceneData(8, seed=3)
    chosen = [absent_classes(data[index], 5) for index in range(8)]
    for index, names in enumerate(chosen):
        sample = data[index]
        shown = {sample.names[value] for value in sample.present()}
        assert len(set(names)) == 5 and not shown & set(names)
        assert names == absent_classes(data[index], 5)
        assert set(absent_classes(sample)) == set(sample.names) - shown
    assert len(set(chosen)) > 1


def test_single_objects(halves, quarters):
    sample = quarters[3]
    (dog,) = score_image(sample, EncodedImage(sample.image), halves, TEXT, 0, single_object=True)
    assert dog.values["saliency_mae"] == pytest.approx(0.5)
    logits = np.full((40, 60), -100.0, np.float32)
    logits[10:20, 10:30] = 100
    perfect = saliency_score(logits, logits > 0)
    assert (perfect.s_measure, perfect.weighted_f) == pytest.approx((1, 1))
    assert perfect.mae == 0
    # At threshold 0 the whole image is found, at all 255 others the object.
    assert 254 / 256 < perfect.e_measure <= 2400 / 2399


def test_clicks_lie_inside_the_truth(quarters):
    sample = quarters[1]
    for concept in prompt_of(sample, 7, seed=1).concepts:
        columns, rows = np.floor(concept.points).astype(int).T
        assert len(columns) == 7
        assert (sample.classes[rows, columns] == sample.names.index(concept.text)).all()


def test_one_scene_for_all_is_as_good_as_one_each(tiny):
    data = SceneData(3, seed=5)
    methods = {"sam": ("manual", 3), "clip-surgery-sam": ("vanilla", 0)}
    predictors = {method: load_predictor(method, tiny) for method in methods}
    runs = [MethodRun(method, *how) for method, how in methods.items()]
    steps = []
    together = evaluate(data, predictors, runs, (0, 1), lambda *step: steps.append(step))
    assert steps == [(1, 3), (2, 3), (3, 3)]
    for (run, seed), scores in together.items():
        alone = evaluate(data, predictors, [run], [seed])[run, seed]
        assert [s.counts for s in scores] == [s.counts for s in alone]
        assert len(scores) == sum(len(data[i].present()) for i in range(3))
        assert all(math.isfinite(s.seconds) and 0 <= s.values["boundary_f"] <= 1 for s in scores)
