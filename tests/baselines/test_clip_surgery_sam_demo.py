"""CLIP Surgery + SAM, the demo: its steps written out again, and SAM through its own predictor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor

from baselines.clip_surgery_sam_demo import extreme_points
from clipsam.data.synthetic import SceneData
from clipsam.encoded_image import EncodedImage, clip_input
from clipsam.models.clip import PROMPT_TEMPLATES
from clipsam.registry import load_predictor
from clipsam.types import prompt_from_classes

METHOD = "clip-surgery-sam-demo"


def points_by_hand(similarity: np.ndarray, size: tuple[int, int]) -> tuple[list, list]:
    """Cells of the halved map in order: where they lie, 1 for high and 0 for low ones."""
    halved = similarity.reshape(len(similarity) // 2, 2, similarity.shape[1] // 2, 2).mean(
        (1, 3)
    )  # What bilinear halving of even sides is.
    scaled = (halved - halved.min()) / (halved.max() - halved.min())
    order = np.argsort(scaled.ravel())
    count = min(int((scaled >= 0.8).sum()), scaled.size // 2)
    points = []
    for cell in [*order[-count:], *order[:count]]:
        row, column = divmod(int(cell), halved.shape[1])
        x = min((column + 0.5) * size[1] / halved.shape[1], size[1] - 1)
        y = min((row + 0.5) * size[0] / halved.shape[0], size[0] - 1)
        points.append([int(x), int(y)])
    return points, [1] * count + [0] * count


@pytest.mark.parametrize("scale", [1.0, 0.05])
def test_points_are_the_demos(scale):
    """Few high cells, and so many that the lower half bounds them."""
    rng = np.random.default_rng(0)
    noise = rng.random((32, 32), np.float32)
    similarity = noise if scale == 1 else 1 - scale * noise
    similarity[:2, :2] = 0
    expected, labels = points_by_hand(similarity, (300, 451))
    found = extreme_points(torch.from_numpy(similarity), (300, 451), 0.8)
    assert found.points.tolist() == expected and found.labels.tolist() == labels
    assert 0 < sum(labels) <= 128
    assert (sum(labels) == 128) == (scale != 1)


def test_a_constant_map_finds_nothing():
    assert len(extreme_points(torch.zeros(8, 8), (20, 20), 0.8).points) == 0


def test_the_demo_step_by_step(tiny):
    """Text, map and points by the demo's formulas, the mask by segment_anything's predictor."""
    scene = SceneData(12, 7)[3]
    name = scene.names[scene.present()[0]]
    found = load_predictor(METHOD, tiny).predict(
        EncodedImage(scene.image), prompt_from_classes([(name,)])
    )
    result = found.results[0]
    with torch.no_grad():

        def ensemble(word: str) -> torch.Tensor:
            total = torch.zeros(tiny.preset.clip.projection_dim)
            for template in PROMPT_TEMPLATES:
                ids = tiny.text.tokenizer(template.format(word), return_tensors="pt")
                state = tiny.clip.text_model(input_ids=ids["input_ids"]).pooler_output
                feature = tiny.clip.text_projection(state)[0]
                total += feature / feature.norm()
            return total / total.norm()

        image = tiny.vision(clip_input(scene.image, tiny.preset))
        image = image / image.norm(dim=1, keepdim=True)
        similarity = (image @ (ensemble(name) - ensemble("")))[0, 1:]
    side = round(len(similarity) ** 0.5)
    similarity = similarity.reshape(side, side).numpy()
    np.testing.assert_allclose(result.similarity, similarity, atol=1e-5)
    points, labels = points_by_hand(result.similarity, scene.image.shape[:2])
    assert result.prompts.points.tolist() == points and result.prompts.labels.tolist() == labels
    sam = SamPredictor(tiny.sam)
    sam.set_image(scene.image)
    masks, scores, _ = sam.predict(np.array(points), np.array(labels), multimask_output=True)
    assert result.candidate_scores is not None
    np.testing.assert_allclose(result.candidate_scores, scores, atol=1e-3)
    best, mask = masks[scores.argmax()], found.class_mask(0)
    assert (best & mask).sum() / max(1, (best | mask).sum()) > 0.999
    assert np.isnan(result.presence)
