"""Plain CLIP + SAM against transformers' own CLIP, and what all map-prompted pipelines do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from baselines.clip_sam import ClipSamPredictor
from baselines.clip_surgery_sam import ClipSurgerySamPredictor
from baselines.sam import SamPredictor
from clipsam.data.synthetic import SceneData
from clipsam.encoded_image import EncodedImage, clip_input
from clipsam.predictor import PredictOptions
from clipsam.types import Concept, Prompt
from clipsam.weights.presets import TINY

SIZE = (150, 220)
IMAGE = SceneData(1, seed=5)[0].image[: SIZE[0], : SIZE[1]]
STAR = Concept(("striped star",))


@pytest.fixture(scope="module")
def encoded() -> EncodedImage:
    return EncodedImage(IMAGE)


@pytest.mark.parametrize(
    "predictor_type", [ClipSamPredictor, ClipSurgerySamPredictor], ids=["plain", "surgery"]
)
@torch.no_grad()
def test_the_map_is_plain_clips(tiny, encoded, predictor_type):
    """As transformers computes it; CLIP Surgery's is another."""
    vision = tiny.clip.vision_model
    hidden = vision(clip_input(IMAGE, TINY)).last_hidden_state
    patches = tiny.clip.visual_projection(vision.post_layernorm(hidden[:, 1:]))
    cosines = F.normalize(patches, dim=-1) @ tiny.text([STAR.synonyms])[0]
    side = TINY.clip.surgery_size // TINY.clip.patch_size
    expected = cosines.view(side, side).numpy()

    shown = predictor_type(tiny).predict(encoded, Prompt((STAR,))).results[0].similarity
    same = np.allclose(shown, expected, atol=1e-5)
    assert same == (predictor_type is ClipSamPredictor)


def test_a_plain_map_is_not_calibrated(tiny, encoded):
    plain = ClipSamPredictor(tiny).predict(encoded, Prompt((STAR,)))
    surgery = ClipSurgerySamPredictor(tiny).predict(encoded, Prompt((STAR,)))
    assert np.isnan(plain.presence).all()
    assert not np.isnan(surgery.presence).any()


@pytest.fixture
def peaked(tiny, monkeypatch) -> ClipSamPredictor:
    """Sees a 16 × 16 map that is high in four cells: rows 4 and 5, columns 10 and 11."""
    similarity = torch.zeros(1, 16, 16)
    similarity[:, 4:6, 10:12] = 0.3
    monkeypatch.setattr(ClipSamPredictor, "_map", lambda *_: similarity)
    return ClipSamPredictor(tiny)


def test_points_and_dense_prompt_lie_where_the_map_is_high(peaked, encoded):
    vanilla, dense = (
        peaked.predict(encoded, Prompt((STAR,)), PredictOptions(mode=mode))
        for mode in peaked.info.modes
    )
    points = vanilla.results[0].prompts.points
    assert len(points) == 5
    rows, columns = SIZE[0] / 16, SIZE[1] / 16
    assert ((points >= [10 * columns, 4 * rows]) & (points <= [12 * columns, 6 * rows])).all()
    np.testing.assert_array_equal(dense.results[0].prompts.points, points)

    assert vanilla.results[0].prompts.dense is None
    # The long side fills SAM's square; a map that is enlarged bilinearly loses at its peaks' rims.
    drawn = dense.results[0].prompts.dense
    scale = drawn.shape[0] / SIZE[1]
    top, bottom, left, right = (scale * v for v in (4 * rows, 6 * rows, 10 * columns, 12 * columns))
    ys, xs = np.nonzero(drawn)
    assert top - 1 <= ys.min() and ys.max() <= bottom + 1
    assert left - 1 <= xs.min() and xs.max() <= right + 1
    assert len(ys) > 0.5 * (bottom - top) * (right - left)


def test_sam_gets_these_points_and_nothing_else(peaked, tiny, encoded):
    """A person who clicked on the same points would get the same mask."""
    vanilla = peaked.predict(encoded, Prompt((STAR,)), PredictOptions(mode="vanilla"))
    used = vanilla.results[0].prompts
    clicked = Concept(STAR.synonyms, used.points, used.labels)
    by_hand = SamPredictor(tiny).predict(encoded, Prompt((clicked,)))
    np.testing.assert_array_equal(vanilla.logits(), by_hand.logits())
    dense = peaked.predict(encoded, Prompt((STAR,)), PredictOptions(mode="dense-prompt"))
    assert np.abs(dense.logits() - vanilla.logits()).max() > 0.1


def test_the_default_threshold_is_the_papers(peaked, encoded):
    by_default = peaked.predict(encoded, Prompt((STAR,)))
    told = peaked.predict(encoded, Prompt((STAR,)), PredictOptions(point_threshold=0.8))
    np.testing.assert_array_equal(by_default.logits(), told.logits())
