"""Grounded SAM: its boxes are transformers' own; what is done with boxes, whoever found them."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest
import segment_anything
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from torchvision.ops import box_iou
from transformers import (
    BertTokenizer,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
)

from baselines.box_prompted import DetectionConfig
from baselines.grounded_sam import GroundedSamPredictor
from clipsam.data.synthetic import SceneData
from clipsam.encoded_image import EncodedImage
from clipsam.errors import PromptError
from clipsam.models.grounding_dino import MAX_ASPECT_RATIO, GroundingDino, caption, pad_slender
from clipsam.predictor import PredictOptions
from clipsam.registry import count_parameters, load_predictor
from clipsam.types import NOTHING, Concept, ConceptResult, Prediction, Prompt
from clipsam.weights.availability import method_status
from clipsam.weights.backbones import Backbones
from clipsam.weights.bundle import WeightsError
from clipsam.weights.extra_networks import read_network
from clipsam.weights.local_files import LocalFiles
from clipsam.weights.presets import TINY
from clipsam.weights.published import GROUNDING_DINO
from tests.standins import grounding_dino

IMAGE = SceneData(1, seed=5)[0].image[:150, :220]
PHRASES = [
    "scarlet circle",
    "Zebra crossing",
    "blue square.",
    "cat? dog",
    "  stop.  sign ",
    "naïve",
]
SURE = Concept(("scarlet circle",))
HALVES = [[0.9, 0, 0, 110, 150], [0.8, 110, 0, 220, 150]]
"""Detections: the left and the right half of the image."""


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """The stand-in's files."""
    folder = tmp_path_factory.mktemp("published")
    grounding_dino.save(folder)
    return folder


@pytest.fixture
def here(published, tmp_path, monkeypatch) -> Path:
    """Where the files lie on this machine; removing or changing some hurts no other test."""
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return Path(shutil.copytree(published, tmp_path / "clipsam" / GROUNDING_DINO.repo))


@pytest.fixture
def predictor(here, tiny) -> GroundedSamPredictor:
    return load_predictor("grounded-sam", tiny)


@pytest.fixture(scope="module")
def detector(published) -> GroundingDino:
    return read_network(GROUNDING_DINO, local(published))


@pytest.fixture(scope="module")
def processor(published) -> GroundingDinoProcessor:
    images = GroundingDinoImageProcessor.from_pretrained(published, local_files_only=True)
    tokenizer = BertTokenizer.from_pretrained(published, local_files_only=True)
    return GroundingDinoProcessor(images, tokenizer)


@pytest.fixture(scope="module")
def theirs(published) -> GroundingDinoForObjectDetection:
    """As transformers loads it."""
    return GroundingDinoForObjectDetection.from_pretrained(published).eval().requires_grad_(False)


def local(folder: Path) -> LocalFiles:
    extras = {name: folder / name for name in GROUNDING_DINO.extras}
    return LocalFiles(folder / "model.safetensors", extras)


def ask(
    tiny: Backbones, detections: list, concept: Concept = SURE, **config: float
) -> ConceptResult:
    """The answer for one class of which the detector finds these."""

    class Told(GroundedSamPredictor):
        def _detect(self, encoded, name, watch):
            return torch.tensor(detections, dtype=torch.float32).reshape(-1, 5)

    told = Told(tiny, DetectionConfig(**{"score_threshold": 0.3, **config}))
    return told.predict(EncodedImage(IMAGE), Prompt((concept,))).results[0]


@pytest.mark.parametrize("phrase", PHRASES)
def test_tokens_are_transformers_own(detector, processor, phrase):
    ours = detector.tokens(phrase)
    expected = processor(text=caption(phrase), return_tensors="pt")
    assert set(ours) == {"input_ids", "token_type_ids", "attention_mask"}
    for name in ours:
        assert torch.equal(ours[name], expected[name]), name


def test_tokens_by_hand(detector):
    tokens = detector.tokens("Scarlet  DOG")["input_ids"][0].tolist()
    letters = ["s", *(f"##{letter}" for letter in "carlet")]
    expected = ["[CLS]", *letters, "dog", ".", "[SEP]"]
    assert detector.tokenizer.convert_ids_to_tokens(tokens) == expected
    assert (tokens[0], tokens[-2], tokens[-1]) == (101, 1012, 102)


def test_caption():
    assert [caption(name) for name in ("Cat", " cat. ", "a b")] == ["cat.", "cat.", "a b."]


@pytest.mark.parametrize("size", [(150, 220), (90, 60), (1, 1), (3, 50), (50, 3)], ids=str)
@pytest.mark.parametrize("phrase", PHRASES[:4])
@torch.no_grad()
def test_detections_are_transformers_own(detector, processor, theirs, size, phrase):
    image = np.random.default_rng(2).integers(0, 256, (*size, 3), dtype=np.uint8)
    inputs = processor(
        images=image,
        text=caption(phrase),
        input_data_format="channels_last",
        return_tensors="pt",
    )
    expected = processor.post_process_grounded_object_detection(
        theirs(**inputs), inputs.input_ids, threshold=0.0, target_sizes=[size]
    )[0]
    found = detector.detect(image, phrase)
    torch.testing.assert_close(found[:, 0], expected["scores"], rtol=0, atol=1e-4)
    torch.testing.assert_close(found[:, 1:], expected["boxes"], rtol=0, atol=1e-4 * max(size))
    assert found[:, 0].std() > 1e-3


@torch.no_grad()
def test_phrases_differ(detector):
    first, second = (detector.detect(IMAGE, phrase) for phrase in PHRASES[:2])
    assert (first[:, 0] - second[:, 0]).abs().max() > 0.05
    assert torch.equal(first, detector.detect(IMAGE, PHRASES[0]))


@torch.no_grad()
def test_a_long_phrase_is_cut(detector):
    assert detector.tokens("dog " * 300)["input_ids"].shape == (1, 48)
    assert torch.isfinite(detector.detect(IMAGE, "dog " * 300)).all()


def test_slender_images_are_padded():
    image = np.full((2, 300, 3), 7, np.uint8)
    padded = pad_slender(image)
    assert padded.shape == (10, 300, 3) and MAX_ASPECT_RATIO == 32
    assert (padded[:2] == 7).all() and not padded[2:].any()
    assert pad_slender(image.transpose(1, 0, 2)).shape == (300, 10, 3)
    for size in ((150, 220), (1, 1), (1, 32), (320, 10)):
        assert pad_slender(np.zeros((*size, 3), np.uint8)).shape[:2] == size


@pytest.mark.parametrize("size", [(2, 300), (300, 2), (1, 5000)], ids=str)
@torch.no_grad()
def test_slender_images_are_found_in(detector, size):
    """transformers' own code fails here: no row of pixels is left, or too few cells."""
    image = np.random.default_rng(2).integers(0, 256, (*size, 3), dtype=np.uint8)
    detections = detector.detect(image, "dog")
    assert detections.shape == (24, 5)
    assert torch.isfinite(detections).all()


def test_what_transformers_saves_is_read_whole(published, detector, theirs, tmp_path):
    """The shared box heads are in the file once; older files hold counters too, or all heads."""
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(detector.model.state_dict()[name], tensor), name
    state = load_file(published / "model.safetensors")
    heads = {name for name in state if "bbox_embed" in name and "encoder_output" not in name}
    assert {name.split(".layers")[0] for name in heads} == {"bbox_embed.0"}
    for name in sorted(heads):
        for head in ("bbox_embed.1", "model.decoder.bbox_embed.0", "model.decoder.bbox_embed.1"):
            state[name.replace("bbox_embed.0", head)] = state[name].clone()
    swin = "model.backbone.conv_encoder.model.encoder.layers.0.blocks.0.attention.self"
    state.setdefault(f"{swin}.relative_position_index", torch.zeros(16, 16, dtype=torch.long))
    state["model.text_backbone.embeddings.position_ids"] = torch.arange(64)[None]
    save_file(state, tmp_path / "model.safetensors")
    older = LocalFiles(tmp_path / "model.safetensors", local(published).extras)
    again = read_network(GROUNDING_DINO, older)
    with torch.no_grad():
        found = again.detect(IMAGE, "dog")
        assert torch.equal(found, detector.detect(IMAGE, "dog"))


@torch.no_grad()
def test_sam_is_asked_with_the_detectors_boxes(detector, here, tiny):
    """One mask per box; the class gets, at each pixel, the highest of their logits."""
    found = detector.detect(IMAGE, SURE.text)
    config = DetectionConfig(score_threshold=float(found[:, 0].median()))
    predictor = GroundedSamPredictor(tiny, config)
    result = predictor.predict(EncodedImage(IMAGE), Prompt((SURE,))).results[0]
    boxes = torch.from_numpy(result.prompts.boxes)
    assert 1 < len(boxes) <= len(found) / 2
    assert result.presence == pytest.approx(float(found[:, 0].max()))
    assert not len(result.prompts.points) and result.candidates is None and not result.note

    sam = segment_anything.SamPredictor(tiny.sam)
    sam.set_image(IMAGE)
    asked = sam.transform.apply_boxes_torch(boxes, IMAGE.shape[:2])
    _, _, low = sam.predict_torch(None, None, asked, multimask_output=False)
    expected = low[:, 0].amax(0).numpy()
    np.testing.assert_allclose(result.logits, expected, atol=1e-4, rtol=1e-4)


def test_two_boxes_are_their_union(tiny, here):
    left, right, both = (ask(tiny, rows) for rows in (HALVES[:1], HALVES[1:], HALVES))
    np.testing.assert_allclose(
        both.logits, np.maximum(left.logits, right.logits), atol=1e-4, rtol=1e-4
    )
    assert left.candidates.shape == (3, *left.logits.shape)
    assert left.candidate_scores.shape == (3,)
    np.testing.assert_array_equal(both.prompts.boxes, np.array(HALVES)[:, 1:])


@pytest.mark.parametrize(
    ("detections", "presence"),
    [
        ([[0.3, 0, 0, 110, 150], [0.1, 1, 1, 9, 9]], 0.3),
        ([], 0.0),
        ([[0.9, 230, 5, 300, 9], [0.9, -9, 5, 0, 9], [0.9, 3, 5, 3, 9]], 0.0),
    ],
    ids=["unsure", "none", "outside"],
)
def test_nothing_found(tiny, here, detections, presence):
    result = ask(tiny, detections)
    assert (result.logits == NOTHING).all() and not len(result.prompts.boxes)
    assert result.presence == pytest.approx(presence)
    assert "scarlet circle" in result.note and "the threshold is 0.3." in result.note


def test_boxes_are_cut_to_the_image(tiny, here):
    result = ask(tiny, [[0.9, -20.5, 30, 90, 400], [0.8, 150, -3, 500, 20]])
    expected = [[0, 30, 90, 150], [150, 0, 220, 20]]
    np.testing.assert_array_equal(result.prompts.boxes, np.array(expected, np.float32))


def test_boxes_that_are_almost_the_same_count_once(tiny, here):
    """IoU 100/110 is above 0.8, 100/130 is not."""
    boxes = [[0, 0, 110, 10], [0, 0, 100, 10], [0, 0, 130, 10]]
    scores = [0.5, 0.9, 0.7]
    result = ask(tiny, [[score, *box] for score, box in zip(scores, boxes, strict=True)])
    np.testing.assert_array_equal(result.prompts.boxes, [boxes[1], boxes[2]])
    all_three = ask(tiny, [[s, *b] for s, b in zip(scores, boxes, strict=True)], nms_threshold=0.95)
    np.testing.assert_array_equal(all_three.prompts.boxes, [boxes[1], boxes[2], boxes[0]])


def test_nine_hundred_boxes(tiny, here):
    """Greedily by score, by hand; no more than the most."""
    rng = np.random.default_rng(6)
    corners = rng.uniform(0, 60, (900, 2))
    boxes = np.concatenate((corners, corners + rng.uniform(20, 90, (900, 2))), 1)
    scores = rng.permutation(np.linspace(0.31, 0.99, 900))
    detections = np.concatenate((scores[:, None], boxes), 1).astype(np.float32)

    order = torch.from_numpy(detections[(-scores).argsort(), 1:])
    overlaps = box_iou(order, order)
    kept: list[int] = []
    for index in range(900):
        if not (overlaps[index, kept] > 0.8).any():
            kept.append(index)
    assert 50 < len(kept) < 900
    result = ask(tiny, detections.tolist())
    np.testing.assert_array_equal(result.prompts.boxes, order[kept[:50]].numpy())
    fewer = ask(tiny, detections.tolist(), most=3)
    np.testing.assert_array_equal(fewer.prompts.boxes, order[kept[:3]].numpy())


@torch.no_grad()
def test_synonyms_are_merged(detector, here, tiny):
    """The threshold is one that the first of them does not reach."""
    names = ("cat", "scarlet circle", "zebra crossing")
    threshold = float(detector.detect(IMAGE, names[0])[:, 0].max())
    predictor = GroundedSamPredictor(tiny, DetectionConfig(score_threshold=threshold))
    encoded = EncodedImage(IMAGE)
    single = [predictor.predict(encoded, Prompt((Concept((n,)),))).results[0] for n in names]
    merged = predictor.predict(encoded, Prompt((Concept(names),))).results[0]
    assert merged.presence == max(result.presence for result in single)
    every = {tuple(box) for result in single for box in result.prompts.boxes}
    kept = {tuple(box) for box in merged.prompts.boxes}
    assert kept <= every
    assert not single[0].prompts.boxes.size
    for result in single[1:]:
        assert kept & {tuple(box) for box in result.prompts.boxes}


def test_a_phrase_is_looked_for_once_per_scene(predictor, here, tiny):
    ran: list[object] = []
    predictor.detector.model.register_forward_hook(lambda *_: ran.append(1))
    encoded = EncodedImage(IMAGE)
    prompt = Prompt((Concept(("dog", "cat")), SURE))
    first = predictor.predict(encoded, prompt)
    assert len(ran) == 3
    again = predictor.predict(encoded, prompt)
    other = GroundedSamPredictor(tiny, DetectionConfig(score_threshold=0.9))
    other.predict(encoded, prompt)
    assert len(ran) == 3
    np.testing.assert_array_equal(again.logits(), first.logits())
    predictor.predict(EncodedImage(IMAGE), prompt)
    assert len(ran) == 6


def test_the_detector_is_shared_and_goes_with_the_last(here, tiny):
    first, second = GroundedSamPredictor(tiny), GroundedSamPredictor(tiny)
    assert first.detector is second.detector
    detector = weakref.ref(first.detector)
    del first
    gc.collect()
    assert detector() is second.detector
    del second
    gc.collect()
    assert detector() is None


def test_its_network_is_sam_and_the_detector(predictor, tiny):
    parts = (tiny.sam, predictor.detector)
    expected = sum(p.numel() for part in parts for p in part.parameters())
    assert count_parameters(predictor) == {"total": expected, "trainable": 0}
    assert GroundedSamPredictor.info.extra_networks(TINY) == (GROUNDING_DINO,)


def test_missing_weights(published, tmp_path, monkeypatch, tiny):
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert method_status(GroundedSamPredictor.info, TINY) == "needs-download"
    with pytest.raises(WeightsError, match=r"grounding-dino-tiny is not on this machine"):
        load_predictor("grounded-sam", tiny)
    shutil.copytree(published, tmp_path / "clipsam" / GROUNDING_DINO.repo)
    assert method_status(GroundedSamPredictor.info, TINY) == "ready"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("model.safetensors", lambda b: b[:-9], "damaged or incomplete"),
        ("model.safetensors", lambda _: b"<html>", "is a web page"),
        ("config.json", lambda b: b[:-9], "cannot be read as JSON"),
        ("config.json", lambda b: b.replace(b"grounding-dino", b"owlv2"), "got owlv2"),
        (
            "config.json",
            lambda b: b.replace(b'"d_model": 32', b'"d_model": 64'),
            "whose shapes differ",
        ),
        ("vocab.txt", lambda b: b[:-9], "different tokens, one per line"),
        ("vocab.txt", lambda b: b.replace(b"[CLS]", b"[cls]"), "with id 101, got"),
        (
            "vocab.txt",
            lambda b: b.replace(b"[unused7]", b"[unused8]"),
            r"got 1,110 in 1,111 lines",
        ),
        ("vocab.txt", lambda _: b"\xff\xfe", "cannot be read as text"),
        ("preprocessor_config.json", lambda b: b[:-9], "cannot be read as JSON"),
        ("preprocessor_config.json", lambda b: b"[]", "must be a JSON object"),
        ("preprocessor_config.json", lambda b: b"{}", "is of a None"),
        (
            "preprocessor_config.json",
            lambda b: b.replace(b"GroundingDino", b"Owlv2"),
            "is of a Owlv2",
        ),
        (
            "preprocessor_config.json",
            lambda b: b.replace(b"96", b'"wide"'),
            "does not describe an image processor",
        ),
    ],
)
def test_damaged_files(here, tiny, name, change, message):
    path = here / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(WeightsError, match=message) as error:
        load_predictor("grounded-sam", tiny)
    assert name in str(error.value)


def test_another_networks_weights(here, tiny):
    save_file({"weight": torch.zeros(3)}, here / "model.safetensors")
    with pytest.raises(WeightsError, match=r"model\.safetensors lacks bbox_embed"):
        load_predictor("grounded-sam", tiny)


def test_a_fast_processor_is_the_same(here, tiny):
    path = here / "preprocessor_config.json"
    content = json.loads(path.read_text())
    path.write_text(
        json.dumps({**content, "image_processor_type": "GroundingDinoImageProcessorFast"})
    )
    load_predictor("grounded-sam", tiny)


@pytest.mark.parametrize("size", [(90, 60), (60, 90), (1, 1), (2, 300)], ids=str)
def test_any_size(predictor, size):
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    calls: list[tuple[int, int]] = []
    prompt = Prompt((SURE, Concept(("cat",))))
    prediction = predictor.predict(
        EncodedImage(image), prompt, None, lambda *call: calls.append(call)
    )
    check_form(prediction, size)
    assert calls == [(1, 2), (2, 2)]


def check_form(prediction: Prediction, size: tuple[int, int]) -> None:
    """What the contract of all methods asks of an answer."""
    height, width = size
    logits = prediction.logits()
    assert logits.dtype == np.float32 and logits.shape == (len(prediction.results), *size)
    assert np.isfinite(logits).all()
    assert ((prediction.presence >= 0) & (prediction.presence <= 1)).all()
    for index, result in enumerate(prediction.results):
        assert prediction.candidate_masks(index).shape[1:] == size
        for x0, y0, x1, y1 in result.prompts.boxes:
            assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
        assert (len(result.prompts.boxes) == 0) == bool(result.note)


def test_prompts_and_modes_are_checked(predictor):
    outside = Concept(("cat",), points=[[221, 10]], labels=[1])
    with pytest.raises(PromptError, match=r"cat.*220 × 150"):
        predictor.predict(EncodedImage(IMAGE), Prompt((outside,)))
    with pytest.raises(PromptError, match=r"telepathic.*text"):
        predictor.predict(EncodedImage(IMAGE), Prompt((SURE,)), PredictOptions(mode="telepathic"))
