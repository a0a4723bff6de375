"""CLIPSeg + SAM: CLIPSeg is computed as transformers does, once per image, and its map is used."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file
from transformers import (
    CLIPSegForImageSegmentation,
    CLIPSegProcessor,
    CLIPTokenizer,
    ViTImageProcessor,
)

from baselines.clipseg_sam import ClipSegSamPredictor
from clipsam.encoded_image import EncodedImage
from clipsam.models.clipseg import ClipSeg
from clipsam.predictor import PredictOptions
from clipsam.registry import DENSE, VANILLA, load_predictor
from clipsam.types import Concept, Prediction, Prompt
from clipsam.weights.availability import method_status
from clipsam.weights.backbones import Backbones
from clipsam.weights.bundle import WeightsError
from clipsam.weights.extra_networks import read_network
from clipsam.weights.local_files import locate
from clipsam.weights.presets import TINY
from clipsam.weights.published import CLIPSEG
from clipsam.workbench.compare.views.maps import similarity_maps
from tests.standins import clipseg

IMAGE = np.random.default_rng(3).integers(0, 256, (70, 110, 3), dtype=np.uint8)
IMAGE[20:50, 30:80] //= 4
CAT, DOG = Concept(("cat",)), Concept(("a dog",))


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """The stand-in's files."""
    folder = tmp_path_factory.mktemp("published")
    clipseg.save(folder)
    return folder


@pytest.fixture
def here(published, tmp_path, monkeypatch) -> Path:
    """Where the files lie on this machine; removing or changing some hurts no other test."""
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return Path(shutil.copytree(published, tmp_path / "clipsam" / CLIPSEG.repo))


@pytest.fixture
def backbones(tiny) -> Backbones:
    """The tiny ones, which know of no network of another test's."""
    return replace(tiny, _extra_networks=WeakValueDictionary())


@pytest.fixture
def predictor(here, backbones) -> ClipSegSamPredictor:
    return load_predictor("clipseg-sam", backbones)


def ask(predictor: ClipSegSamPredictor, *concepts: Concept, **options: object) -> Prediction:
    return predictor.predict(EncodedImage(IMAGE), Prompt(concepts), PredictOptions(**options))


def test_logits_are_those_of_transformers(published, predictor):
    """Its own processor, tokenizer and model, from the same files, for two names at once."""
    names = ["cat", "a dog, a CAT " + "cat " * 90]
    image_processor = ViTImageProcessor.from_pretrained(published)
    tokenizer = CLIPTokenizer.from_pretrained(published, local_files_only=True)
    tokens = dict(padding=True, truncation=True, max_length=77, return_tensors="pt")
    batch = CLIPSegProcessor(image_processor, tokenizer)(text=names, images=[IMAGE] * 2, **tokens)
    model = CLIPSegForImageSegmentation.from_pretrained(published).eval()
    with torch.no_grad():
        theirs = model(**batch).logits
    network: ClipSeg = predictor.clipseg
    texts = torch.stack([network.read_text(name) for name in names])
    ours = network.logits(network.read_image(IMAGE), texts)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    assert theirs.std() > 0.1 and (theirs[0] - theirs[1]).abs().max() > 0.1


def test_tokens_are_those_of_transformers(published, predictor):
    theirs = CLIPTokenizer.from_pretrained(published, local_files_only=True)
    for text in ("Cat  dog", "naïve “quotes”, 12%", ""):
        assert predictor.clipseg._tokenizer(text)["input_ids"] == theirs(text)["input_ids"]


def test_the_map_is_a_probability(predictor):
    result = ask(predictor, CAT).results[0]
    network = predictor.clipseg
    logits = network.logits(network.read_image(IMAGE), network.read_text("cat")[None])
    np.testing.assert_array_equal(result.similarity, logits[0].sigmoid())
    assert result.similarity_unit == "probability"
    assert result.presence == pytest.approx(result.similarity.max())
    assert len(result.prompts.points) == 5
    assert (
        "<figcaption>Similarity map (probability), 5 point prompts + a dense prompt<"
        in similarity_maps(ask(predictor, CAT))
    )


def test_modes(predictor):
    """The map is a dense prompt unless points alone are asked for."""
    default = ask(predictor, CAT)
    assert default.mode == DENSE and default.results[0].prompts.dense.any()
    vanilla = ask(predictor, CAT, mode=VANILLA)
    assert vanilla.results[0].prompts.dense is None
    np.testing.assert_array_equal(
        vanilla.results[0].prompts.points, default.results[0].prompts.points
    )
    assert np.abs(vanilla.logits() - default.logits()).max() > 1e-3


def test_synonyms_are_the_highest_at_each_pixel(predictor):
    both = ask(predictor, Concept(("cat", "a dog"))).results[0]
    alone = [result.similarity for result in ask(predictor, CAT, DOG).results]
    np.testing.assert_allclose(both.similarity, np.maximum(*alone), atol=1e-5)
    assert any((both.similarity > one + 1e-3).any() for one in alone)


def test_a_map_that_is_the_same_everywhere(predictor, monkeypatch):
    monkeypatch.setattr(ClipSeg, "logits", lambda self, image, texts: torch.ones(len(texts), 8, 8))
    result = ask(predictor, CAT).results[0]
    assert result.note == "Empty mask: CLIPSeg's map is constant."
    assert (result.logits < 0).all() and result.presence == 0
    assert result.similarity_unit == "probability"


def test_image_and_names_are_read_once(predictor):
    ran: list[str] = []
    clip = predictor.clipseg.model.clip
    clip.vision_model.register_forward_hook(lambda *_: ran.append("image"))
    clip.text_model.register_forward_hook(lambda *_: ran.append("text"))
    encoded = EncodedImage(IMAGE)
    first = predictor.predict(encoded, Prompt((CAT, DOG)))
    assert sorted(ran) == ["image", "text", "text"]
    again = predictor.predict(encoded, Prompt((CAT, DOG)))
    assert len(ran) == 3
    np.testing.assert_array_equal(again.logits(), first.logits())
    ask(predictor, CAT)
    assert ran[3:] == ["image"]


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (3, 3), (90, 60)], ids=str)
def test_any_size(predictor, size):
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    prediction = predictor.predict(EncodedImage(image), Prompt((CAT,)))
    assert prediction.logits().shape == (1, *size)
    assert np.isfinite(prediction.logits()).all()


def test_everything_that_runs_is_counted(predictor):
    counted = {id(parameter) for parameter in predictor.network().parameters()}
    for part in (predictor.backbones.sam, predictor.clipseg.model):
        assert {id(parameter) for parameter in part.parameters()} <= counted
    assert not any(parameter.requires_grad for parameter in predictor.network().parameters())


def test_status(here):
    assert method_status(ClipSegSamPredictor.info, TINY) == "ready"
    (here / "merges.txt").unlink()
    assert method_status(ClipSegSamPredictor.info, TINY) == "needs-download"


def test_missing_weights(here, backbones):
    (here / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=f"{CLIPSEG.repo} is not on this machine"):
        load_predictor("clipseg-sam", backbones)


def test_truncated_weights(here, backbones):
    weights = here / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"model\.safetensors .*damaged or incomplete"):
        load_predictor("clipseg-sam", backbones)


@pytest.mark.parametrize(
    ("name", "old", "new", "part"),
    [
        (
            "config.json",
            '"model_type": "clipseg"',
            '"model_type": "clip"',
            "expected model type clipseg, got clip",
        ),
        ("config.json", '"reduce_dim": 16', '"reduce_dim": 24', "whose shapes differ"),
        ("config.json", '"num_hidden_layers": 4', '"num_hidden_layers": 5', "lacks"),
        (
            "config.json",
            '"num_hidden_layers": 4',
            '"num_hidden_layers": 3',
            "contains parameters unknown",
        ),
        ("preprocessor_config.json", "ViTImageProcessor", "CLIPImageProcessor", "is of a CLIPIm"),
        ("preprocessor_config.json", '"width": 128', '"width": 120', "to squares"),
        (
            "preprocessor_config.json",
            '"width": 128',
            '"width": "wide"',
            "does not describe an image processor",
        ),
        ("vocab.json", '"<|endoftext|>"', '"<end>"', "tokens, the last two"),
    ],
)
def test_foreign_files(here, backbones, name, old, new, part):
    content = (here / name).read_text()
    assert old in content
    (here / name).write_text(content.replace(old, new))
    with pytest.raises(WeightsError, match=part):
        load_predictor("clipseg-sam", backbones)


def test_files_as_older_releases_wrote_them(published, here, predictor):
    """Counters among the weights, a feature extractor, and a number for a square."""
    state = load_file(here / "model.safetensors")
    state["clip.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    torch.save(state, here / "pytorch_model.bin")
    (here / "model.safetensors").unlink()
    content = json.loads((here / "preprocessor_config.json").read_text())
    del content["image_processor_type"]
    content.update(feature_extractor_type="ViTFeatureExtractor", size=clipseg.SIDE)
    (here / "preprocessor_config.json").write_text(json.dumps(content))
    old = read_network(CLIPSEG, locate(CLIPSEG))
    np.testing.assert_array_equal(old.read_image(IMAGE), predictor.clipseg.read_image(IMAGE))
