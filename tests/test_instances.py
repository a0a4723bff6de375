"""Objects of a class: those that a method found, and connected regions for the others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from baselines import sam3
from baselines.box_prompted import BoxPromptedPredictor, DetectionConfig
from baselines.grounded_sam import GroundedSamPredictor
from clipsam.data.synthetic import SceneData
from clipsam.encoded_image import EncodedImage
from clipsam.geometry import SquareTransform
from clipsam.registry import load_predictor
from clipsam.types import (
    MOST_REGIONS,
    Concept,
    ConceptResult,
    Instance,
    Prediction,
    Prompt,
    SamPrompts,
    connected_regions,
    prompt_from_classes,
)
from clipsam.weights.backbones import Backbones

IMAGE = SceneData(1, seed=5)[0].image[:150, :220]
HALVES = [[0.8, 110, 0, 220, 150], [0.9, 0, 0, 110, 150]]
"""Detections: the right and the left half of the image."""


class Told(GroundedSamPredictor):
    """Grounded SAM whose detector finds the halves."""

    detections = HALVES

    def _detect(self, encoded, name, watch):
        return torch.tensor(self.detections, dtype=torch.float32).reshape(-1, 5)


def predict(tiny: Backbones, detections: list = HALVES) -> Prediction:
    told = Told(tiny, DetectionConfig(score_threshold=0.3))
    told.detections = detections
    return told.predict(EncodedImage(IMAGE), Prompt((Concept(("disc",)),)))


def test_each_box_is_an_object_and_the_class_their_union(published_networks, tiny):
    both = predict(tiny)
    left, right = (predict(tiny, [one]).results[0].logits for one in reversed(HALVES))
    (result,) = both.results
    assert [one.score for one in result.instances] == pytest.approx([0.9, 0.8])
    for one, alone, row in zip(result.instances, (left, right), reversed(HALVES), strict=True):
        np.testing.assert_allclose(one.logits, alone, atol=1e-4, rtol=1e-4)
        assert one.logits.dtype == np.float32 and one.logits.base.ndim == 3
        assert one.box.tolist() == row[1:]
    union = np.maximum(result.instances[0].logits, result.instances[1].logits)
    assert np.array_equal(result.logits, union)
    shown = list(both.each_instance(0))
    assert all(one.mask.shape == IMAGE.shape[:2] and one.mask.any() for one in shown)
    # What is enlarged is at most what is enlarged after taking the maximum.
    assert not any((one.mask & ~both.class_mask(0)).any() for one in shown)


def test_nothing_found_is_no_object_instead_of_regions(published_networks, tiny):
    prediction = predict(tiny, [])
    assert prediction.results[0].instances == ()
    assert list(prediction.each_instance(0, threshold=-100)) == []


def test_a_candidate_replaces_the_single_object(published_networks, tiny):
    one = predict(tiny, HALVES[:1]).with_candidate(0, 2)
    (found,) = one.results[0].instances
    assert found.logits is one.results[0].logits and found.score == pytest.approx(0.8)


@pytest.mark.parametrize(
    "method", ["grounded-sam2", "owlv2-sam", "sam3", "sam3-litetext", "sam-proposals-clip"]
)
def test_methods_that_find_objects(published_networks, tiny, method, monkeypatch):
    predictor = load_predictor(method, tiny)
    # Networks of random weights are not sure of anything.
    monkeypatch.setattr(sam3, "SCORE_THRESHOLD", 0.0)
    if isinstance(predictor, BoxPromptedPredictor):
        predictor.config = DetectionConfig(score_threshold=0.0, most=3)
    prediction = predictor.predict(EncodedImage(IMAGE), prompt_from_classes([["red disc"], ["a"]]))
    found = 0
    for index, result in enumerate(prediction.results):
        assert result.instances is not None
        scores = [one.score for one in result.instances]
        assert scores == sorted(scores, reverse=True) and all(0 <= score <= 1 for score in scores)
        if scores:
            union = np.max([one.logits for one in result.instances], axis=0)
            assert np.array_equal(union, result.logits)
        for one in prediction.each_instance(index):
            found += 1
            x0, y0, x1, y1 = one.box
            assert 0 <= x0 < x1 <= IMAGE.shape[1] and 0 <= y0 < y1 <= IMAGE.shape[0]
    assert found
    if method == "sam-proposals-clip":
        for one in prediction.each_instance(0):
            rows, columns = np.nonzero(one.mask)
            around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            # Boxes are those of SAM's square, where a pixel is about one of the image.
            assert np.abs(one.box - around).max() < 4


def test_connected_regions_by_hand():
    logits = np.full((6, 8), -1, np.float32)
    logits[0, 0], logits[1, 1] = np.log(3), np.log(3)  # touch at a corner: probability 3/4
    logits[3:6, 4:8] = np.log(4)  # 4/5
    large, small = connected_regions(logits, presence=0.5)
    assert large.box.tolist() == [4, 3, 8, 6] and large.score == pytest.approx(0.4)
    assert small.box.tolist() == [0, 0, 2, 2] and small.score == pytest.approx(0.375)
    assert small.mask.sum() == 2 and large.mask.sum() == 12
    assert connected_regions(logits)[0].score == pytest.approx(0.8)
    assert connected_regions(logits, threshold=2) == []


def test_regions_divide_the_mask_among_them():
    rng = np.random.default_rng(0)
    logits = ndimage.gaussian_filter(rng.normal(size=(90, 120)), 4).astype(np.float32)
    regions = connected_regions(logits)
    assert 3 < len(regions) < MOST_REGIONS
    assert np.array_equal(np.sum([one.mask for one in regions], axis=0), logits > 0)
    specks = rng.normal(size=(200, 200)).astype(np.float32)
    specks[specks < 2.5] = -1
    sizes = [int(one.mask.sum()) for one in connected_regions(specks)]
    assert len(sizes) == MOST_REGIONS and min(sizes) >= 1


def test_a_method_without_objects_is_given_regions():
    logits = np.full((32, 32), -5, np.float32)
    logits[2:8, 2:8] = logits[20:30, 20:30] = 5
    prediction = Prediction(
        method="clip-surgery-sam",
        preset="tiny",
        mode="vanilla",
        prompt=prompt_from_classes([["a"]]),
        transform=SquareTransform((32, 32), 32),
        results=(ConceptResult(logits, SamPrompts(), presence=0.5),),
        seconds={},
        peak_memory_mb=0,
    )
    first, second = prediction.each_instance(0)
    assert np.array_equal(first.mask | second.mask, logits > 0)
    assert {tuple(one.box) for one in (first, second)} == {(2, 2, 8, 8), (20, 20, 30, 30)}


def test_an_object_without_a_box_has_the_one_around_its_mask():
    logits = np.full((16, 16), -5, np.float32)
    logits[2:8, 3:9] = 5
    hidden = Instance(np.full((16, 16), -5, np.float32), None, 0.9)
    result = ConceptResult(logits, SamPrompts(), instances=(hidden, Instance(logits, None, 0.25)))
    prediction = Prediction(
        method="sam3",
        preset="tiny",
        mode="text",
        prompt=prompt_from_classes([["a"]]),
        transform=SquareTransform((16, 16), 16),
        results=(result,),
        seconds={},
        peak_memory_mb=0,
    )
    (one,) = prediction.each_instance(0)
    assert one.box.tolist() == [3, 2, 9, 8] and one.score == 0.25
