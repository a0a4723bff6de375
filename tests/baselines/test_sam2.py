"""SAM 2.1 behind our interface against the sam2 package's own predictor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sam2.sam2_image_predictor import SAM2ImagePredictor

from baselines.clip_surgery_sam import ClipSurgerySamPredictor
from baselines.clip_surgery_sam2 import ClipSurgerySam2Predictor
from baselines.grounded_sam import GroundedSamPredictor
from baselines.grounded_sam2 import GroundedSam2Predictor
from baselines.sam2 import Sam2Predictor
from clipsam.data.synthetic import SceneData
from clipsam.encoded_image import EncodedImage
from clipsam.predictor import PredictOptions
from clipsam.types import Concept, Prompt, prompt_from_classes
from clipsam.weights.presets import PRESETS, TINY
from clipsam.weights.published import GROUNDING_DINO, SAM2_TINY
from tests.models.test_sam2_model import VIDEO, theirs

IMAGE = SceneData(1, seed=2)[0].image[:170]
PROMPTS = {
    "click": dict(points=[[60, 80]], labels=[1]),
    "points": dict(points=[[60, 80], [200, 20]], labels=[1, 0]),
    "box": dict(box=[20, 30, 120, 140]),
    "box and point": dict(box=[20, 30, 120, 140], points=[[60, 80]], labels=[0]),
}


@pytest.fixture(scope="module")
def sam2(tiny, published_networks) -> Sam2Predictor:
    return Sam2Predictor.load(tiny)


@pytest.fixture(scope="module")
def package(sam2) -> SAM2ImagePredictor:
    """The package's predictor with the same weights; it has seen the picture."""
    config = sam2.sam2.config
    network = theirs(config)
    missing, unexpected = network.load_state_dict(sam2.sam2.state_dict(), strict=False)
    assert not unexpected and all(name.startswith(VIDEO) for name in missing)
    predictor = SAM2ImagePredictor(network)
    predictor._bb_feat_sizes = [(config.mask_side // divisor,) * 2 for divisor in (1, 2, 4)]
    predictor.set_image(IMAGE)
    return predictor


@pytest.mark.parametrize("given", PROMPTS)
def test_masks_of_the_package(sam2, package, given):
    """Up to how a photograph is made smaller: pixels are rounded here, and not there."""
    prompt = PROMPTS[given]
    points, labels, box = (
        np.array(prompt[key]) if key in prompt else None for key in ("points", "labels", "box")
    )
    asked = dict(point_coords=points, point_labels=labels, box=box, return_logits=True)
    single, _, _ = package.predict(**asked, multimask_output=False)
    three, scores, _ = package.predict(**asked, multimask_output=True)
    prediction = sam2.predict(EncodedImage(IMAGE), Prompt((Concept(("thing",), **prompt),)))
    wanted = three[scores.argmax()] if given == "click" else single[0]
    for logits, expected in (
        (prediction.class_logits(0), wanted),
        *zip(map(prediction.transform.to_image, candidates(prediction)), three, strict=True),
    ):
        found = np.asarray(logits).reshape(expected.shape)
        assert expected.std() > 0.1
        assert np.mean((found > 0) == (expected > 0)) > 0.99
        assert np.abs(found - expected).mean() < 0.02 * expected.std()
    np.testing.assert_allclose(prediction.results[0].candidate_scores, scores, atol=5e-3)


def candidates(prediction) -> torch.Tensor:
    return torch.from_numpy(prediction.results[0].candidates)[:, None, None]


def test_clip_surgery_tells_both_sams_the_same(tiny, published_networks):
    encoded, prompt = EncodedImage(IMAGE), prompt_from_classes([["red disc"]])
    (first,), (second,) = (
        kind.load(tiny).predict(encoded, prompt, PredictOptions(mode="dense-prompt")).results
        for kind in (ClipSurgerySamPredictor, ClipSurgerySam2Predictor)
    )
    np.testing.assert_array_equal(first.similarity, second.similarity)
    assert first.presence == second.presence
    # Where exactly the points lie depends on the square in which each SAM sees the picture.
    assert len(first.prompts.points) == len(second.prompts.points)
    assert second.prompts.dense.shape == second.logits.shape


def test_both_grounded_sams_get_the_same_boxes(tiny, published_networks):
    detector, encoded = tiny.extra_network(GROUNDING_DINO, "test"), EncodedImage(IMAGE)
    pair = [kind.load(tiny) for kind in (GroundedSamPredictor, GroundedSam2Predictor)]
    assert all(predictor.detector is detector for predictor in pair)
    one, two = (p.predict(encoded, prompt_from_classes([["star"]])).results[0] for p in pair)
    assert len(one.prompts.boxes)
    np.testing.assert_array_equal(one.prompts.boxes, two.prompts.boxes)
    assert one.logits.shape != two.logits.shape


def test_every_preset_has_its_size():
    assert Sam2Predictor.info.extra_networks(TINY) == (SAM2_TINY,)
    repos = {preset.sam2_source.repo for preset in PRESETS.values()}
    sizes = ("tiny", "small", "base-plus", "large")
    assert repos == {f"facebook/sam2.1-hiera-{size}" for size in sizes}
