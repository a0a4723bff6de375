"""The baseline ``sam`` against segment-anything's own ``SamPredictor``."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import segment_anything
import torch

from baselines.sam import SamPredictor
from clipsam.encoded_image import EncodedImage
from clipsam.models.clip import build_clip
from clipsam.models.sizes import ClipSizes, SamConfig
from clipsam.types import Concept, Prompt
from clipsam.weights.backbones import assemble
from clipsam.weights.presets import TINY

SIZES = [(96, 128), (90, 40), (128, 128), (300, 517), (7, 250)]
CLICK = dict(points=[[11.5, 5.25]], labels=[1])
CLICKS = dict(points=[[11.5, 5.25], [30.0, 2.0], [3.0, 6.5]], labels=[1, 0, 1])
BOX = dict(box=[2.0, 1.0, 33.5, 6.0])
PROMPTS = {"click": CLICK, "clicks": CLICKS, "box": BOX, "box+clicks": {**CLICKS, **BOX}}


@pytest.fixture(scope="module")
def ours(random_sam) -> SamPredictor:
    encoder = random_sam.image_encoder
    config = SamConfig(image_size=encoder.img_size, embed_dim=32, depth=3, num_heads=2)
    sizes = ClipSizes(64, 64, 16, 16, 32, 1, 2, 32, 1, 2, 300, 20, 1)
    preset = replace(TINY, sam=config, clip=sizes)
    return SamPredictor(assemble(preset, random_sam, build_clip(sizes), tokenizer=None))


@pytest.fixture(scope="module", params=SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def image(request) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (*request.param, 3), dtype=np.uint8)


@pytest.mark.parametrize("given", PROMPTS)
def test_same_as_segment_anything(random_sam, ours, image, given):
    theirs = segment_anything.SamPredictor(random_sam)
    theirs.set_image(image)
    prompt = PROMPTS[given]
    points, labels, box = (
        np.array(prompt[k]) if k in prompt else None for k in ("points", "labels", "box")
    )
    asked = dict(point_coords=points, point_labels=labels, box=box, return_logits=True)
    singles, _, single = theirs.predict(**asked, multimask_output=False)
    triples, scores, triple = theirs.predict(**asked, multimask_output=True)

    concept = Concept(("thing",), **prompt)
    prediction = ours.predict(EncodedImage(image), Prompt((concept,)))
    result = prediction.results[0]

    close = dict(atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(result.candidates, triple, **close)
    torch.testing.assert_close(result.candidate_scores, scores, **close)
    best = scores.argmax()
    chosen, low = (triples[best], triple[best]) if given == "click" else (singles[0], single[0])
    torch.testing.assert_close(result.logits, low, **close)
    torch.testing.assert_close(prediction.class_logits(0), chosen, **close)
    assert prediction.candidate_masks(0).shape == (3, *image.shape[:2])
