"""The papers' protocols, against what their sources state."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import clipsam
from clipsam.cli import main
from clipsam.data.readers.voc import VOC_NAMES
from clipsam.data.samples import LabelledImage
from clipsam.data.synonyms import VOC_SYNONYMS, with_synonyms
from clipsam.data.synthetic import SceneData
from clipsam.encoded_image import EncodedImage
from clipsam.errors import PromptError
from clipsam.evaluation.runner import MethodRun, absent_classes, prompt_of, score_image
from clipsam.geometry import SquareTransform
from clipsam.predictor import PredictOptions
from clipsam.protocols import PROTOCOLS, find_protocol
from clipsam.registry import load_predictor
from clipsam.types import ConceptResult, Prediction, SamPrompts, prompt_from_classes
from clipsam.weights.presets import PRESETS

OURS = "clip-guided-sam"


@pytest.fixture(scope="module")
def scene():
    return SceneData(12, 7)[3]


def label_maps(logits: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Label maps of one prediction, resized as probabilities and as logits."""
    prediction = Prediction(
        method="m",
        preset="p",
        mode="x",
        prompt=prompt_from_classes([(f"class {i}",) for i in range(len(logits))]),
        transform=SquareTransform(size, 64, "squash"),
        results=tuple(ConceptResult(one, SamPrompts()) for one in logits),
        seconds={},
        peak_memory_mb=0.0,
    )
    return replace(prediction, score_space="probabilities").label_map(), prediction.label_map()


def test_cat_seg_resizes_probabilities():
    """CAT-Seg: sigmoid, detectron2's bilinear resizing, argmax; its logits give another map."""
    logits = 4 * torch.randn(5, 64, 64, generator=torch.Generator().manual_seed(0))
    size = (150, 200)
    resized = F.interpolate(logits.sigmoid()[None], size, mode="bilinear", align_corners=False)[0]
    found, by_logits = label_maps(logits.numpy(), size)
    assert (found == resized.argmax(0).numpy()).mean() > 0.9999
    assert (found != by_logits).mean() > 0.001
    assert {n for n, p in PROTOCOLS.items() if p.score_space == "probabilities"} == {
        "cat-seg",
        "esc-net",
    }


def test_clip_guided_sam_prompts_as_its_authors(tiny, scene):
    """Five points with replacement, a threshold of .8, a dense prompt of 255."""
    predictor, encoded = load_predictor(OURS, tiny), EncodedImage(scene.image)
    prompt = prompt_from_classes([(scene.names[scene.present()[0]],)])
    protocol = PredictOptions(protocol=OURS)
    stated = PredictOptions(
        num_points=5, sampling="reference", point_threshold=0.8, dense_logit=255.0
    )
    by_name, by_hand = (predictor.predict(encoded, prompt, one) for one in (protocol, stated))
    own = predictor.predict(encoded, prompt)
    np.testing.assert_array_equal(by_name.logits(), by_hand.logits())
    assert not np.array_equal(by_name.logits(), own.logits())
    assert (by_name.protocol, own.protocol) == (OURS, "")
    fewer = predictor.predict(encoded, prompt, replace(protocol, num_points=2))
    assert len(fewer.results[0].prompts.points) == 2
    assert fewer.overrides == {"num_points": 2}


@pytest.mark.parametrize(
    ("protocol", "given", "prepared"),
    [
        (OURS, "base", "base-reference"),
        (OURS, "base-reference", "base-reference"),
        ("sam-ptx", "base", "base-reference"),
        ("clip-surgery", "base-reference", "base"),
        ("clip-surgery", "base-sam2-small", "base-sam2-small"),
        ("esc-net", "base-clip-l", "base-clip-l"),
        (OURS, "tiny", "tiny"),
    ],
)
def test_a_protocol_prepares_images(protocol, given, prepared):
    assert find_protocol(protocol).prepare(PRESETS[given]).name == prepared


def test_the_authors_squash_and_normalise_by_imagenet():
    preset = find_protocol(OURS).prepare(PRESETS["base"])
    assert (preset.fit, preset.feature_norm, preset.clip_from_sam_input) == (
        "squash",
        "reference",
        True,
    )
    assert preset.clip_mean == preset.sam_mean == (0.485, 0.456, 0.406)


def test_a_preset_that_cannot_be_prepared_so_is_refused():
    with pytest.raises(PromptError, match=r"large-sam .* Choose base-reference"):
        find_protocol(OURS).prepare(PRESETS["large-sam"])
    with pytest.raises(PromptError, match="no protocol “sam”, expected one of clip-guided-sam"):
        PredictOptions(protocol="sam")


def test_cat_seg_slides_windows_unless_told_otherwise(tiny, scene):
    predictor, encoded = load_predictor("cat-seg", tiny), EncodedImage(scene.image)
    prompt = prompt_from_classes([("red heart",), ("red cross",)])
    options = PredictOptions(protocol="cat-seg")
    assert predictor.predict(encoded, prompt, options).mode == "sliding-window"
    whole = predictor.predict(encoded, prompt, replace(options, mode="whole-image"))
    assert whole.mode == "whole-image"
    assert predictor.predict(encoded, prompt).mode == "whole-image"


def test_synonyms_of_voc_belong_to_one_class_each():
    assert set(VOC_SYNONYMS) == set(VOC_NAMES)
    every = [name for own in VOC_NAMES for name in with_synonyms(own)]
    assert len(set(every)) == len(every)
    assert with_synonyms("zebra") == ("zebra",)


def test_classes_are_asked_by_all_their_names(tiny, monkeypatch):
    """The feature is the mean over the names, raw; the class keeps the data set's name."""
    classes = np.zeros((40, 40), np.int16)
    sample = LabelledImage(
        "a", np.zeros((40, 40, 3), np.uint8), classes, classes + 1, ("sofa", "cow")
    )
    asked = []
    predictor = load_predictor("clip-surgery-sam", tiny)
    predict = predictor.predict

    def noted(encoded, prompt, options):
        asked.extend(concept.synonyms for concept in prompt.concepts)
        return predict(encoded, prompt, options)

    monkeypatch.setattr(predictor, "predict", noted)
    run = MethodRun("it", "vanilla", options=PredictOptions(protocol=OURS))
    absent = absent_classes(sample)
    scores = score_image(sample, EncodedImage(sample.image), predictor, run, 0, absent)
    assert [score.name for score in scores] == ["sofa", "cow"]
    assert asked == [("sofa", "couch", "settee"), ("cow", "cattle", "bull", "calf")]
    assert prompt_of(sample, 0, 0).concepts[0].synonyms == ("sofa",)


def test_results_and_reports_name_the_protocol(scene, tmp_path):
    Image.fromarray(scene.image).save(tmp_path / "scene.png")
    follow = ["--method", "clip-surgery-sam", "--protocol", OURS]
    arguments = ["segment", str(tmp_path / "scene.png"), "--text", "red heart", *follow]
    assert main([*arguments, "--out", str(tmp_path / "one")]) == 0
    (method,) = json.loads((tmp_path / "one/results.json").read_text())["methods"]
    assert method["protocol"] == OURS
    assert main(["evaluate", "--data", "scenes:1", *follow, "--out", str(tmp_path / "many")]) == 0
    results = json.loads((tmp_path / "many/results.json").read_text())
    assert results["settings"]["protocol"] == OURS and f"--protocol {OURS}" in results["command"]
    assert f"{OURS} (code of the authors of arXiv 2605.24807)" in (
        tmp_path / "many/report.html"
    ).read_text(encoding="utf-8")


def test_a_loaded_model_follows_its_protocol(scene):
    model = clipsam.load("clip-surgery-sam", device="cpu", protocol=OURS)
    found = model(scene.image, "red heart")
    assert found.prediction.protocol == OURS
    assert model(scene.image, "red heart", options=PredictOptions()).prediction.protocol == ""
    assert model.with_method("clip-sam")(scene.image, "red heart").prediction.protocol == OURS
