"""Three lines of Python: a model, and its result in every form."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import supervision
from PIL import Image
from pycocotools import mask as run_lengths

import clipsam
from clipsam.cli import main
from clipsam.data.samples import BACKGROUND
from clipsam.data.synthetic import SceneData
from clipsam.encoded_image import EncodedImage
from clipsam.errors import ClipsamError, PromptError
from clipsam.model import Model
from clipsam.registry import METHODS, load_predictor
from clipsam.weights.backbones import Backbones

CLASSES = ["red heart", "red cross; crimson cross"]


@pytest.fixture(scope="module")
def scene():
    return SceneData(12, 7)[3]


@pytest.fixture(scope="module")
def truth(scene) -> dict[str, np.ndarray]:
    """Where the first two classes are, by their names."""
    return {name: scene.classes == scene.names.index(name) for name in ("red heart", "red cross")}


@pytest.fixture(scope="module")
def model(tiny: Backbones) -> Model:
    return Model(load_predictor("clip-guided-sam", tiny))


@pytest.fixture(scope="module")
def result(model, scene, truth):
    return model(scene.image, CLASSES, truth=truth)


@pytest.fixture
def photo(scene, tmp_path: Path) -> Path:
    Image.fromarray(scene.image).save(tmp_path / "street.png")
    return tmp_path / "street.png"


def test_load_makes_what_the_registry_makes(result, scene) -> None:
    model = clipsam.load("clip-guided-sam", device="cpu")
    assert repr(model) == "<Model clip-guided-sam on tiny, cpu>"
    assert np.array_equal(model(scene.image, CLASSES).masks, result.masks)
    other = model.with_method("sam-ptx")
    assert other.predictor.backbones is model.predictor.backbones


def test_every_form_of_an_image_and_of_classes(model, result, scene, photo) -> None:
    picture = Image.fromarray(scene.image)
    assert result.image_name == "image.png"
    for image in (photo, str(photo), picture, picture.convert("RGBA"), EncodedImage(photo)):
        again = model(image, "red heart, red cross; crimson cross")
        assert again.classes == result.classes == ("red heart", "red cross")
        assert np.array_equal(again.image, scene.image)
        assert np.array_equal(again.masks, result.masks)
    assert model(photo, "red heart").image_name == "street.png"


@pytest.mark.parametrize(
    ("image", "classes", "marks", "message"),
    [
        ("nowhere.png", CLASSES, {}, "nowhere.png does not exist"),
        (np.zeros((9, 9), np.uint8), CLASSES, {}, r"uint8 \(H, W, 3\)"),
        (np.zeros((9, 9, 3), np.uint8), [], {}, "at least one class"),
        (np.zeros((9, 9, 3), np.uint8), CLASSES, {"points": [("sky", 1, 1, 1)]}, "“sky”"),
        (np.zeros((9, 9, 3), np.uint8), CLASSES, {"boxes": [("red heart", 1, 1)]}, "A box is"),
        (np.zeros((9, 9, 3), np.uint8), CLASSES, {"truth": {"sky": np.ones((9, 9), bool)}}, "sky"),
        (np.zeros((9, 9, 3), np.uint8), CLASSES, {"truth": np.zeros((8, 9), int)}, "same size"),
    ],
)
def test_what_cannot_be_used_gets_one_sentence(model, image, classes, marks, message) -> None:
    with pytest.raises(ClipsamError, match=message):
        model(image, classes, **marks)


def test_points_and_boxes_reach_sam(model, scene, truth) -> None:
    rows, columns = np.nonzero(truth["red heart"])
    x, y = int(columns.mean()), int(rows.mean())
    box = (columns.min(), rows.min(), columns.max(), rows.max())
    found = model(
        scene.image,
        ["red heart", "red cross"],
        points=[("Red Heart", x, y, 1)],
        boxes=[("red heart", *map(int, box))],
    )
    prompts = found.prediction.results[0].prompts
    assert prompts.points.tolist() == [[x, y]] and prompts.boxes.tolist() == [list(map(float, box))]
    assert found.prediction.mode == "semi-automatic + manual"


def test_masks_maps_and_scores(result, truth) -> None:
    masks = result.masks
    assert masks.dtype == bool and masks.shape == (2, *result.image.shape[:2])
    assert np.array_equal(masks, result.prediction.logits() > 0)
    assert result.similarity.dtype == np.float32 and result.similarity.ndim == 3
    for index, (text, scores) in enumerate(result.scores.items()):
        there, found = truth[text], masks[index]
        both, either = (there & found).sum(), (there | found).sum()
        assert scores["iou"] == pytest.approx(both / either)
        assert scores["dice"] == pytest.approx(2 * both / (there.sum() + found.sum()))
        assert 0 <= scores["presence"] <= 1
        expected = result.prediction.results[index].similarity
        assert np.array_equal(result.similarity[index], expected)


def test_a_method_without_maps_and_an_unknown_truth(model, scene, truth) -> None:
    marks = [("red heart", 100.0, 90.0, 1), ("red cross", 40.0, 40.0, 1)]
    only = {"crimson cross": truth["red cross"]}
    found = model.with_method("sam")(scene.image, CLASSES, points=marks, truth=only)
    assert found.similarity is None
    assert (
        np.isnan(found.scores["red heart"]["presence"]) and "iou" not in found.scores["red heart"]
    )
    assert "iou" in found.scores["red cross"]


def test_truth_by_ids_and_names(model, scene, truth, tmp_path, result) -> None:
    ids = np.where(scene.classes == BACKGROUND, len(scene.names), scene.classes)
    Image.fromarray(ids.astype(np.uint8)).save(tmp_path / "ids.png")
    for given in (ids, tmp_path / "ids.png", str(tmp_path / "ids.png")):
        found = model(scene.image, CLASSES, truth=given, truth_classes=[*scene.names, "nothing"])
        assert found.scores == result.scores


def test_plot(result, model, scene) -> None:
    """Two classes and the image: three panels above three, and two colour bars."""
    figure = result.plot()
    assert len(figure.axes) == 3 + 3 + 2
    texts = [text.get_text() for text in figure.texts]
    assert {"image", "red heart", "red cross", "ground truth"} <= set(texts)
    assert len(result.plot(["crimson cross"]).axes) == 2 + 2 + 1
    with pytest.raises(PromptError, match="“sky” is not one"):
        result.plot(["sky"])
    assert Image.open(io.BytesIO(result._repr_jpeg_())).size[0] > 500


def test_save_writes_what_the_command_writes(result, model, photo, tmp_path) -> None:
    model(photo, CLASSES).save(tmp_path / "ours")
    args = ["segment", str(photo), "--text", ",".join(CLASSES), "--method", "clip-guided-sam"]
    assert main([*args, "--out", str(tmp_path / "theirs")]) == 0
    ours, theirs = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}
        for folder in (tmp_path / "ours", tmp_path / "theirs")
    )
    assert ours.keys() == theirs.keys()
    written = [json.loads(files.pop(Path("results.json"))) for files in (ours, theirs)]
    assert ours == theirs
    for one in written:
        del one["image"], one["methods"][0]["seconds"], one["methods"][0]["peak_memory_mb"]
    assert written[0] == written[1]


def test_coco(result) -> None:
    coco = result.to_coco()
    assert [entry["name"] for entry in coco["categories"]] == list(result.classes)
    decoded = {a["category_id"]: run_lengths.decode(a["segmentation"]) for a in coco["annotations"]}
    for number, mask in enumerate(result.masks, start=1):
        assert np.array_equal(decoded[number].astype(bool), mask)
    json.dumps(coco)


def test_supervision(result, model) -> None:
    found = result.to_supervision()
    assert np.array_equal(found.mask, result.masks)
    assert found.class_id.tolist() == [0, 1]
    assert list(found["class_name"]) == list(result.classes)
    assert found.confidence == pytest.approx(result.prediction.presence)
    rows, columns = np.nonzero(result.masks[0])
    assert found.xyxy[0].tolist() == [columns.min(), rows.min(), columns.max(), rows.max()]
    black = np.zeros((40, 40, 3), np.uint8)
    nothing = model.with_method("sam-proposals-clip")(black, ["red heart"])
    expected = int(nothing.masks.any(axis=(1, 2)).sum())
    assert len(nothing.to_supervision()) == expected
    supervision.MaskAnnotator().annotate(result.image.copy(), found)


def test_one_encoded_image_serves_several_methods(model, scene, monkeypatch) -> None:
    """The second method computes no plain tokens of SAM again."""
    image = clipsam.EncodedImage(scene.image)
    model(image, CLASSES)
    before = dict(image._features)
    model.with_method("clip-surgery-sam")(image, CLASSES)
    assert all(image._features[key] is tensor for key, tensor in before.items())


def test_list_methods() -> None:
    listed = clipsam.list_methods()
    assert [entry["id"] for entry in listed] == list(METHODS)
    with pytest.raises(PromptError, match="choose from tiny"):
        clipsam.list_methods("small")


def test_shared_weights_come_back(model, scene, tmp_path) -> None:
    own = model.with_method("sam-decoder")
    assert own.push_to_hub(str(tmp_path / "shared")) == str(tmp_path / "shared")
    again = clipsam.from_pretrained(str(tmp_path / "shared"), device="cpu")
    assert again.method == "sam-decoder" and again.bundle == tmp_path / "shared"
    points = [("red heart", 100, 90, 1)]
    masks = [one(scene.image, "red heart", points=points).masks for one in (own, again)]
    assert np.array_equal(*masks)
    with pytest.raises(PromptError, match="SAM has no weights of its own"):
        model.with_method("sam").push_to_hub("someone/sam")


def test_evaluate(tmp_path: Path) -> None:
    out = tmp_path / "out"
    figures = clipsam.evaluate("scenes:3", ["clip-surgery-sam"], out, limit=2)
    assert [one["method"] for one in figures] == ["clip-surgery-sam"]
    args = ["--data", "scenes:3", "--limit", "2", "--method", "clip-surgery-sam"]
    assert main(["evaluate", *args, "--out", str(tmp_path / "theirs")]) == 0
    theirs = json.loads((tmp_path / "theirs" / "results.json").read_text())["methods"]
    for one in (*figures, *theirs):
        one["mean"].pop("seconds_per_image"), one["std"].pop("seconds_per_image")
        for seed in one["seeds"]:
            seed["present"].pop("seconds_per_image")
    assert figures == theirs
