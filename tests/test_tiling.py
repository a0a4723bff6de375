"""Tiles: what they cover, how their results are put together, and what a user gets."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from PIL import Image
from torch import nn

from clipsam.cli import main
from clipsam.encoded_image import EncodedImage
from clipsam.errors import PromptError
from clipsam.geometry import SquareTransform
from clipsam.measure import Stopwatch
from clipsam.predictor import PredictOptions, Predictor
from clipsam.registry import METHODS, load_predictor
from clipsam.tiling import Tiling
from clipsam.types import NOTHING, Concept, ConceptResult, Prompt

SIZE = (150, 331)
IMAGE = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
DOG = Concept(("dog",))


class PixelPredictor(Predictor):
    """Every logit is a function of its pixel alone, and so is the similarity."""

    info = METHODS["clip-guided-sam"]
    _mask_side = 64

    def network(self) -> nn.Module:
        return self.backbones.sam

    def _transform(self, encoded: EncodedImage) -> SquareTransform:
        return SquareTransform(encoded.size, 64, "squash", direct=True)

    def _logits(self, image: np.ndarray) -> np.ndarray:
        return image[..., 0].astype(np.float32) / 16 - 8

    def _predict_concept(
        self,
        encoded: EncodedImage,
        concept: Concept,
        mode: str,
        options: PredictOptions,
        watch: Stopwatch,
    ) -> ConceptResult:
        logits = self._logits(encoded.image)
        presence = float(encoded.image[..., 0].max()) / 255
        return ConceptResult(logits, concept.prompts, presence, similarity=logits / 8)


class TilePredictor(PixelPredictor):
    """Every tile is sure of something else, which its first pixel decides."""

    def _logits(self, image: np.ndarray) -> np.ndarray:
        return np.full(image.shape[:2], float(image[0, 0, 0]) / 16 - 8, np.float32)


tilings = pytest.mark.parametrize(
    "tiling",
    [Tiling(64), Tiling(64, 0.0), Tiling(64, 0.5), Tiling(100, 0.1, "mean"), Tiling(160, 0.3)],
    ids=str,
)


@tilings
@pytest.mark.parametrize("size", [SIZE, (65, 64), (64, 1000), (161, 161)], ids=str)
def test_tiles_cover_the_image_and_overlap(tiling, size):
    tiles = tiling.tiles(size)
    covered = np.zeros(size, int)
    for tile in tiles:
        assert 0 <= tile.top < tile.bottom <= size[0]
        assert 0 <= tile.left < tile.right <= size[1]
        assert tile.size == tuple(min(tiling.size, length) for length in size)
        covered[tile.top : tile.bottom, tile.left : tile.right] += 1
    assert covered.min() > 0
    starts = sorted({tile.left for tile in tiles})
    shared = [a + tiling.size - b for a, b in itertools.pairwise(starts)]
    assert all(one >= round(tiling.overlap * tiling.size) - 1 for one in shared)


@tilings
def test_what_is_a_function_of_the_pixel_has_no_seams(tiny, tiling):
    predictor, prompt = PixelPredictor(tiny), Prompt((DOG,))
    predictor._mask_side = tiling.size
    whole = predictor.predict(EncodedImage(IMAGE), prompt)
    tiled = predictor.predict(EncodedImage(IMAGE), prompt, PredictOptions(tiling=tiling))
    # Positions are rounded to float32, and neighbours of this noise differ by up to 16.
    np.testing.assert_allclose(tiled.logits(), whole.logits(), atol=1e-3)
    similarity, expected = (one.results[0].similarity for one in (tiled, whole))
    np.testing.assert_allclose(similarity, expected, atol=1e-4)
    assert tiled.presence == pytest.approx(whole.presence)


def test_tiles_that_disagree_blend_without_a_step(tiny):
    """Over the overlap one tile's logit becomes the next one's; equal weights would jump."""
    predictor, prompt = TilePredictor(tiny), Prompt((DOG,))
    steps = {}
    for blend in ("linear", "mean"):
        options = PredictOptions(tiling=Tiling(64, 0.25, blend))
        logits = predictor.predict(EncodedImage(IMAGE), prompt, options).logits()[0]
        steps[blend] = max(np.abs(np.diff(logits, axis=axis)).max() for axis in (0, 1))
        jump = np.ptp(logits)
    assert steps["linear"] < 2 * jump / 16
    assert steps["mean"] > 4 * jump / 16


def test_logits_have_the_networks_own_resolution(tiny):
    """A tile of 160 pixels with 64 logits a side: the whole has no more of them."""
    predictor = PixelPredictor(tiny)
    ramp = np.linspace(0, 255, SIZE[1]).astype(np.uint8)
    image = np.broadcast_to(ramp[None, :, None], (*SIZE, 3)).copy()
    options = PredictOptions(tiling=Tiling(160))
    prediction = predictor.predict(EncodedImage(image), Prompt((DOG,)), options)
    assert prediction.results[0].logits.shape == (60, 133)
    expected = np.broadcast_to(ramp / 16 - 8, SIZE)
    np.testing.assert_allclose(prediction.logits()[0], expected, atol=0.1)


def test_marks_go_to_the_tiles_that_show_them(tiny):
    """A class with marks is asked for where they are; its prompts come back where they were."""
    points = Concept(("cat",), points=[[20, 30], [300, 140]], labels=[1, 0])
    boxed = Concept(("car",), box=[100, 10, 290, 50])
    predictor, options = PixelPredictor(tiny), PredictOptions(tiling=Tiling(64))
    calls: list[tuple[int, int]] = []
    prediction = predictor.predict(
        EncodedImage(IMAGE),
        Prompt((points, boxed)),
        options,
        lambda *call: calls.append(call),
    )
    assert prediction.mode == "manual"
    cat, car = prediction.logits()
    assert (cat[100:, 100:] == NOTHING).all() and (cat[:60, :60] > NOTHING).all()
    assert (car[120:] == NOTHING).all() and (car[10:50, 100:290] > NOTHING).all()
    first, second = prediction.results
    assert np.unique(first.prompts.points, axis=0).tolist() == [[20, 30]]
    corners = second.prompts.boxes
    assert corners[:, :2].min(0).tolist() == [100, 10]
    assert corners[:, 2:].max(0).tolist() == [290, 50]
    assert first.similarity is None  # Most tiles have none.
    done, totals = zip(*calls, strict=True)
    assert done == tuple(range(1, totals[0] + 1)) and set(totals) == {len(calls)}


@pytest.mark.parametrize("method", ["clip-surgery-sam", "sclip", "esc-net"])
def test_a_method_predicts_in_tiles(tiny, method):
    predictor, prompt = load_predictor(method, tiny), Prompt((DOG, Concept(("grass",))))
    options = PredictOptions(tiling=Tiling(200))
    prediction = predictor.predict(EncodedImage(IMAGE), prompt, options)
    assert prediction.logits().shape == (2, *SIZE)
    assert np.isfinite(prediction.logits()).all()
    assert prediction.overrides == {"tile_size": 200, "tile_overlap": 0.25, "tile_blend": "linear"}
    for result in prediction.results:
        assert np.abs(result.similarity).max() <= 1.001
        points = result.prompts.points
        assert (points >= 0).all() and (points <= [SIZE[1], SIZE[0]]).all()
    no_larger = PredictOptions(tiling=Tiling(331))
    whole = predictor.predict(EncodedImage(IMAGE), prompt)
    same = predictor.predict(EncodedImage(IMAGE), prompt, no_larger)
    np.testing.assert_array_equal(same.logits(), whole.logits())
    assert np.abs(prediction.logits() - whole.logits()).max() > 0.1


def test_segment_takes_tiles(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "image.png")
    arguments = ["segment", str(tmp_path / "image.png"), "--text", "dog", "--out", str(tmp_path)]
    assert main([*arguments, "--method", "maskclip", "--tile", "200", "--tile-overlap", "0.5"]) == 0
    (method,) = json.loads((tmp_path / "results.json").read_text())["methods"]
    assert method["settings"] == {"tile_size": 200, "tile_overlap": 0.5, "tile_blend": "linear"}
    assert Image.open(tmp_path / "maskclip" / "dog.png").size == SIZE[::-1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(size=63), "tile size is 63, expected at least 64"),
        (dict(size=64, overlap=0.6), r"overlap of tiles is 0\.6, expected 0 to 0\.5"),
        (dict(size=64, overlap=float("nan")), "expected 0 to 0"),
        (dict(size=64, blend="cosine"), "“cosine”, expected linear or mean"),
    ],
)
def test_impossible_tiles_are_refused(given, message):
    with pytest.raises(PromptError, match=message):
        Tiling(**given)
