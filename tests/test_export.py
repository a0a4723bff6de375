"""A run as files and as an archive: read back by others, and made again by its command line."""

from __future__ import annotations

import csv
import io
import json
import shlex
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO

from clipsam.cli import main
from clipsam.data.synthetic import SceneData
from clipsam.encoded_image import EncodedImage
from clipsam.errors import PromptError
from clipsam.evaluation.truth import Truth
from clipsam.export import file_names, write_prediction
from clipsam.geometry import SquareTransform
from clipsam.predictor import PredictOptions
from clipsam.registry import count_parameters, load_predictor
from clipsam.types import (
    Concept,
    ConceptResult,
    Prediction,
    Prompt,
    SamPrompts,
    prompt_from_classes,
)
from clipsam.weights.backbones import Backbones
from clipsam.workbench.choices import MethodChoice
from clipsam.workbench.compare.archive import command, write_zip
from clipsam.workbench.compare.session import ComparisonRun
from clipsam.workbench.compare.views.display_settings import DisplaySettings


def prediction(
    names: list[str], masks: np.ndarray, method: str = "clip-surgery-sam", **result: object
) -> Prediction:
    """Of a registered method; logits are 1 in the masks, bool (C, s, s), and −1 elsewhere."""
    logits = np.where(masks, 1, -1).astype(np.float32)
    return Prediction(
        method=method,
        preset="tiny",
        mode="vanilla",
        prompt=prompt_from_classes([[name] for name in names]),
        transform=SquareTransform(masks.shape[1:], masks.shape[1]),
        results=tuple(ConceptResult(one, SamPrompts(), **result) for one in logits),
        seconds={"all": 1.5},
        peak_memory_mb=20.0,
    )


def random_masks(count: int, side: int = 24) -> np.ndarray:
    return np.random.default_rng(0).random((count, side, side)) > 0.6


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def picture(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def ran(
    found: Sequence[Prediction], image: np.ndarray | None = None, title: str = "", **fields: object
) -> ComparisonRun:
    """A run in which methods have answered, each in the place of its number."""
    image = np.zeros((4, 4, 3), np.uint8) if image is None else image
    called = [title or f"{one.method} · {one.mode}" for one in found]
    choices = tuple(
        MethodChoice(one.method, str(number), title, "")
        for number, (one, title) in enumerate(zip(found, called, strict=True))
    )
    answers = {choice.key: one for choice, one in zip(choices, found, strict=True)}
    return ComparisonRun(
        EncodedImage(image), found[0].prompt, "tiny", choices, predictions=answers, **fields
    )


def test_annotations_are_read_by_pycocotools(tmp_path: Path) -> None:
    masks = random_masks(3)
    masks[1] = False
    answer = prediction(["dog", "cat", "Straße"], masks, presence=0.25)
    write_prediction(answer, tmp_path, image_name="photo.jpg")
    coco = COCO(tmp_path / "annotations.json")
    assert [one["name"] for one in coco.loadCats(coco.getCatIds())] == ["dog", "cat", "Straße"]
    assert coco.loadImgs(1)[0]["file_name"] == "photo.jpg"
    found = {one["category_id"]: one for one in coco.loadAnns(coco.getAnnIds(imgIds=[1]))}
    assert set(found) == {1, 3}  # Nothing of the second class was found.
    for number, one in found.items():
        mask = masks[number - 1]
        assert np.array_equal(coco.annToMask(one) > 0, mask)
        assert one["area"] == mask.sum()
        rows, columns = np.nonzero(mask)
        width, height = np.ptp(columns) + 1, np.ptp(rows) + 1
        assert one["bbox"] == [columns.min(), rows.min(), width, height]
        assert one["score"] == 0.25
    results = [
        {key: one[key] for key in ("image_id", "category_id", "segmentation", "score")}
        for one in found.values()
    ]
    loaded = coco.loadRes(results)
    assert sorted(loaded.getCatIds(catIds=[1, 3])) == [1, 3]
    assert np.array_equal(run_lengths.decode(results[0]["segmentation"]) > 0, masks[0])


def test_unknown_presence_scores_one(tmp_path: Path) -> None:
    write_prediction(prediction(["dog"], np.ones((1, 4, 4), bool)), tmp_path)
    assert json.loads((tmp_path / "annotations.json").read_text())["annotations"][0]["score"] == 1


def test_the_overlap_rule_holds_for_files_too(tmp_path: Path) -> None:
    logits = np.array([[[2, 1], [1, -1]], [[1, 2], [-1, -1]]], np.float32)
    answer = prediction(["a", "b"], np.ones((2, 2, 2), bool))
    results = [replace(one, logits=two) for one, two in zip(answer.results, logits, strict=True)]
    write_prediction(replace(answer, results=tuple(results)), tmp_path, overlap="argmax")
    a, b = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in "ab")
    assert a.tolist() == [[255, 0], [255, 0]]
    assert b.tolist() == [[0, 255], [0, 0]]


def test_file_names_are_told_apart_on_every_system() -> None:
    names = file_names(["a/b", "a:b", "A_B", "label map", "Label Map", "..", "dog"])
    assert names == ["a_b", "a_b 2", "A_B 3", "label map 2", "Label Map 3", "_", "dog"]


def test_an_archive_holds_what_it_says(tmp_path: Path) -> None:
    similarity = np.linspace(-0.25, 0.5, 16, dtype=np.float32).reshape(4, 4)
    masks = np.zeros((2, 24, 24), bool)
    masks[0, :12], masks[1, :, :12] = True, True
    wanted = np.zeros((24, 24), bool)
    wanted[:, :12] = True
    truth = Truth({"dog": wanted}, np.ones((24, 24), bool))
    found = [
        prediction(["dog", "cat"], masks, similarity=similarity, presence=0.75),
        prediction(["dog", "cat"], masks, "esc-net"),
    ]
    image = np.random.default_rng(1).integers(0, 256, (24, 24, 3), np.uint8)
    path = tmp_path / "run.zip"
    counts = {"clip-surgery-sam/0": {"total": 7, "trainable": 3}}
    assert write_zip(path, ran(found, image, parameters=counts), DisplaySettings(), truth) == path
    files = members(path)
    assert set(files) == {
        "image.png",
        "prompt.json",
        "results.json",
        "scores.csv",
        "figure.png",
        "figure.pdf",
        "reproduce.txt",
        *(
            f"{folder}/{name}.png"
            for folder in ("clip-surgery-sam", "esc-net")
            for name in ("dog", "cat")
        ),
        "clip-surgery-sam/dog.similarity.npy",
        "clip-surgery-sam/cat.similarity.npy",
        "esc-net/label map.png",
        "clip-surgery-sam/annotations.json",
        "esc-net/annotations.json",
    }
    assert np.array_equal(picture(files["image.png"]), image)
    assert np.array_equal(picture(files["esc-net/cat.png"]) > 0, masks[1])
    # Of equal logits the first class wins.
    assert np.array_equal(
        picture(files["esc-net/label map.png"]), np.where(masks[0], 1, 2 * masks[1])
    )
    saved = np.load(io.BytesIO(files["clip-surgery-sam/dog.similarity.npy"]))
    assert np.array_equal(saved, similarity)
    dog, cat, *_ = csv.DictReader(io.StringIO(files["scores.csv"].decode()))
    assert float(dog["iou"]) == pytest.approx(1 / 3)
    assert float(dog["dice"]) == pytest.approx(1 / 2)
    # |sigmoid(±1) − truth| is 0.2689 where right and 0.7311 where wrong, each in half the image.
    assert float(dog["mae"]) == pytest.approx(0.5, abs=1e-4)
    assert (dog["parameters"], dog["trained_parameters"]) == ("7", "3")
    assert (dog["seconds"], dog["presence"], dog["area_fraction"]) == ("1.5", "0.75", "0.5")
    assert cat["iou"] == cat["mae"] == ""
    asked = json.loads(files["prompt.json"])
    assert asked["methods"][1] == {"id": "esc-net", "mode": "vanilla"}
    assert [one["synonyms"] for one in asked["classes"]] == [["dog"], ["cat"]]


def test_the_same_run_makes_the_same_archive(tmp_path: Path) -> None:
    found = prediction(["dog"], random_masks(1), similarity=np.eye(4, dtype=np.float32))
    run = ran([found], np.zeros((24, 24, 3), np.uint8))
    paths = [write_zip(tmp_path / name, run, DisplaySettings()) for name in ("a.zip", "b.zip")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize("size", [(24, 24), (1, 1), (3, 400), (400, 3)])
def test_figures_of_any_shape_and_any_name(tmp_path: Path, size: tuple[int, int]) -> None:
    names = ["$x^", "<b>&", "a very long name of a class that nobody would ever type " * 2]
    side = max(size)
    answer = prediction(
        names, np.ones((3, side, side), bool), similarity=np.eye(4, dtype=np.float32)
    )
    answer = replace(answer, transform=SquareTransform(size, side))
    run = ran([answer] * 7, np.zeros((*size, 3), np.uint8), "Method 7 $a_ · x")
    path = tmp_path / "run.zip"
    write_zip(path, run, DisplaySettings(active=names[2]))
    files = members(path)
    assert files["figure.pdf"].startswith(b"%PDF")
    # Letters are letters, in a font that journals take.
    assert b"/FontFile2" in files["figure.pdf"] and b"/Type3" not in files["figure.pdf"]
    assert picture(files["figure.png"]).shape[1] <= 7.2 * 300 or size == (3, 400)


def test_the_command_line_makes_the_same_masks(
    tmp_path: Path, tiny: Backbones, monkeypatch
) -> None:
    sample = SceneData(1, seed=11)[0]
    names = [sample.names[i] for i in sample.present()]
    points = np.array([[20.25, 30.1], [64.7, 41.3]], np.float32)
    prompt = Prompt(
        (
            Concept((names[0], "it's a $HOME"), points, np.array([1, 0])),
            Concept(("-dash: 50%", names[0]), box=np.array([10.1, 12.3, 90.7, 80.9])),
        )
    )
    asked = (
        ("clip-guided-sam", "semi-automatic"),
        ("clip-guided-sam", "manual"),
        ("clip-surgery-sam", None),
        ("esc-net", None),
    )
    encoded = EncodedImage(sample.image)
    found, counts = [], {}
    for number, (method, mode) in enumerate(asked):
        predictor = load_predictor(method, tiny)
        found.append(
            predictor.predict(encoded, prompt, PredictOptions(mode=mode, seed=3, num_points=4))
        )
        counts[f"{method}/{number}"] = count_parameters(predictor)
    found[1] = found[1].with_candidate(0, 2)
    path = write_zip(
        tmp_path / "run.zip",
        ran(
            found,
            sample.image,
            seed=3,
            options=PredictOptions(num_points=4),
            parameters=counts,
        ),
        DisplaySettings(threshold=-0.3, overlap="highest-presence"),
    )
    files = members(path)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path)
    line = next(one for one in files["reproduce.txt"].decode().splitlines() if one[:6] == "python")
    words = shlex.split(line)
    assert words[:3] == ["python", "-m", "clipsam"]
    monkeypatch.chdir(tmp_path)
    assert main(words[3:]) == 0
    written = {
        file.relative_to("again").as_posix(): file.read_bytes()
        for file in Path("again").rglob("*")
        if file.is_file()
    }
    results = [json.loads(one.pop("results.json")) for one in (files, written)]
    assert written == {name: data for name, data in files.items() if "/" in name}
    assert sum(name.endswith(".png") for name in written) == 9
    assert picture(files["clip-guided-sam-manual/-dash_ 50%.png"]).any()
    for before, after in zip(*(one["methods"] for one in results), strict=True):
        assert before["classes"] == after["classes"]
    assert results[0]["prompt"] == results[1]["prompt"]


def test_a_name_that_the_command_line_would_split_is_refused() -> None:
    run = ran([prediction(["a dog, running"], np.ones((1, 4, 4), bool))])
    with pytest.raises(PromptError, match="comma or a semicolon"):
        command(run, DisplaySettings())


def test_methods_that_chose_several_modes_are_asked_for_without_one() -> None:
    answer = replace(prediction(["dog"], np.ones((1, 4, 4), bool)), mode="manual + vanilla")
    assert "--method=clip-surgery-sam" in command(ran([answer]), DisplaySettings())
