"""What holds for every method: modes, options and scenes."""

from __future__ import annotations

import numpy as np
import pytest

from clipsam.encoded_image import EncodedImage
from clipsam.errors import PromptError
from clipsam.predictor import PredictOptions
from clipsam.registry import load_predictor
from clipsam.types import Concept, Prompt
from clipsam.weights.presets import TINY, find_preset


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(PromptError, match=r"“small”.*tiny, base"):
        find_preset("small")


def test_each_class_chooses_its_mode(tiny):
    """A class with a point is taken by hand, one without is looked for by its name."""
    predictor = load_predictor("clip-guided-sam", tiny)
    pointed = Concept(("red disc",), points=[[20, 30]], labels=[1])
    prompt = Prompt((Concept(("blue star",)), pointed))
    image = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    first, second = predictor.predict(EncodedImage(image), prompt).results
    assert len(first.prompts.points) > 1
    np.testing.assert_array_equal(second.prompts.points, pointed.points)


@pytest.mark.parametrize("method", ["clip-surgery-sam", "clip-guided-sam", "esc-net"])
def test_equal_questions_get_equal_answers(tiny, method):
    predictor = load_predictor(method, tiny)
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)

    def ask(*names: str):
        (result,) = predictor.predict(EncodedImage(image), Prompt((Concept(names),))).results
        return result

    for one, other in [
        (ask("dress"), ask("Dress")),
        (ask("dress", "gown"), ask("Gown", "dress")),
        (ask("café"), ask("cafe\u0301")),
    ]:
        np.testing.assert_array_equal(one.prompts.points, other.prompts.points)
        np.testing.assert_array_equal(one.logits, other.logits)


@pytest.mark.parametrize(
    ("method", "reads"), [("clip-surgery-sam", True), ("esc-net", True), ("sam-lora", False)]
)
def test_a_name_that_is_cut_is_said(tiny, method, reads):
    predictor = load_predictor(method, tiny)
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    names = ("dog", "a dog with many words " * 30)
    prompt = Prompt(tuple(Concept((name,), points=[[9, 9]], labels=[1]) for name in names))
    short, long = predictor.predict(EncodedImage(image), prompt).results
    assert not short.note
    assert ("“a dog with many words" in long.note and "too long" in long.note) == reads


def test_options_of_drawn_points(tiny):
    predictor = load_predictor("clip-surgery-sam", tiny)
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    encoded, prompt = EncodedImage(image), Prompt((Concept(("blue star",)),))

    def points(**options) -> np.ndarray:
        return (
            predictor.predict(encoded, prompt, PredictOptions(**options)).results[0].prompts.points
        )

    assert len(points(num_points=9)) == 9
    assert len(points(sampling="reference", num_points=7)) == 7
    similarity = predictor.predict(encoded, prompt).results[0].similarity
    row, column = np.unravel_index(similarity.argmax(), similarity.shape)
    # Just under the maximum only its own cell and those around it qualify; at 0 nearly all do.
    peak = points(point_threshold=0.999)
    cells = np.array([80, 60]) / similarity.shape[0]
    assert (np.abs(peak / cells - [column + 0.5, row + 0.5]) <= 1).all()
    spread = points(point_threshold=0.0, num_points=40)
    assert np.ptp(spread, axis=0).min() > 30


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
    ids=["grey", "RGBA", "float", "empty"],
)
def test_a_scene_is_an_rgb_picture(image):
    with pytest.raises(ValueError, match="uint8"):
        EncodedImage(image)


def test_a_scene_forgets_what_it_cannot_hold(tiny):
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    depth = len(tiny.sam.image_encoder.blocks)
    roomy, tight = EncodedImage(image), EncodedImage(image, max_bytes=1)
    expected = roomy.sam_embedding(tiny)
    for _ in range(2):
        assert tight.sam_embedding(tiny).equal(expected)
        assert tight.sam_tokens(tiny, depth).equal(roomy.sam_tokens(tiny, depth))
    assert len(tight._features) == 1
    assert TINY.last_blocks is None or ("sam", "tiny", depth - TINY.last_blocks) in roomy._features
