"""OWLv2 + SAM: its boxes are transformers' own, and the image is read once for all names."""

from __future__ import annotations

import gc
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest
import segment_anything
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPTokenizer,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessor,
    Owlv2Processor,
)

from baselines.box_prompted import DetectionConfig
from baselines.owlv2_sam import Owlv2SamPredictor
from clipsam.data.synthetic import SceneData
from clipsam.encoded_image import EncodedImage
from clipsam.errors import PromptError
from clipsam.models import owlv2 as owlv2_module
from clipsam.models.owlv2 import TEMPLATE, Owlv2
from clipsam.predictor import PredictOptions
from clipsam.registry import count_parameters, load_predictor
from clipsam.types import NOTHING, Concept, Prompt
from clipsam.weights.availability import method_status
from clipsam.weights.bundle import WeightsError
from clipsam.weights.extra_networks import read_network
from clipsam.weights.local_files import LocalFiles
from clipsam.weights.presets import TINY
from clipsam.weights.published import OWLV2
from tests.standins import owlv2

IMAGE = SceneData(1, seed=5)[0].image[:150, :220]
NAMES = ["striped star", "Cat", "dog, or so", "sky " * 30, "naïve"]
STAR, CAT = Concept(("striped star",)), Concept(("cat",))


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """The stand-in's files."""
    folder = tmp_path_factory.mktemp("published")
    owlv2.save(folder)
    return folder


@pytest.fixture
def here(published, tmp_path, monkeypatch) -> Path:
    """Where the files lie on this machine; removing or changing some hurts no other test."""
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return Path(shutil.copytree(published, tmp_path / "clipsam" / OWLV2.repo))


@pytest.fixture
def predictor(here, tiny) -> Owlv2SamPredictor:
    return load_predictor("owlv2-sam", tiny)


@pytest.fixture(scope="module")
def detector(published) -> Owlv2:
    return read_network(OWLV2, local(published))


@pytest.fixture(scope="module")
def processor(published) -> Owlv2Processor:
    """With the tokenizer as published: padding and length are in a file that is not needed here."""
    images = Owlv2ImageProcessor.from_pretrained(published, local_files_only=True)
    tokenizer = CLIPTokenizer.from_pretrained(
        published, local_files_only=True, pad_token="!", model_max_length=16
    )
    return Owlv2Processor(images, tokenizer)


@pytest.fixture(scope="module")
def theirs(published) -> Owlv2ForObjectDetection:
    """As transformers loads it."""
    return Owlv2ForObjectDetection.from_pretrained(published).eval().requires_grad_(False)


def local(folder: Path) -> LocalFiles:
    extras = {name: folder / name for name in OWLV2.extras}
    return LocalFiles(folder / "model.safetensors", extras)


@pytest.mark.parametrize("name", NAMES)
def test_tokens_are_transformers_own(detector, processor, name):
    ours = detector.tokens(name)
    expected = processor(text=[[TEMPLATE.format(name)]], return_tensors="pt", truncation=True)
    assert set(ours) == {"input_ids", "attention_mask"}
    for key in ours:
        assert ours[key].shape == (1, 16)
        assert torch.equal(ours[key], expected[key]), key


def test_tokens_by_hand(detector):
    """Filled up with token 0, which a typed exclamation mark is not."""
    tokens = detector.tokens("CAT!")
    start, cat, exclamation, end = detector.tokenizer.convert_tokens_to_ids(
        ["<|startoftext|>", "cat</w>", "!</w>", "<|endoftext|>"]
    )
    ids = tokens["input_ids"][0].tolist()
    assert (ids[0], ids[10:]) == (start, [cat, exclamation, end, 0, 0, 0])
    assert tokens["attention_mask"][0].tolist() == [1] * 13 + [0] * 3


@pytest.mark.parametrize("size", [(150, 220), (90, 60), (1, 1), (2, 300), (3, 50)], ids=str)
@pytest.mark.parametrize("name", NAMES[:3])
@torch.no_grad()
def test_detections_are_transformers_own(detector, processor, theirs, size, name):
    image = np.random.default_rng(2).integers(0, 256, (*size, 3), dtype=np.uint8)
    inputs = processor(
        images=image,
        text=[[TEMPLATE.format(name)]],
        input_data_format="channels_last",
        truncation=True,
        return_tensors="pt",
    )
    expected = processor.post_process_grounded_object_detection(
        theirs(**inputs), threshold=0.0, target_sizes=[size]
    )[0]
    found = detector.detect(detector.features(image), name, size)
    torch.testing.assert_close(found[:, 0], expected["scores"], rtol=0, atol=1e-4)
    torch.testing.assert_close(found[:, 1:], expected["boxes"], rtol=0, atol=1e-4 * max(size))
    assert found[:, 0].std() > 1e-5


@torch.no_grad()
def test_names_differ(detector):
    features = detector.features(IMAGE)
    first, second = (detector.detect(features, name, (150, 220)) for name in NAMES[:2])
    assert (first[:, 0] - second[:, 0]).abs().max() > 0.005
    assert torch.equal(first, detector.detect(features, NAMES[0], (150, 220)))


@torch.no_grad()
def test_large_images_are_brought_down_first(detector, monkeypatch):
    """Where boxes lie does not depend on it."""
    image = IMAGE.repeat(3, axis=0).repeat(3, axis=1)
    plain = detector.detect(detector.features(image), "cat", image.shape[:2])
    monkeypatch.setattr(owlv2_module, "LONGEST_SIDE", 220)
    seen: list[tuple[int, ...]] = []
    prepare = detector.image_processor
    monkeypatch.setattr(
        detector,
        "image_processor",
        lambda image, **given: seen.append(image.shape) or prepare(image, **given),
    )
    smaller = detector.detect(detector.features(image), "cat", image.shape[:2])
    assert seen == [(150, 220, 3)]
    moved = (smaller - plain).abs()
    assert moved[:, 0].median() < 0.002
    assert moved[:, 1:].median() < 2


def test_what_transformers_saves_is_read_whole(published, detector, theirs, tmp_path):
    """Older files hold counters too."""
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(detector.model.state_dict()[name], tensor), name
    state = load_file(published / "model.safetensors")
    state["owlv2.text_model.embeddings.position_ids"] = torch.arange(16)[None]
    state["owlv2.vision_model.embeddings.position_ids"] = torch.arange(65)[None]
    save_file(state, tmp_path / "model.safetensors")
    older = LocalFiles(tmp_path / "model.safetensors", local(published).extras)
    again = read_network(OWLV2, older)
    with torch.no_grad():
        assert torch.equal(again.features(IMAGE), detector.features(IMAGE))


@torch.no_grad()
def test_sam_is_asked_with_the_detectors_boxes(detector, here, tiny):
    """One mask per box; the class gets, at each pixel, the highest of their logits."""
    found = detector.detect(detector.features(IMAGE), STAR.text, IMAGE.shape[:2])
    config = DetectionConfig(score_threshold=float(found[:, 0].median()))
    result = (
        Owlv2SamPredictor(tiny, config).predict(EncodedImage(IMAGE), Prompt((STAR,))).results[0]
    )
    boxes = torch.from_numpy(result.prompts.boxes)
    assert 1 < len(boxes) <= len(found) / 2
    assert not len(result.prompts.points) and result.candidates is None and not result.note

    sam = segment_anything.SamPredictor(tiny.sam)
    sam.set_image(IMAGE)
    asked = sam.transform.apply_boxes_torch(boxes, IMAGE.shape[:2])
    _, _, low = sam.predict_torch(None, None, asked, multimask_output=False)
    expected = low[:, 0].amax(0).numpy()
    np.testing.assert_allclose(result.logits, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_boxes_in_the_padding_count_for_nothing(predictor):
    """The square that OWLv2 sees is mostly below this image."""
    image = IMAGE[:20]
    result = predictor.predict(EncodedImage(image), Prompt((STAR,))).results[0]
    found = predictor.detector.detect(predictor.detector.features(image), STAR.text, (20, 220))
    shown = found[found[:, 2] < 20]
    assert len(shown) < len(found) / 2
    assert result.presence == pytest.approx(float(shown[:, 0].max()))
    assert (result.prompts.boxes[:, 3] <= 20).all()


def test_nothing_found(here, tiny):
    predictor = Owlv2SamPredictor(tiny, DetectionConfig(score_threshold=0.99))
    result = predictor.predict(EncodedImage(IMAGE), Prompt((STAR,))).results[0]
    assert (result.logits == NOTHING).all() and not len(result.prompts.boxes)
    assert 0 < result.presence < 0.99
    assert "striped star" in result.note and "the threshold is 0.99." in result.note


def test_synonyms_are_merged(predictor):
    encoded = EncodedImage(IMAGE)
    single = [predictor.predict(encoded, Prompt((one,))).results[0] for one in (STAR, CAT)]
    names = Concept((STAR.text, CAT.text))
    merged = predictor.predict(encoded, Prompt((names,))).results[0]
    assert merged.presence == max(result.presence for result in single)
    every = {tuple(box) for result in single for box in result.prompts.boxes}
    assert {tuple(box) for box in merged.prompts.boxes} <= every


def test_an_image_is_read_once_and_a_name_once(predictor):
    ran: list[str] = []
    network = predictor.detector.model.owlv2
    network.vision_model.register_forward_hook(lambda *_: ran.append("image"))
    network.text_model.register_forward_hook(lambda *_: ran.append("text"))
    encoded = EncodedImage(IMAGE)
    first = predictor.predict(encoded, Prompt((STAR, CAT)))
    assert sorted(ran) == ["image", "text", "text"]
    again = predictor.predict(encoded, Prompt((STAR, CAT)))
    assert len(ran) == 3
    np.testing.assert_array_equal(again.logits(), first.logits())
    predictor.predict(encoded, Prompt((Concept(("dog", "cat")),)))
    assert ran[3:] == ["text"]


def test_the_detector_is_shared_and_goes_with_the_last(here, tiny):
    first, second = Owlv2SamPredictor(tiny), Owlv2SamPredictor(tiny)
    assert first.detector is second.detector
    detector = weakref.ref(first.detector)
    del first, second
    gc.collect()
    assert detector() is None


def test_its_network_is_sam_and_the_detector(predictor, tiny):
    parts = (tiny.sam, predictor.detector)
    expected = sum(p.numel() for part in parts for p in part.parameters())
    assert count_parameters(predictor) == {"total": expected, "trainable": 0}
    assert Owlv2SamPredictor.info.extra_networks(TINY) == (OWLV2,)


def test_missing_weights(published, tmp_path, monkeypatch, tiny):
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert method_status(Owlv2SamPredictor.info, TINY) == "needs-download"
    with pytest.raises(WeightsError, match=r"owlv2-base-patch16-ensemble is not on this machine"):
        load_predictor("owlv2-sam", tiny)
    shutil.copytree(published, tmp_path / "clipsam" / OWLV2.repo)
    assert method_status(Owlv2SamPredictor.info, TINY) == "ready"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("model.safetensors", lambda b: b[:-9], "damaged or incomplete"),
        ("config.json", lambda b: b.replace(b'"owlv2"', b'"owlvit"'), "got owlvit"),
        ("vocab.json", lambda b: b[:-9], "are not a vocabulary"),
        ("vocab.json", lambda b: b.replace(b'"cat</w>"', b'"dog</w>"'), "518 tokens"),
        ("merges.txt", lambda b: b + b"qq\n", "are not a vocabulary"),
        ("preprocessor_config.json", lambda b: b[:-9], "cannot be read as JSON"),
        ("preprocessor_config.json", lambda b: b.replace(b"Owlv2", b"OwlViT"), "of a OwlViT"),
        (
            "preprocessor_config.json",
            lambda b: b.replace(b"96", b"48"),
            "expected images of 96 × 96 pixels",
        ),
    ],
)
def test_damaged_files(here, tiny, name, change, message):
    path = here / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(WeightsError, match=message) as error:
        load_predictor("owlv2-sam", tiny)
    assert name in str(error.value)


def test_another_networks_weights(here, tiny):
    save_file({"weight": torch.zeros(3)}, here / "model.safetensors")
    with pytest.raises(WeightsError, match=r"model\.safetensors lacks box_head"):
        load_predictor("owlv2-sam", tiny)


@pytest.mark.parametrize("size", [(90, 60), (60, 90), (1, 1), (2, 300)], ids=str)
def test_any_size(predictor, size):
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    calls: list[tuple[int, int]] = []
    prompt = Prompt((STAR, CAT))
    prediction = predictor.predict(
        EncodedImage(image), prompt, None, lambda *call: calls.append(call)
    )
    assert prediction.logits().shape == (2, *size)
    assert np.isfinite(prediction.logits()).all()
    for result in prediction.results:
        assert 0 <= result.presence <= 1
        for x0, y0, x1, y1 in result.prompts.boxes:
            assert 0 <= x0 < x1 <= size[1] and 0 <= y0 < y1 <= size[0]
    assert calls == [(1, 2), (2, 2)]


def test_prompts_and_modes_are_checked(predictor):
    outside = Concept(("cat",), box=[1, 1, 30, 151])
    with pytest.raises(PromptError, match=r"cat.*220 × 150"):
        predictor.predict(EncodedImage(IMAGE), Prompt((outside,)))
    with pytest.raises(PromptError, match=r"telepathic.*text"):
        predictor.predict(EncodedImage(IMAGE), Prompt((STAR,)), PredictOptions(mode="telepathic"))
