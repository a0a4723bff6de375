"""SAM 3 and SAM3-LiteText in all their modes, against transformers' own model and processor."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from transformers import CLIPTokenizer, Sam3LiteTextModel, Sam3Model, Sam3Processor

from baselines import sam3 as method_module
from baselines.sam3 import Sam3Predictor
from clipsam.encoded_image import EncodedImage
from clipsam.models.sam3_model import Sam3ImageProcessor
from clipsam.predictor import PredictOptions
from clipsam.registry import METHODS, SEMANTIC, TEXT, TEXT_AND_BOXES, load_predictor
from clipsam.types import Concept, ConceptResult, Prompt
from clipsam.weights.bundle import WeightsError
from clipsam.weights.extra_networks import read_network
from clipsam.weights.local_files import locate
from tests import standins
from tests.standins import sam3

IMAGE = np.random.default_rng(3).integers(0, 256, (70, 110, 3), dtype=np.uint8)
IMAGE[20:50, 30:80] //= 4
BOX, OTHER_BOX = [30, 20, 80, 50], [2, 5, 25.5, 60]
FIVE = "giraffe", "sheep", "cup", "dog", "cat"
THRESHOLD = 0.02
"""Networks of random weights are sure of little."""

MODELS = {"sam3": Sam3Model, "sam3-litetext": Sam3LiteTextModel}


@pytest.fixture(scope="module", params=MODELS)
def published(request, tmp_path_factory) -> tuple[str, Path]:
    """A method, and the files of its stand-in."""
    (source,) = METHODS[request.param].networks
    home = tmp_path_factory.mktemp("published")
    standins.SAVE[source](home / source.repo)
    return request.param, home


@pytest.fixture
def here(published, tmp_path, monkeypatch) -> Path:
    """Where a copy of the files lies on this machine."""
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    method, home = published
    shutil.copytree(home, tmp_path / "clipsam")
    return tmp_path / "clipsam" / METHODS[method].networks[0].repo


@pytest.fixture
def predictor(published, here, tiny) -> Sam3Predictor:
    backbones = replace(tiny, _extra_networks=WeakValueDictionary())
    return load_predictor(published[0], backbones)


Ask = Callable[..., tuple[object, Sam3Processor]]


@pytest.fixture(scope="module")
def theirs(published) -> Ask:
    """What transformers computes for a phrase and boxes; and its processor."""
    method, home = published
    folder = home / METHODS[method].networks[0].repo
    size = {"height": sam3.SIDE, "width": sam3.SIDE}
    tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    processor = Sam3Processor(Sam3ImageProcessor(size=size), tokenizer)
    model = MODELS[method].from_pretrained(folder).eval()

    @torch.no_grad()
    def ask(phrase: str, boxes: list | None = None) -> tuple:
        batch = processor(
            images=Image.fromarray(IMAGE),
            text=phrase,
            input_boxes=boxes and [boxes],
            return_tensors="pt",
        )
        del batch["original_sizes"]
        return model(**batch), processor

    return ask


def ask(predictor: Sam3Predictor, mode: str | None, *concepts: Concept) -> list[ConceptResult]:
    options = PredictOptions(mode=mode)
    return list(predictor.predict(EncodedImage(IMAGE), Prompt(concepts), options).results)


def check_instances(result: ConceptResult, output: object, processor: Sam3Processor) -> int:
    """Compare instances with transformers', in its order of queries; return their number."""
    (found,) = processor.post_process_instance_segmentation(output, THRESHOLD)
    (placed,) = processor.post_process_object_detection(
        output, THRESHOLD, target_sizes=[IMAGE.shape[:2]]
    )
    assert len(result.instances) == len(found["scores"])
    order = found["scores"].argsort(descending=True, stable=True)
    for one, index in zip(result.instances, order, strict=True):
        assert one.score == pytest.approx(float(found["scores"][index]), abs=1e-4)
        x0, y0, x1, y1 = placed["boxes"][index].tolist()
        inside = [max(x0, 0), max(y0, 0), min(x1, 110), min(y1, 70)]
        np.testing.assert_allclose(one.box, inside, atol=0.01)
        mask = found["masks"][index].numpy() > 0
        assert np.not_equal(one.logits > 0, mask).mean() < 0.002
    assert result.presence == pytest.approx(float(output.presence_logits.sigmoid()), abs=1e-4)
    return len(result.instances)


@pytest.mark.parametrize("boxed", [False, True], ids=["text", "text and a box"])
def test_instances_scores_and_boxes(predictor, theirs, boxed, monkeypatch):
    monkeypatch.setattr(method_module, "SCORE_THRESHOLD", THRESHOLD)
    found = 0
    for name in FIVE:
        concept = Concept((name,), box=BOX if boxed else None)
        (result,) = ask(predictor, TEXT_AND_BOXES if boxed else TEXT, concept)
        found += check_instances(result, *theirs(name, [BOX] if boxed else None))
        np.testing.assert_array_equal(result.prompts.boxes, [BOX] if boxed else np.zeros((0, 4)))
    assert found


def test_a_box_changes_the_answer(theirs):
    named, _ = theirs("dog")
    shown, _ = theirs("dog", [BOX])
    elsewhere, _ = theirs("dog", [OTHER_BOX])
    assert (named.pred_masks - shown.pred_masks).abs().max() > 0.01
    assert (elsewhere.pred_masks - shown.pred_masks).abs().max() > 0.01


def test_the_semantic_head(predictor, theirs):
    for name in FIVE:
        (result,) = ask(predictor, SEMANTIC, Concept((name,)))
        output, processor = theirs(name)
        np.testing.assert_allclose(result.logits, output.semantic_seg[0, 0], atol=1e-4)
        (mask,) = processor.post_process_semantic_segmentation(output)
        assert np.not_equal(result.logits > 0, mask.numpy() > 0).mean() < 0.002
        assert 0.02 < (result.logits > 0).mean() < 0.98
        assert result.presence == pytest.approx(float(output.presence_logits.sigmoid()), abs=1e-4)
        assert result.instances is None


def test_synonyms_of_the_semantic_head(predictor):
    both, one, other = (
        ask(predictor, SEMANTIC, Concept(names))[0]
        for names in (("dog", "cup"), ("dog",), ("cup",))
    )
    np.testing.assert_array_equal(both.logits, np.maximum(one.logits, other.logits))


def test_classes_asked_together_are_those_asked_alone(predictor):
    concepts = [Concept((name,), box=BOX if name == "dog" else None) for name in FIVE]
    for mode in predictor.info.modes:
        together = ask(predictor, mode, *concepts)
        for concept, result in zip(concepts, together, strict=True):
            (alone,) = ask(predictor, mode, concept)
            np.testing.assert_array_equal(result.logits, alone.logits)
            assert result.presence == alone.presence


def test_five_classes_encode_the_image_once(predictor):
    ran: list[str] = []
    predictor.sam3.model.vision_encoder.register_forward_hook(lambda *_: ran.append("image"))
    encoded, prompt = EncodedImage(IMAGE), Prompt(tuple(Concept((name,)) for name in FIVE))
    for mode in predictor.info.modes:
        predictor.predict(encoded, prompt, PredictOptions(mode=mode))
    assert ran == ["image"]


def test_a_drawn_box_decides_the_mode(predictor):
    boxed, bare = Concept(("dog",), box=BOX), Concept(("cat",))
    options = PredictOptions()
    prediction = predictor.predict(EncodedImage(IMAGE), Prompt((boxed, bare)), options)
    assert prediction.mode == f"{TEXT} + {TEXT_AND_BOXES}"
    for result, (mode, concept) in zip(
        prediction.results, [(TEXT_AND_BOXES, boxed), (TEXT, bare)], strict=True
    ):
        np.testing.assert_array_equal(result.logits, ask(predictor, mode, concept)[0].logits)
    by_name = ask(predictor, TEXT, boxed)[0]
    np.testing.assert_array_equal(by_name.logits, ask(predictor, TEXT, Concept(("dog",)))[0].logits)
    unboxed = ask(predictor, TEXT_AND_BOXES, bare)[0]
    np.testing.assert_array_equal(unboxed.logits, ask(predictor, TEXT, bare)[0].logits)


lite = pytest.mark.parametrize("published", ["sam3-litetext"], indirect=True)


@lite
def test_tokens_and_padding_of_litetext(here, predictor):
    tokenizer = CLIPTokenizer.from_pretrained(here, local_files_only=True)
    assert tokenizer.pad_token == "!"
    change(here / "tokenizer_config.json", pad_token={"content": "!"})
    source = METHODS["sam3-litetext"].networks[0]
    tokenizers = predictor.sam3._tokenizer, read_network(source, locate(source))._tokenizer
    for text in ("Cat  dog", "naïve “quotes”, 12%", ""):
        ours = tokenizers[0](text, padding="max_length", max_length=32)
        assert tokenizers[1](text, padding="max_length", max_length=32) == ours
        theirs = tokenizer(text, padding="max_length", max_length=32)
        assert ours["input_ids"] == theirs["input_ids"]


def change(path: Path, **content: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **content}))


@lite
@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("tokenizer_config.json", {"pad_token": "[PAD]"}, r"expected a pad_token .* got \[PAD\]"),
        ("tokenizer_config.json", {"pad_token": [1]}, r"expected a pad_token .* got \[1\]"),
        ("tokenizer.json", {"model": {"vocab": {}, "merges": []}}, "expected .* tokens"),
        ("tokenizer.json", {"model": None}, "is not a byte-pair tokenizer"),
        ("config.json", {"model_type": "sam3"}, "expected model type sam3_lite_text, got sam3"),
    ],
    ids=["padding", "no padding", "no tokens", "no model", "kind"],
)
def test_foreign_files_of_litetext(here, tiny, name, content, says):
    change(here / name, **content)
    backbones = replace(tiny, _extra_networks=WeakValueDictionary())
    with pytest.raises(WeightsError, match=says):
        load_predictor("sam3-litetext", backbones)


@lite
def test_a_release_of_transformers_without_litetext(here, tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "clipsam.models.sam3_litetext", None)
    backbones = replace(tiny, _extra_networks=WeakValueDictionary())
    with pytest.raises(WeightsError, match="has no SAM3-LiteText; install a newer one"):
        load_predictor("sam3-litetext", backbones)
