"""Classes that go through a tuned SAM together, as on a GPU, and what is not run again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from clipsam.data.synthetic import SceneData
from clipsam.encoded_image import EncodedImage
from clipsam.methods import tuned_sam as tuned_sam_module
from clipsam.methods.tuned_sam import TunedSamPredictor
from clipsam.models import image_encoder as encoder_module
from clipsam.models.image_encoder import AdaptedImageEncoder
from clipsam.predictor import PredictOptions
from clipsam.registry import load_predictor
from clipsam.types import Concept, Prompt
from clipsam.weights.presets import PRESETS

IMAGE = SceneData(1, seed=5)[0].image
PROMPT = Prompt(
    (
        Concept(("striped star",), points=[[40, 60]], labels=[1]),
        Concept(("red disc", "scarlet circle"), points=[[90, 20], [5, 5]], labels=[1, 0]),
        Concept(("blue square",), box=[10, 20, 90, 80]),
        Concept(("green ring",), points=[[70, 70]], labels=[1]),
    )
)
CASES = [
    ("clip-guided-sam", "semi-automatic"),
    ("clip-guided-sam", "manual"),
    ("sam-ptx", "manual"),
    ("sam-lora", "manual"),
    ("clip-surgery-sam-decoder", "semi-automatic"),
]


@pytest.fixture
def encoded(monkeypatch) -> list[int]:
    """How many (image, class) pairs each pass through the adapted blocks took."""
    sizes: list[int] = []
    finish = AdaptedImageEncoder.finish_adapted

    def count(encoder: AdaptedImageEncoder, begun: torch.Tensor, *rest: object) -> torch.Tensor:
        sizes.append(begun.shape[1])
        return finish(encoder, begun, *rest)

    monkeypatch.setattr(AdaptedImageEncoder, "finish_adapted", count)
    return sizes


def together(monkeypatch, classes: int) -> None:
    monkeypatch.setattr(TunedSamPredictor, "_classes_at_a_time", lambda self, options: classes)


@pytest.mark.parametrize(("method", "mode"), CASES, ids=[":".join(case) for case in CASES])
@pytest.mark.parametrize("classes", [2, 3, 9])
def test_together_equals_one_by_one(tiny, monkeypatch, method, mode, classes):
    """Whatever mixture of points and boxes each class has."""
    predictor = load_predictor(method, tiny)
    alone = predictor.predict(EncodedImage(IMAGE), PROMPT, PredictOptions(mode=mode))
    together(monkeypatch, classes)
    calls: list[tuple[int, int]] = []
    joint = predictor.predict(
        EncodedImage(IMAGE), PROMPT, PredictOptions(mode=mode), lambda *call: calls.append(call)
    )
    np.testing.assert_allclose(joint.logits(), alone.logits(), atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(joint.presence, alone.presence, atol=1e-6)
    assert calls == [(done, 4) for done in (1, 2, 3, 4)]
    for one, other in zip(joint.results, alone.results, strict=True):
        np.testing.assert_array_equal(one.prompts.points, other.prompts.points)
        np.testing.assert_allclose(one.candidate_scores, other.candidate_scores, atol=1e-4)


def test_only_classes_without_an_embedding_are_encoded(tiny, monkeypatch, encoded):
    predictor = load_predictor("clip-guided-sam", tiny)
    image, options = EncodedImage(IMAGE), PredictOptions(mode="manual")
    together(monkeypatch, 3)
    predictor.predict(image, Prompt(PROMPT.concepts[1:2]), options)
    predictor.predict(image, PROMPT, options)
    assert encoded == [1, 2, 1]
    predictor.predict(image, PROMPT, options)
    assert encoded == [1, 2, 1]


def test_each_class_runs_only_the_blocks_after_it_has_entered(tiny, monkeypatch):
    """The first adapted block is the image's: its MLP adapter, which adds last, sees the class."""
    attended = []
    attend = encoder_module.attend
    monkeypatch.setattr(
        encoder_module, "attend", lambda *asked: attended.append(asked) or attend(*asked)
    )
    predictor = load_predictor("clip-guided-sam", tiny)
    predictor.predict(EncodedImage(IMAGE), PROMPT, PredictOptions(mode="manual"))
    first = predictor.model.image_encoder.first_adapted
    depth = len(predictor.model.image_encoder.blocks)
    assert len(attended) == first + 1 + len(PROMPT.concepts) * (depth - first - 1)


def test_one_embedding_where_the_encoder_sees_no_class(tiny, monkeypatch, encoded):
    together(monkeypatch, 4)
    load_predictor("sam-parallel", tiny).predict(
        EncodedImage(IMAGE), PROMPT, PredictOptions(mode="manual")
    )
    assert encoded == [1]


def test_a_scene_that_keeps_nothing_answers_all_the_same(tiny, monkeypatch):
    predictor = load_predictor("clip-guided-sam", tiny)
    together(monkeypatch, 3)
    kept = predictor.predict(EncodedImage(IMAGE), PROMPT, PredictOptions(mode="manual"))
    forgetful = predictor.predict(
        EncodedImage(IMAGE, max_bytes=1), PROMPT, PredictOptions(mode="manual")
    )
    np.testing.assert_allclose(forgetful.logits(), kept.logits(), atol=1e-5)


def test_as_many_as_half_of_the_free_memory_holds(tiny, monkeypatch):
    """ViT-B: 4096 tokens of 768 channels, 24 numbers of four bytes for each: 302 MB a class."""
    predictor = load_predictor("clip-guided-sam", tiny)
    assert predictor._classes_at_a_time(PredictOptions()) == 1
    gpu = replace(tiny, preset=PRESETS["base"], device=torch.device("cuda"))
    monkeypatch.setattr(predictor, "backbones", gpu)
    for free, expected in ((10**8, 1), (3 * 10**9, 4), (24 * 10**9, 39)):
        monkeypatch.setattr(tuned_sam_module, "free_memory", lambda device, free=free: free)
        assert predictor._classes_at_a_time(PredictOptions()) == expected
