"""SAM's proposals against segment_anything's own generator; naming on hand-made features."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from segment_anything import SamAutomaticMaskGenerator

from baselines.sam_proposals import ProposalConfig, Proposals, propose_masks
from baselines.sam_proposals_clip import NamingConfig, SamProposalsClipPredictor, crop_masks
from clipsam.data.synthetic import SceneData
from clipsam.encoded_image import EncodedImage
from clipsam.geometry import SquareTransform
from clipsam.models.clip import SurgeryVision, build_clip
from clipsam.models.sizes import ClipSizes, SamConfig
from clipsam.types import NOTHING, Concept, Prompt, prompt_from_classes
from clipsam.weights.backbones import assemble
from clipsam.weights.presets import CLIP_MEAN, CLIP_STD, PRESETS, TINY

FEW = ProposalConfig(
    points_per_side=4,
    points_per_batch=5,
    iou_threshold=0.4,
    stability_threshold=0.3,
    stability_offset=0.5,
)
IMAGE = SceneData(1, seed=2)[0].image
RED, BLUE = Concept(("red disc",)), Concept(("blue star",))


def theirs(sam, image: np.ndarray, config: ProposalConfig) -> list[dict]:
    generator = SamAutomaticMaskGenerator(
        sam,
        points_per_side=config.points_per_side,
        points_per_batch=config.points_per_batch,
        pred_iou_thresh=config.iou_threshold,
        stability_score_thresh=config.stability_threshold,
        stability_score_offset=config.stability_offset,
        box_nms_thresh=config.nms_threshold,
    )
    return generator.generate(image)


def ours(backbones, image: np.ndarray, config: ProposalConfig) -> Proposals:
    encoded = EncodedImage(image)
    transform = encoded.sam_transform(backbones.preset)
    with torch.no_grad():
        return propose_masks(backbones.sam, encoded.sam_embedding(backbones), transform, config)


@pytest.mark.parametrize("size", [(256, 256), (256, 170), (90, 256)], ids=str)
def test_same_proposals_as_segment_anything(tiny, size):
    """Where the image fills SAM's square without scaling, masks are judged at one resolution."""
    image = np.asarray(IMAGE[: size[0], : size[1]])
    expected = theirs(tiny.sam, image, FEW)
    found = ours(tiny, image, FEW)
    masks = SquareTransform(size, 256).to_image(found.logits[None])[0] > 0
    assert len(found.boxes) == len(expected) > 2
    for mask, box, point, record in zip(masks, found.boxes, found.points, expected, strict=True):
        np.testing.assert_array_equal(mask.numpy(), record["segmentation"])
        x, y, width, height = record["bbox"]
        assert box.tolist() == [x, y, x + width, y + height]
        assert point.tolist() == record["point_coords"][0]


def test_nearly_the_same_where_the_image_is_scaled(tiny):
    image = np.asarray(Image.fromarray(IMAGE).resize((380, 300)))
    expected = [record["segmentation"] for record in theirs(tiny.sam, image, FEW)]
    found = ours(tiny, image, FEW)
    masks = (SquareTransform((300, 380), 256).to_image(found.logits[None])[0] > 0).numpy()
    overlaps = [max((m & e).sum() / (m | e).sum() for m in masks) for e in expected]
    assert np.mean(np.array(overlaps) > 0.95) >= 0.8


def test_each_threshold_drops_masks(tiny):
    everything = replace(FEW, iou_threshold=0.0, stability_threshold=0.0, nms_threshold=1.0)
    assert len(ours(tiny, IMAGE, everything).boxes) == 3 * 4**2
    for change in ({"iou_threshold": 0.5}, {"stability_threshold": 0.3}, {"nms_threshold": 0.7}):
        assert len(ours(tiny, IMAGE, replace(everything, **change)).boxes) < 3 * 4**2


def test_a_scene_remembers_proposals_whole():
    generator = torch.Generator().manual_seed(0)
    proposals = Proposals(
        *(torch.rand(shape, generator=generator) for shape in ((3, 8, 8), (3, 4), (3, 2)))
    )
    again = Proposals.unpacked(proposals.packed(), 8)
    for name in ("logits", "boxes", "points"):
        assert getattr(again, name).equal(getattr(proposals, name))


def test_crops_show_the_mask_on_the_mean_colour():
    """A green rectangle in a photograph twice as wide as SAM's square, squashed or padded."""
    image = np.zeros((60, 128, 3), np.uint8)
    image[20:40, 64:104] = (0, 255, 0)
    preset = replace(TINY, sam=SamConfig(image_size=64), clip=ClipSizes(image_size=48))
    for fit, scale in (("pad", (0.5, 0.5)), ("squash", (0.5, 64 / 60))):
        transform = SquareTransform((60, 128), 64, fit)
        corners = np.array([64, 20, 104, 40]) * np.tile(scale, 2)
        x0, y0, x1, y1 = np.round(corners).astype(int)
        logits = torch.full((1, 64, 64), -1.0)
        logits[:, y0:y1, x0:x1] = 1.0
        box = torch.tensor([[x0, y0, x1 - 1, y1 - 1]], dtype=torch.float32)
        proposals = Proposals(logits, box, torch.zeros(1, 2))
        crop = crop_masks(image, proposals, transform, preset, margin=0.1)
        assert crop.shape == (1, 3, 48, 48)
        # The crop's side is 40 · 1.2 = 48 pixels of the image, so that nothing is scaled: the
        # rectangle lies in columns 4 to 44 and rows 14 to 34.
        colour = ((np.array([0, 1, 0]) - CLIP_MEAN) / CLIP_STD)[:, None, None]
        np.testing.assert_allclose(
            crop[0, :, 16:32, 6:42], np.broadcast_to(colour, (3, 16, 36)), atol=1e-4
        )
        outside = crop[0].clone()
        outside[:, 12:36, 2:46] = 0
        assert (outside == 0).all()


@pytest.fixture(scope="module")
def naming(random_sam) -> SamProposalsClipPredictor:
    """A small SAM and CLIP of random weights, whose answers are replaced below."""
    config = SamConfig(image_size=random_sam.image_encoder.img_size, embed_dim=32, depth=3)
    sizes = ClipSizes(64, 64, 16, 4, 32, 1, 2, 32, 1, 2, 300, 20, 1)
    preset = replace(TINY, sam=config, clip=sizes)
    backbones = assemble(preset, random_sam, build_clip(sizes))
    return SamProposalsClipPredictor(backbones, NamingConfig(neutral=("",)))


@pytest.fixture
def answer(naming, monkeypatch):
    """The prediction for given masks (N, 32, 32), features of masks and of texts."""

    def predict(masks: torch.Tensor, shown: list[list[float]], prompt: Prompt, **texts):
        points = torch.arange(2.0 * len(masks)).view(-1, 2)
        proposals = Proposals(masks, torch.zeros(len(masks), 4), points)
        texts = {"": [0, 0, 1, 0], **texts}
        monkeypatch.setattr(naming, "_proposals", lambda *_: proposals)
        monkeypatch.setattr(
            naming, "_embed_crops", lambda *_: torch.tensor(shown).reshape(-1, 4).float()
        )
        monkeypatch.setattr(naming, "_encode", lambda names: torch.tensor(texts[names[0]]).float())
        return naming.predict(EncodedImage(np.zeros((128, 128, 3), np.uint8)), prompt)

    return predict


def test_a_class_gets_the_union_of_the_masks_it_won(answer):
    masks = torch.randn(4, 32, 32, generator=torch.Generator().manual_seed(0))
    shown = [[1, 0, 0.3, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0.9, 0.1, 0.2, 0]]
    texts = {"red disc": [1, 0, 0, 0], "blue star": [0, 1, 0, 0]}
    red, blue = answer(masks, shown, Prompt((RED, BLUE)), **texts).results
    np.testing.assert_array_equal(red.logits, torch.maximum(masks[0], masks[3]).numpy())
    np.testing.assert_array_equal(red.prompts.points, [[0, 1], [6, 7]])
    np.testing.assert_array_equal(blue.logits, masks[1].numpy())  # the third is of none
    assert red.note == blue.note == ""
    # Without the first class its masks go to who is likeliest of those that remain: to none.
    (alone,) = answer(masks, shown, Prompt((BLUE,)), **texts).results
    np.testing.assert_array_equal(alone.logits, masks[1].numpy())
    assert alone.presence > blue.presence


def test_presence_is_the_highest_probability(answer, naming):
    masks = torch.zeros(2, 32, 32)
    scale = naming.backbones.clip.logit_scale.exp().item()
    shown, text = [[0.6, 0, 0.8, 0], [0, 0, 1, 0]], [1, 0, 0, 0]
    (result,) = answer(masks, shown, Prompt((RED,)), **{"red disc": text}).results
    assert result.presence == pytest.approx(1 / (1 + np.exp(scale * 0.2)), rel=1e-4)
    assert (result.logits == NOTHING).all()
    assert "another class" in result.note


def test_no_proposal_is_a_note(answer):
    texts = {"red disc": [1, 0, 0, 0]}
    (result,) = answer(torch.zeros(0, 32, 32), [], Prompt((RED,)), **texts).results
    assert (result.logits == NOTHING).all()
    assert np.isnan(result.presence)
    assert result.note == "Empty mask: SAM proposed no mask in this image."


def test_an_image_of_one_colour_can_have_no_proposal(tiny):
    strict = NamingConfig(ProposalConfig(points_per_side=2, iou_threshold=0.99))
    predictor = SamProposalsClipPredictor(tiny, strict)
    grey = EncodedImage(np.full((50, 70, 3), 120, np.uint8))
    prediction = predictor.predict(grey, prompt_from_classes([["red disc"], ["blue star"]]))
    assert not prediction.masks().any()
    assert all(result.note for result in prediction.results)


def test_proposals_are_made_once_whatever_the_classes(tiny, monkeypatch):
    few = SamProposalsClipPredictor(tiny, NamingConfig(FEW))
    encoded, calls = EncodedImage(IMAGE), []
    run = SurgeryVision.forward
    monkeypatch.setattr(SurgeryVision, "forward", lambda *given: (calls.append(1), run(*given))[1])
    monkeypatch.setattr(
        "baselines.sam_proposals_clip.propose_masks",
        lambda *given: (calls.append("propose"), propose_masks(*given))[1],
    )
    few.predict(encoded, Prompt((RED,)))
    assert calls == ["propose", 1]
    few.predict(encoded, Prompt((BLUE, Concept(("striped cross",)))))
    assert calls == ["propose", 1]


def test_synonyms_are_averaged(tiny):
    predictor = SamProposalsClipPredictor(tiny, NamingConfig(FEW))
    with torch.no_grad():
        one, other, both = (
            predictor._encode(names) for names in (("disc",), ("circle",), ("disc", "circle"))
        )
    torch.testing.assert_close(both, torch.nn.functional.normalize(one + other, dim=0))


def test_real_sams_get_segment_anythings_settings():
    assert SamProposalsClipPredictor.design(PRESETS["base"]).proposals == ProposalConfig()
    assert SamProposalsClipPredictor.design(TINY).proposals.points_per_side == 16
