"""The real sizes, with random weights: what only shows at 1024 pixels and 90 million parameters."""

from __future__ import annotations

import numpy as np
import pytest

from baselines.clip_surgery_sam import ClipSurgerySamPredictor
from baselines.sam import SamPredictor
from clipsam.encoded_image import EncodedImage
from clipsam.methods.clip_guided_sam import ClipGuidedSamPredictor
from clipsam.models.clip import build_clip
from clipsam.models.sam_model import build_sam
from clipsam.predictor import PredictOptions, Predictor
from clipsam.registry import DENSE, WITHOUT_SAM, count_parameters, load_predictor
from clipsam.types import Concept, Prompt
from clipsam.weights.backbones import Backbones, assemble, read_tokenizer
from clipsam.weights.checkpoints import find_checkpoint
from clipsam.weights.presets import PRESETS

pytestmark = pytest.mark.slow

SIZE = (90, 140)
CONCEPT = Concept(("striped star",), points=[[40, 60]], labels=[1])
METHODS = {
    "sam": SamPredictor,
    "clip-surgery-sam": ClipSurgerySamPredictor,
    "clip-guided-sam": ClipGuidedSamPredictor.untrained,
}


@pytest.fixture(scope="module")
def base() -> Backbones:
    path = find_checkpoint("tiny", "clip") / "tokenizer.json"
    if not path.is_file():
        pytest.skip("the tiny bundle's tokenizer is not here")
    preset = PRESETS["base"]
    return assemble(preset, build_sam(preset.sam), build_clip(preset.clip), read_tokenizer(path))


@pytest.fixture(scope="module")
def encoded() -> EncodedImage:
    """One for all methods: the plain encoding is done once."""
    rng = np.random.default_rng(0)
    return EncodedImage(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))


@pytest.fixture(scope="module", params=METHODS)
def predictor(request, base) -> Predictor:
    return METHODS[request.param](base)


def test_predicts(predictor, encoded):
    preset = predictor.backbones.preset
    prediction = predictor.predict(encoded, Prompt((CONCEPT,)), PredictOptions())
    result = prediction.results[0]
    assert result.logits.shape == (256, 256)
    assert result.candidates.shape == (3, 256, 256)
    assert prediction.logits().shape == (1, *SIZE)
    assert np.isfinite(prediction.logits()).all()
    if result.similarity is not None:
        cells = preset.clip.surgery_size // preset.clip.patch_size
        assert result.similarity.shape == (cells, cells) == (32, 32)
        assert np.abs(result.similarity).max() <= 1.001


@pytest.mark.parametrize("mode", [WITHOUT_SAM, DENSE])
def test_other_read_outs_predict(base, encoded, mode):
    predictor = load_predictor("sclip", base)
    prediction = predictor.predict(encoded, Prompt((CONCEPT,)), PredictOptions(mode=mode))
    (result,) = prediction.results
    assert result.similarity.shape == (32, 32)
    assert result.logits.shape == (256, 256)
    assert np.isfinite(result.logits).all()
    assert (result.candidates is None) == (mode == WITHOUT_SAM)


def test_counts(predictor):
    counts = count_parameters(predictor)
    clip_guided = isinstance(predictor, ClipGuidedSamPredictor)
    assert counts["trainable"] == (48_969_520 if clip_guided else 0)
