"""``open-vocabulary`` as a person uses it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

from clipsam import open_vocabulary
from clipsam.cli import main
from clipsam.data.readers import class_list, open_data
from clipsam.data.samples import VOID
from clipsam.encoded_image import EncodedImage
from clipsam.geometry import SquareTransform
from clipsam.measure import Stopwatch
from clipsam.method_args import LoadedMethod
from clipsam.predictor import PredictOptions, Predictor
from clipsam.registry import MethodInfo, load_predictor
from clipsam.types import ConceptResult, SamPrompts, prompt_from_classes
from clipsam.weights.backbones import Backbones

METHOD = ("--method", "clip-surgery-sam")
SIZE = (4, 6)
"""Of the benchmark's images, pixels."""


class ByColour(Predictor):
    """Says of a pixel (r, g, _) that it shows the (r + 256 g)-th name asked."""

    info = MethodInfo("by-colour", "By colour", "none", "baseline", ("by-value",), "", "")

    def __init__(self, backbones: Backbones) -> None:
        super().__init__(backbones)
        self.asked: list[tuple[str, ...]] = []

    def network(self):
        return nn.Module()  # no weights

    def _transform(self, encoded):
        return SquareTransform(encoded.size, max(encoded.size), "pad")

    def _predict_concept(self, encoded, concept, mode, options, watch):
        raise NotImplementedError

    def _predict_all(self, encoded, concepts, modes, options, watch: Stopwatch, progress):
        self.asked.append(tuple(concept.text for concept in concepts))
        side = max(encoded.size)
        values = np.zeros((side, side), np.int64)
        values[: encoded.size[0], : encoded.size[1]] = encoded.image[..., :2] @ np.array([1, 256])
        none = SamPrompts()
        logits = [(values == index).astype(np.float32) for index in range(len(concepts))]
        return [ConceptResult(part, none) for part in logits]


@pytest.fixture
def stub(tiny, monkeypatch) -> ByColour:
    """The method that any choice loads."""
    predictor = ByColour(tiny)
    choices = [LoadedMethod("by-colour", None, None, predictor)]
    monkeypatch.setattr(open_vocabulary, "load_methods_from_args", lambda *_: choices)
    return predictor


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def save_coded(path: Path, places: list[int]) -> None:
    """A picture that names these places to the stub, one per column of 4 pixels.

    JPEG would change single pixels, so it is a PNG under the name that the benchmark has.
    """
    values = np.array([places] * SIZE[0])
    picture = np.stack((values % 256, values // 256, 0 * values), -1).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, format="png")


def a_847(root: Path, truth: list[list[int]], shown: list[list[int]]) -> Path:
    """A-847 with one image for each truth and what the stub is shown, a value per column."""
    for number, (ids, values) in enumerate(zip(truth, shown, strict=True)):
        stem = f"ADE_val_{number:08d}"
        mask = np.array([ids] * SIZE[0], np.uint16)
        save(root / "annotations_detectron2/validation" / f"{stem}.tif", mask)
        save_coded(root / "images_detectron2/validation" / f"{stem}.jpg", values)
    return root


def folder(root: Path, names: list[str], pictures: int = 1) -> Path:
    """A data set in folders, whose masks show all classes, and a void id."""
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for number in range(pictures):
        save(root / "images" / f"{number}.png", rng.integers(0, 256, (40, 60, 3), np.uint8))
        ids = np.repeat(np.arange(len(names) + 1), 60 // (len(names) + 1))
        ids = np.where(ids == len(names), 255, ids).astype(np.uint8)
        save(root / "masks" / f"{number}.png", np.array([ids] * 40))
    (root / "classes.json").write_text(json.dumps(names))
    return root


def read(out: Path) -> tuple[dict, dict[str, dict[str, str]], np.ndarray]:
    """What was written: summary, lines by class, counts."""
    with (out / "per_class.csv").open(encoding="utf-8") as file:
        lines = {line["class"]: line for line in csv.DictReader(file)}
    return json.loads((out / "summary.json").read_text()), lines, np.load(out / "confusion.npz")


def test_a_benchmark_by_hand(stub, tmp_path, capsys, caplog):
    caplog.set_level("INFO")
    names = class_list("a-847")
    # Columns of 4 pixels. The first image is right but for one column, the second one is not.
    root = a_847(
        tmp_path / "data",
        truth=[[0, 0, 0, 1, 1, 65535], [2, 2, 2, 2, 2, 2]],
        shown=[[0, 0, 1, 1, 1, 7], [2, 2, 2, 0, 0, 0]],
    )
    arguments = ["open-vocabulary", "--benchmark", "A-847", "--data", str(root), *METHOD]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    summary, lines, confusion = read(tmp_path / "out")
    expected = np.zeros((847, 847), np.int64)
    expected[0, 0], expected[0, 1], expected[1, 1], expected[2, 2], expected[2, 0] = 8, 4, 8, 12, 12
    np.testing.assert_array_equal(confusion["counts"], expected)
    assert confusion["classes"].tolist() == list(names)
    iou = [8 / (8 + 4 + 12), 8 / 12, 12 / 24]
    assert summary["miou"] == pytest.approx(sum(iou) / 3, abs=1e-12)
    assert (summary["benchmark"], summary["images"], summary["classes"]) == ("A-847", 2, 847)
    assert (summary["method"], summary["mode"]) == ("by-colour", "by-value")
    assert (summary["preset"], summary["part"]) == ("tiny", "val")
    assert (summary["classes_present"], summary["bundle"]) == (3, None)
    assert summary["seconds_per_image"] > 0 and "CPU" in summary["hardware"]
    assert len(lines) == 847
    for name, value, pixels in zip(names[:3], iou, (12, 8, 24), strict=True):
        assert float(lines[name]["iou"]) == pytest.approx(value, abs=1e-6)
        assert int(lines[name]["pixels"]) == pixels
    assert (lines[names[7]]["iou"], lines[names[7]]["pixels"]) == ("", "0")
    assert "2/2" in capsys.readouterr().err
    assert f"mIoU {100 * sum(iou) / 3:.2f} % over 3 classes, 2 images" in caplog.text


def test_every_name_is_asked_in_every_image_but_shared_ones_once(stub, tmp_path):
    firsts = [names.split(", ")[0] for names in class_list("a-847")]
    distinct = list(dict.fromkeys(firsts))
    second = next(place for place, name in enumerate(firsts) if name in firsts[:place])
    first = firsts.index(firsts[second])
    after = next(p for p in range(second + 1, 847) if firsts.count(firsts[p]) == 1)
    shown = [distinct.index(firsts[place]) for place in (first, second, after)]
    assert shown[0] == shown[1] == first and shown[2] < after
    root = a_847(tmp_path / "data", [[first, second, after]] * 2, [shown] * 2)
    arguments = ["open-vocabulary", "--benchmark", "A-847", "--data", f"a-847:{root}", *METHOD]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    assert stub.asked == [tuple(distinct)] * 2
    summary, _, confusion = read(tmp_path / "out")
    assert (summary["prompts"], summary["classes"]) == (len(distinct), 847)
    expected = np.zeros((847, 847), np.int64)
    expected[first, first] = expected[second, first] = expected[after, after] = 8
    np.testing.assert_array_equal(confusion["counts"], expected)


def test_names_beyond_the_classes_are_background(stub, tmp_path):
    save_coded(tmp_path / "JPEGImages/2007_000033.jpg", [0, 30, 20, 5, 5, 9])
    mask = np.array([[0, 0, 20, 20, 5, 255]] * SIZE[0], np.uint8)
    save(tmp_path / "annotations_detectron2_bg/val/2007_000033.png", mask)
    arguments = ["open-vocabulary", "--benchmark", "PAS-20b", "--data", str(tmp_path), *METHOD]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    summary, lines, _ = read(tmp_path / "out")
    assert (summary["classes"], summary["prompts"], summary["classes_present"]) == (21, 59, 3)
    # Aeroplane 4 of 8, background 4 of 8 and 4 false, the class 5 right and 4 false.
    assert summary["miou"] == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 3, abs=1e-12)
    assert float(lines["background"]["iou"]) == pytest.approx(1 / 3, abs=1e-6)


def test_a_plain_data_set_is_asked_for_its_own_names(tiny, tmp_path):
    """Every method can be measured: here one whose classes do not compete."""
    root = folder(tmp_path / "data", ["red disc", "Blue  star", "blue star"], 3)
    data = open_data(f"folder:{root}", "val")
    arguments = ["open-vocabulary", "--data", f"folder:{root}", "--limit", "9"]
    arguments += ["--method", "clip-surgery-sam:dense-prompt", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    predictor = load_predictor("clip-surgery-sam", tiny)
    prompt = prompt_from_classes([["red disc"], ["Blue star"]])
    counts = np.zeros((2, 2), np.int64)
    for index in range(3):
        sample = data[index]
        mode = PredictOptions(mode="dense-prompt")
        labels = predictor.predict(EncodedImage(sample.image), prompt, mode).logits().argmax(0)
        for truth in range(2):
            counts[truth] += np.bincount(labels[sample.classes == truth], minlength=2)
        assert (sample.classes == VOID).any()
    summary, lines, confusion = read(tmp_path / "out")
    np.testing.assert_array_equal(confusion["counts"], counts)
    union = counts.sum(0) + counts.sum(1) - np.diagonal(counts)
    assert summary["miou"] == pytest.approx((np.diagonal(counts) / union).mean(), abs=1e-12)
    assert (summary["benchmark"], summary["data"]) == (None, f"folder:{root}")
    assert (summary["images"], summary["prompts"]) == (3, 2)
    assert summary["mode"] == "dense-prompt"
    assert [int(line["pixels"]) for line in lines.values()] == counts.sum(1).tolist()


def test_a_few_images_and_nothing_written(stub, tmp_path, caplog):
    caplog.set_level("INFO")
    root = folder(tmp_path / "data", ["cat", "dog"], 4)
    arguments = ["open-vocabulary", "--data", f"folder:{root}", *METHOD, "--limit", "2"]
    assert main(arguments) == 0
    assert len(stub.asked) == 2
    assert "2 images" in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"--benchmark": "A-151"}, "no benchmark A-151, expected one of A-847"),
        ({"--benchmark": "A-150", "--data": "/not/there"}, "a-150:/not/there"),
        ({"--benchmark": "A-150"}, "A-150 has 150 classes, but the data set has 1"),
        ({"--benchmark": "A-150", "--data": "."}, "lacks the folders images/validation/"),
        ({"--data": "."}, "KIND:PATH"),
        ({"--part": "test", "--data": "folder:empty"}, "no image in its part “test”"),
        ({"--method": "sam"}, "(manual) needs points, but classes are queried by name alone"),
        ({"--method": "clip-guided-sam:manual"}, "Choose its mode semi-automatic."),
        ({"--method": "clip-surgery-sam:fast"}, "has no mode “fast”"),
        ({"--method": "sam9"}, "no method “sam9”"),
        ({"--preset": "giant"}, "no preset"),
        ({"--limit": "0"}, "--limit 0"),
        ({"--out": "file"}, "file is a file, expected a folder"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, capsys, changed, says):
    monkeypatch.chdir(tmp_path)
    folder(tmp_path, ["cat"])
    folder(tmp_path / "empty", ["cat"], pictures=0)
    (tmp_path / "file").write_text("")
    options = {"--data": "folder:.", "--method": "clip-surgery-sam", **changed}
    assert main(["open-vocabulary", *(word for option in options.items() for word in option)]) == 2
    message = capsys.readouterr().err
    message = message[message.rindex("clipsam: ") :]
    assert says in message
    assert "Traceback" not in message and message.count("\n") == 1


def test_shared_names_are_asked_once():
    prompt, places = open_vocabulary._ask_once(("Screen", "bag", "screen", "pot", "bag"))
    assert [concept.synonyms for concept in prompt.concepts] == [("Screen",), ("bag",), ("pot",)]
    assert places.tolist() == [0, 1, 3]
