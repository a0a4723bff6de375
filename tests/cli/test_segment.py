"""The command line, as a person uses it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from clipsam.cli import main
from clipsam.data.synthetic import SceneData
from clipsam.encoded_image import EncodedImage
from clipsam.registry import load_predictor
from clipsam.types import Concept, Prompt


@pytest.fixture
def scene(tmp_path):
    """A scene's picture, its index mask, and its class list as files."""
    sample = SceneData(1, seed=11)[0]
    Image.fromarray(sample.image).save(tmp_path / "scene.png")
    ids = np.where(sample.classes < 0, len(sample.names), sample.classes).astype(np.uint8)
    Image.fromarray(ids).save(tmp_path / "truth.png")
    (tmp_path / "names.json").write_text(json.dumps([*sample.names, "background"]))
    return sample, tmp_path


@pytest.mark.parametrize("threshold", ["nan", "inf", "-inf"])
def test_a_threshold_is_a_finite_number(scene, capsys, threshold):
    arguments = ["segment", str(scene[1] / "scene.png"), "--text", "dog", "--method", "sam"]
    assert main([*arguments, f"--threshold={threshold}", "--out", str(scene[1])]) == 2
    assert capsys.readouterr().err == (
        f"clipsam: --threshold {threshold}: expected a finite number.\n"
    )


def test_methods_as_json(capsys):
    assert main(["methods", "--json"]) == 0
    listed = {method["id"]: method for method in json.loads(capsys.readouterr().out)}
    assert {"sam", "clip-surgery-sam", "clip-guided-sam"} <= set(listed)
    guided = listed["clip-guided-sam"]
    assert guided["modes"] == ["semi-automatic", "manual"]
    assert guided["presets"]["tiny"] == "ready"
    assert guided["presets"]["base"] == "untrained"
    assert listed["sam"]["presets"]["base"] == "needs-download"
    assert 0 < guided["parameters"]["trainable"] < guided["parameters"]["total"]


def test_segment_writes_what_it_says(scene, capsys):
    sample, folder = scene
    names = [sample.names[i] for i in sample.present()]
    out = folder / "out"
    arguments = [str(folder / "scene.png"), "--text", f"{names[0]}; thing, zebra"]
    arguments += ["--method", "clip-guided-sam", "--method", "clip-surgery-sam"]
    arguments += ["--truth", str(folder / "truth.png")]
    arguments += ["--truth-classes", str(folder / "names.json"), "--out", str(out)]
    assert main(["segment", *arguments]) == 0
    results = json.loads((out / "results.json").read_text())
    assert results["prompt"][0]["synonyms"] == [names[0], "thing"]
    assert [m["id"] for m in results["methods"]] == ["clip-guided-sam", "clip-surgery-sam"]
    truth = sample.classes == sample.present()[0]
    for method in results["methods"]:
        first, second = method["classes"]
        mask = np.asarray(Image.open(out / method["id"] / f"{names[0]}.png"))
        assert mask.shape == truth.shape and set(np.unique(mask)) <= {0, 255}
        assert first["area_fraction"] == pytest.approx((mask > 0).mean())
        union = ((mask > 0) | truth).sum()
        assert first["iou"] == pytest.approx(((mask > 0) & truth).sum() / union)
        assert second["text"] == "zebra" and second["iou"] is None
        raw = np.load(out / method["id"] / f"{names[0]}.similarity.npy")
        assert raw.dtype == np.float32
        assert first["similarity_range"] == pytest.approx([raw.min(), raw.max()])


def test_methods_whose_classes_compete_write_a_label_map(scene):
    sample, folder = scene
    names, out = [sample.names[i] for i in sample.present()], folder / "out"
    args = ["segment", str(folder / "scene.png"), "--text", ", ".join(names), "--out", str(out)]
    assert main([*args, "--method", "esc-net", "--method", "clip-surgery-sam"]) == 0
    assert not (out / "clip-surgery-sam" / "label map.png").exists()
    labels = np.asarray(Image.open(out / "esc-net" / "label map.png"))
    masks = [np.asarray(Image.open(out / "esc-net" / f"{name}.png")) > 0 for name in names]
    # A pixel goes to one of the classes whose masks have it, or to none if no mask has.
    assert np.array_equal(labels > 0, np.any(masks, axis=0))
    for number, mask in enumerate(masks, start=1):
        assert mask[labels == number].all()
    assert (labels > 0).any()


def test_points_and_boxes_reach_their_class(scene):
    _, folder = scene
    arguments = [str(folder / "scene.png"), "--text", "a, b", "--method", "sam"]
    arguments += ["--point", "a:20,30,1", "--point", "a:5,5,0", "--box", "b:10,10,90,80"]
    assert main(["segment", *arguments, "--out", str(folder / "out")]) == 0
    a, b = json.loads((folder / "out/results.json").read_text())["methods"][0]["classes"]
    assert a["points"] == [[20, 30, 1], [5, 5, 0]]
    assert b["points"] == []


def test_a_point_goes_to_the_class_of_that_name_before_one_with_such_a_synonym(scene):
    _, folder = scene
    arguments = [str(folder / "scene.png"), "--text", "animal; dog, Dog", "--method", "sam"]
    arguments += ["--point", "dog:20,30,1", "--point", "animal:5,5,1"]
    assert main(["segment", *arguments, "--out", str(folder / "out")]) == 0
    animal, dog = json.loads((folder / "out/results.json").read_text())["methods"][0]["classes"]
    assert animal["points"] == [[5, 5, 1]]
    assert dog["points"] == [[20, 30, 1]]


def test_a_candidate_takes_the_place_of_the_answer(scene, tiny):
    sample, folder = scene
    concept = Concept(("a",), [[60, 60]], [1])
    answer = load_predictor("sam", tiny).predict(EncodedImage(sample.image), Prompt((concept,)))
    arguments = ["segment", str(folder / "scene.png"), "--text", "a", "--method", "sam"]
    arguments += ["--point", "a:60,60,1"]
    for number, expected in enumerate(answer.candidate_masks(0), start=1):
        out = folder / str(number)
        assert main([*arguments, "--candidate", f"sam:a:{number}", "--out", str(out)]) == 0
        mask = np.asarray(Image.open(out / "sam" / "a.png")) > 0
        assert np.array_equal(mask, expected)
        (entry,) = json.loads((out / "results.json").read_text())["methods"]
        assert entry["classes"][0]["candidate"] == number


def test_overlapping_masks_can_be_told_apart(scene):
    _, folder = scene
    arguments = ["segment", str(folder / "scene.png"), "--text", "a, b", "--method", "sam"]
    arguments += ["--point", "a:60,60,1", "--point", "b:60,60,1", "--threshold=-30"]
    for rule, most in (("independent", 2), ("argmax", 1), ("highest-presence", 1)):
        out = folder / rule
        assert main([*arguments, "--overlap", rule, "--out", str(out)]) == 0
        a, b = (np.asarray(Image.open(out / "sam" / f"{name}.png")) > 0 for name in "ab")
        assert (a.astype(int) + b).max() == most


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"image": "missing.png"}, "missing.png"),
        ({"image": "names.json"}, "not a supported image"),
        ({"--text": " , "}, "class name"),
        ({"--text": "dog, dog"}, "twice"),
        ({"--method": "sam9"}, "no method"),
        ({"--method": "clip-guided-sam:fast"}, "semi-automatic or manual"),
        ({"--method": "sam"}, "needs a foreground point"),
        ({"--preset": "base"}, "not on this machine"),
        ({"--preset": "giant"}, "no preset"),
        ({"--point": "dog:1,2"}, "3 numbers"),
        ({"--point": "cat:1,2,1"}, "not one of the requested classes"),
        ({"--point": "dog:9999,2,1"}, "outside the image"),
        ({"--point": "dog:9,2,7"}, "must be 1"),
        ({"--box": "dog:50,50,10,90"}, "x0 < x1"),
        ({"--candidate": "clip-surgery-sam:cat:1"}, "a class in --text"),
        ({"--candidate": "sam:dog:1"}, "clip-surgery-sam, a colon"),
        ({"--candidate": "clip-surgery-sam:dog:4"}, "no candidate 4"),
        ({"--truth": "small.png"}, "same size"),
        ({"--truth": "truth.png", "--truth-classes": "truth.png"}, "JSON list"),
    ],
)
def test_bad_input_is_one_sentence(scene, capsys, changed, says):
    _, folder = scene
    Image.fromarray(np.zeros((5, 7), np.uint8)).save(folder / "small.png")
    options = {"image": "scene.png", "--text": "dog", "--method": "clip-surgery-sam", **changed}
    for name in ("image", "--truth", "--truth-classes"):
        if name in options:
            options[name] = str(folder / options[name])
    arguments = ["segment", options.pop("image"), "--out", str(folder / "out")]
    for name, value in options.items():
        arguments += [name, value]
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert says in message
    assert "Traceback" not in message and message.count("\n") == 1


@pytest.mark.parametrize("size", [(1, 1), (3, 200)])
def test_odd_sizes(tmp_path, size):
    Image.new("RGB", size, "red").save(tmp_path / "odd.png")
    arguments = [str(tmp_path / "odd.png"), "--text", "red disc", "--method", "clip-guided-sam"]
    assert main(["segment", *arguments, "--out", str(tmp_path)]) == 0
    mask = Image.open(tmp_path / "clip-guided-sam" / "red disc.png")
    assert mask.size == size
