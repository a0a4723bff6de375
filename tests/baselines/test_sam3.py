"""SAM 3: computed as transformers does, once per image; a class is the union of its instances."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer, Sam3Model, Sam3Processor

from baselines.sam3 import SCORE_THRESHOLD, Sam3Predictor
from clipsam.encoded_image import EncodedImage
from clipsam.models.sam3_model import Sam3, Sam3ImageProcessor
from clipsam.registry import load_predictor
from clipsam.types import NOTHING, Concept, ConceptResult, Prompt
from clipsam.weights.availability import method_status
from clipsam.weights.backbones import Backbones
from clipsam.weights.bundle import WeightsError
from clipsam.weights.extra_networks import read_network
from clipsam.weights.local_files import locate
from clipsam.weights.presets import TINY
from clipsam.weights.published import SAM3
from tests.standins import sam3

IMAGE = np.random.default_rng(3).integers(0, 256, (70, 110, 3), dtype=np.uint8)
IMAGE[20:50, 30:80] //= 4
SEVERAL, OTHER, NONE = "giraffe", "sheep", "cup"
"""Of the stand-in's phrases, two of which it finds instances in the image, and one of none."""


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """The stand-in's files."""
    folder = tmp_path_factory.mktemp("published")
    sam3.save(folder)
    return folder


@pytest.fixture
def here(published, tmp_path, monkeypatch) -> Path:
    """Where the files lie on this machine; removing or changing some hurts no other test."""
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return Path(shutil.copytree(published, tmp_path / "clipsam" / SAM3.repo))


@pytest.fixture
def backbones(tiny) -> Backbones:
    """The tiny ones, which know of no network of another test's."""
    return replace(tiny, _extra_networks=WeakValueDictionary())


@pytest.fixture
def predictor(here, backbones) -> Sam3Predictor:
    return load_predictor("sam3", backbones)


@pytest.fixture(scope="module")
def theirs(published) -> Callable[[str, tuple[int, int] | None], tuple[object, dict]]:
    """What transformers computes for a phrase: raw, and its instances at a size."""
    size = {"height": sam3.SIDE, "width": sam3.SIDE}
    tokenizer = CLIPTokenizer.from_pretrained(published, local_files_only=True)
    processor = Sam3Processor(Sam3ImageProcessor(size=size), tokenizer)
    model = Sam3Model.from_pretrained(published).eval()

    @torch.no_grad()
    def ask(phrase: str, size: tuple[int, int] | None = None) -> tuple[object, dict]:
        batch = processor(images=Image.fromarray(IMAGE), text=phrase, return_tensors="pt")
        del batch["original_sizes"]
        output = model(**batch)
        found = processor.post_process_instance_segmentation(
            output, threshold=SCORE_THRESHOLD, target_sizes=size and [size]
        )
        return output, found[0]

    return ask


def ask(predictor: Sam3Predictor, *synonyms: str) -> ConceptResult:
    return predictor.predict(EncodedImage(IMAGE), Prompt((Concept(synonyms),))).results[0]


@pytest.mark.parametrize("phrase", [SEVERAL, OTHER, NONE])
def test_instances_are_those_of_transformers(predictor, theirs, phrase):
    output, found = theirs(phrase)
    network = predictor.sam3
    instances = network.find(network.read_image(IMAGE), phrase)
    torch.testing.assert_close(instances.logits, output.pred_masks[0], rtol=0, atol=1e-4)
    kept = instances.scores > SCORE_THRESHOLD
    torch.testing.assert_close(instances.scores[kept], found["scores"], rtol=0, atol=1e-4)
    assert torch.equal(instances.logits[kept] > 0, found["masks"].bool())
    presence = float(output.presence_logits.sigmoid())
    assert instances.presence == pytest.approx(presence, abs=1e-4)
    assert output.pred_masks.std() > 0.1


@pytest.mark.parametrize("phrase", [SEVERAL, OTHER])
def test_a_class_is_the_union_of_its_instances(predictor, theirs, phrase):
    """The same at the network's resolution; theirs enlarges probabilities instead of logits."""
    output, found = theirs(phrase)
    prediction = predictor.predict(EncodedImage(IMAGE), Prompt((Concept((phrase,)),)))
    result = prediction.results[0]
    assert len(found["masks"]) > 1
    np.testing.assert_array_equal(result.logits > 0, found["masks"].bool().any(0))
    assert result.presence == pytest.approx(float(output.presence_logits.sigmoid()), abs=1e-4)
    assert not result.note and result.similarity is None
    assert not len(result.prompts.points) and not len(result.prompts.boxes)
    _, large = theirs(phrase, IMAGE.shape[:2])
    assert (prediction.class_mask(0) == large["masks"].bool().any(0).numpy()).mean() > 0.98
    assert 0.02 < prediction.class_mask(0).mean() < 0.98


def test_nothing_found(predictor, theirs):
    output, found = theirs(NONE)
    assert not len(found["masks"])
    presence = output.presence_logits[0].sigmoid()
    best = float((output.pred_logits[0].sigmoid() * presence).max())
    result = ask(predictor, NONE)
    assert (result.logits == NOTHING).all() and result.logits.shape == (32, 32)
    assert result.presence == pytest.approx(float(presence), abs=1e-4)
    assert f"“{NONE}” has presence {float(presence):.2f}" in result.note
    assert f"best instance score {best:.2f} (threshold 0.5)." in result.note


def test_synonyms_merge(predictor):
    both = ask(predictor, NONE, SEVERAL, OTHER)
    one, other, none = (ask(predictor, phrase) for phrase in (SEVERAL, OTHER, NONE))
    np.testing.assert_array_equal(both.logits, np.maximum(one.logits, other.logits))
    assert both.presence == max(one.presence, other.presence, none.presence)


def test_tokens_are_those_of_transformers(published, predictor):
    theirs = CLIPTokenizer.from_pretrained(published, local_files_only=True)
    for text in ("Cat  dog", "naïve “quotes”, 12%", ""):
        assert predictor.sam3._tokenizer(text)["input_ids"] == theirs(text)["input_ids"]


def test_long_phrases_are_cut(predictor):
    assert np.isfinite(ask(predictor, "cat " * 50).logits).all()


def test_image_and_phrases_are_read_once(predictor):
    ran: list[str] = []
    model = predictor.sam3.model
    model.vision_encoder.register_forward_hook(lambda *_: ran.append("image"))
    model.text_encoder.register_forward_hook(lambda *_: ran.append("text"))
    encoded, prompt = EncodedImage(IMAGE), Prompt((Concept((SEVERAL,)), Concept((NONE, OTHER))))
    first = predictor.predict(encoded, prompt)
    assert sorted(ran) == ["image", "text", "text", "text"]
    again = predictor.predict(encoded, prompt)
    assert len(ran) == 4
    np.testing.assert_array_equal(again.logits(), first.logits())
    ask(predictor, SEVERAL)
    assert ran[4:] == ["image"]


def test_a_scene_counts_the_features(predictor):
    """All levels of them, but no positions, which are the same for all images."""
    encoded = EncodedImage(IMAGE)
    predictor.predict(encoded, Prompt((Concept((NONE,)),)))
    assert encoded._bytes() == 4 * 32 * (32**2 + 16**2 + 8**2 + 4**2)


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (3, 3), (90, 60)], ids=str)
def test_any_size(predictor, size):
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    prediction = predictor.predict(EncodedImage(image), Prompt((Concept((SEVERAL,)),)))
    assert prediction.logits().shape == (1, *size)
    assert np.isfinite(prediction.logits()).all()


def test_everything_that_runs_is_counted(predictor):
    counted = {id(parameter) for parameter in predictor.network().parameters()}
    assert {id(parameter) for parameter in predictor.sam3.model.parameters()} == counted
    assert not any(parameter.requires_grad for parameter in predictor.network().parameters())


def test_status(here):
    """Without its weights a download alone does not help: the terms must be accepted first."""
    assert method_status(Sam3Predictor.info, TINY) == "ready"
    (here / "model.safetensors").unlink()
    assert method_status(Sam3Predictor.info, TINY) == "unavailable"


def test_missing_weights(here, backbones):
    (here / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=f"{SAM3.repo} is not on this machine"):
        load_predictor("sam3", backbones)


def test_truncated_weights(here, backbones):
    weights = here / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"model\.safetensors .*damaged or incomplete"):
        load_predictor("sam3", backbones)


def change_config(here: Path, change: Callable[[dict], object]) -> None:
    content = json.loads((here / "config.json").read_text())
    change(content)
    (here / "config.json").write_text(json.dumps(content))


def change_weights(here: Path, change: Callable[[dict], dict]) -> None:
    # A copy, for the file that is read is replaced.
    state = {name: tensor.clone() for name, tensor in load_file(here / "model.safetensors").items()}
    save_file(change(state), here / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (
            lambda content: content.update(model_type="sam2_video"),
            "expected model type sam3, got sam2_video",
        ),
        (
            lambda content: content["detector_config"].update(model_type="sam2"),
            "expected model type sam3, got sam2",
        ),
        (lambda content: content.pop("detector_config"), "expected model type sam3, got None"),
        (
            lambda content: content["detector_config"]["detr_decoder_config"].update(num_layers=3),
            "lacks detr_decoder.layers.2",
        ),
        (
            lambda content: content["detector_config"]["detr_decoder_config"].update(num_layers=1),
            "contains parameters unknown to .*: detr_decoder.layers.1",
        ),
        (
            lambda content: content["detector_config"].update(vision_config="wide"),
            "does not describe a sam3",
        ),
    ],
    ids=["kind", "detector's kind", "no detector", "more layers", "fewer layers", "nonsense"],
)
def test_foreign_configuration(here, backbones, change, part):
    change_config(here, change)
    with pytest.raises(WeightsError, match=part):
        load_predictor("sam3", backbones)


def test_foreign_weights(here, backbones):
    """A tracker without its detector."""
    tracker = "tracker_model."
    change_weights(here, lambda state: {k: v for k, v in state.items() if k.startswith(tracker)})
    with pytest.raises(WeightsError, match=r"lacks .*\(of \d+\)"):
        load_predictor("sam3", backbones)


def test_a_detector_alone(here, predictor):
    """As ``Sam3Model`` saves itself, in half precision; the same network, not the same numbers."""
    detector = "detector_model."
    change_config(here, lambda content: content.update(content.pop("detector_config")))
    change_weights(
        here,
        lambda state: {
            name.removeprefix(detector): tensor.bfloat16()
            for name, tensor in state.items()
            if name.startswith(detector)
        },
    )
    alone: Sam3 = read_network(SAM3, locate(SAM3))
    assert {parameter.dtype for parameter in alone.parameters()} == {torch.float32}
    ours = predictor.sam3.read_image(IMAGE)
    torch.testing.assert_close(alone.read_image(IMAGE), ours, rtol=0.1, atol=0.1)


def test_all_of_it_goes_when_it_is_unloaded(here, backbones):
    predictor = load_predictor("sam3", backbones)
    predictor.predict(EncodedImage(IMAGE), Prompt((Concept((SEVERAL,)),)))
    parts = [weakref.ref(module) for module in predictor.sam3.modules()]
    del predictor
    gc.collect()
    assert not any(part() for part in parts)
