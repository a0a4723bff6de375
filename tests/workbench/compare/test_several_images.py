"""Several images at once: each keeps its marks and results, within a bound of memory."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from clipsam.data.synthetic import SceneData
from clipsam.encoded_image import EncodedImage
from clipsam.export import merge_coco
from clipsam.predictor import PredictOptions
from clipsam.registry import load_predictor
from clipsam.types import Prediction
from clipsam.weights.backbones import Backbones
from clipsam.workbench.choices import DEFAULT_KEYS, all_choices
from clipsam.workbench.compare import archive
from clipsam.workbench.compare import session as session_module
from clipsam.workbench.compare.annotator import read_prompt
from clipsam.workbench.compare.archive import write_zip_of_all
from clipsam.workbench.compare.running import run_all
from clipsam.workbench.compare.session import Batch, ComparisonRun, OpenImage, Session
from clipsam.workbench.compare.views.display_settings import DisplaySettings
from clipsam.workbench.image_store import ImageStore
from clipsam.workbench.model_store import ModelStore
from tests.workbench.driving import (
    GUIDED,
    SURGERY,
    HeldUp,
    Workbench,
    text_file,
    wait_for,
)

CHOICES = tuple(choice for choice in all_choices() if choice.key in DEFAULT_KEYS)
CLASSES = "red heart"


def opened(count: int) -> Session:
    """A session with scenes, of which the third has a point."""
    store, session = ImageStore(), Session()
    scenes = SceneData(count, seed=7)
    images = [scenes[index].image for index in range(count)]
    session.open([(f"{i}.png", store.keep(one), one[:8, :8]) for i, one in enumerate(images)])
    mark = {"class": "red heart", "x": 60.0, "y": 50.0, "label": 1}
    session.images[2].marks = {"active": None, "marks": [mark], "image": session.images[2].number}
    return session


def plan(image: OpenImage, encoded: EncodedImage | None = None) -> ComparisonRun:
    prompt = read_prompt(CLASSES, image.marks or {"marks": []})
    return ComparisonRun(encoded or image.encoded, prompt, "tiny", CHOICES)


def same(one: Prediction, other: Prediction) -> bool:
    pairs = zip(one.results, other.results, strict=True)
    return all(np.array_equal(a.logits, b.logits) for a, b in pairs)


def held(session: Session) -> int:
    """Bytes of everything that the open images keep in memory: arrays and features."""
    size = 0
    for image in session.images:
        size += image.thumbnail.nbytes + image.encoded._bytes()
        if image.run is None:
            continue
        size += image.run.encoded._bytes()
        for prediction in image.run.predictions.values():
            for result in prediction.results:
                traces = [(one.similarity, one.regions) for one in result.block_traces]
                arrays = [result.logits, result.candidates, result.similarity, *sum(traces, ())]
                size += sum(array.nbytes for array in arrays if array is not None)
    return size


def test_twenty_images_and_three_methods(
    tiny: Backbones, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "write_figure", lambda *_: None)  # Twenty take a minute.
    session = opened(20)
    session.go_to(session.images[0])
    batch, sizes = Batch(), []
    for step in run_all(ModelStore(), session, batch, plan):
        if step.answer is None and step.run.has_ended:
            session.go_to(step.image)  # Someone looks at each, and moves on.
            sizes.append(held(session))
    session.go_to(session.images[0])
    assert not any(image.encoded._features for image in session.images)
    # Each image adds as much as the last, its results and no features.
    assert len(sizes) == 20 and len({*np.diff(sizes)}) == 1
    assert sizes[-1] == pytest.approx(session.answer_bytes, rel=0.1)
    assert 2.5 * session.answer_bytes < session_module.MAX_ANSWER_BYTES  # Fifty fit.
    predictors = {choice.key: load_predictor(choice.method, tiny) for choice in CHOICES}
    for image in session.images:
        assert [*image.run.predictions] == [choice.key for choice in CHOICES]
        for choice in CHOICES:
            options = PredictOptions(mode=choice.mode)
            alone = EncodedImage(np.array(image.encoded.image))
            expected = predictors[choice.key].predict(alone, plan(image).prompt, options)
            assert same(image.run.predictions[choice.key], expected), (image.name, choice.key)
    runs = [(image.name, image.run, None) for image in session.images]
    path = write_zip_of_all(tmp_path / "all.zip", runs, DisplaySettings())
    with zipfile.ZipFile(path) as packed:
        names = {*packed.namelist()}
        packed.extractall(tmp_path)
    for index in range(20):
        assert {f"{index}/{name}" for name in ("image.png", "results.json", "scores.csv")} <= names
        for choice in CHOICES:
            assert f"{index}/{choice.method}/red heart.png" in names
    for choice in CHOICES:
        coco = COCO(tmp_path / "coco" / f"{choice.method}.json")
        assert [one["file_name"] for one in coco.loadImgs(coco.getImgIds())] == [
            f"{index}/image.png" for index in range(20)
        ]
        for index, image in enumerate(session.images):
            expected = image.run.predictions[choice.key].masks()
            found = np.zeros_like(expected)
            for one in coco.loadAnns(coco.getAnnIds(imgIds=[index + 1])):
                found[one["category_id"] - 1] = coco.annToMask(one)
            np.testing.assert_array_equal(found, expected)


def test_the_oldest_results_leave_first(tiny: Backbones, monkeypatch: pytest.MonkeyPatch) -> None:
    session = opened(5)
    session.go_to(session.images[0])
    models = ModelStore()
    for _ in run_all(models, session, Batch(), plan):
        pass
    assert not any(image.was_dropped for image in session.images)
    largest = max(image.run.bytes for image in session.images)
    monkeypatch.setattr(session_module, "MAX_ANSWER_BYTES", 3 * largest)
    session.images[4].run = None
    steps = [*run_all(models, session, Batch(), plan)]
    assert {step.image for step in steps} == {session.images[4]}  # The others had theirs.
    # The first is shown: its results stay.
    assert [image.was_dropped for image in session.images] == [False, True, True, False, False]
    assert [image.run is None for image in session.images] == [False, True, True, False, False]
    assert session.answer_bytes <= 3 * largest


def test_stop_ends_it_and_going_on_begins_where_it_ended(tiny: Backbones) -> None:
    session = opened(4)
    models, batch = ModelStore(), Batch()
    session.batch = batch
    for step in run_all(models, session, batch, plan):
        if step.image is session.images[1] and step.answer and step.answer.result is not None:
            session.stop()
    first, second, *others = session.images
    assert first.run.has_results_of(plan(first))
    assert len(second.run.predictions) == 1 and len(second.run.failures) == 2
    assert [image.run for image in others] == [None, None]
    kept = first.run
    assert {step.image for step in run_all(models, session, Batch(), plan)} == {second, *others}
    assert first.run is kept
    assert all(image.run.has_results_of(plan(image)) for image in session.images)


def test_marks_stay_with_their_image() -> None:
    session = opened(3)
    one, other = session.images[:2]
    session.go_to(one)
    drawn = {"active": "a", "marks": [], "image": one.number}
    assert session.shows(drawn)
    session.go_to(other)
    session.keep_marks(drawn)  # What was drawn just before comes late.
    assert one.marks is drawn and other.marks is None
    assert not session.shows(drawn) and session.shows({"image": other.number})
    session.open([])
    session.keep_marks({"image": one.number})
    assert session.images == ()
    session.show(np.zeros((4, 4, 3), np.uint8))
    assert session.shows({"marks": []}) and not session.shows({"image": other.number})


@pytest.mark.parametrize(("count", "goes_on"), [(3, True), (1, False)])
def test_a_run_goes_on_while_its_image_can_be_shown_again(count: int, goes_on: bool) -> None:
    session = Session()
    store = ImageStore()
    scene = SceneData(1, seed=7)[0].image
    session.open([(f"{i}.png", store.keep(scene), scene[:8, :8]) for i in range(count)])
    session.go_to(session.images[0])
    run = plan(session.images[0])
    session.begin(run)
    assert session.is_latest(run)
    session.show(scene)
    assert session.is_latest(run) == goes_on
    session.begin(plan(session.images[0]), session.images[0])
    assert not session.is_latest(run)


def test_coco_of_images_with_different_classes() -> None:
    def part(*names: str) -> dict:
        categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
        annotations = [
            {"id": one["id"], "image_id": 1, "category_id": one["id"]} for one in categories
        ]
        return {"images": [{"id": 1}], "categories": categories, "annotations": annotations}

    merged = merge_coco([("a", part("dog", "cat")), ("b", part("cat", "cow"))])
    assert [one["name"] for one in merged["categories"]] == ["dog", "cat", "cow"]
    assert [(one["image_id"], one["category_id"]) for one in merged["annotations"]] == [
        (1, 1),
        (1, 2),
        (2, 2),
        (2, 3),
    ]
    assert [one["id"] for one in merged["annotations"]] == [1, 2, 3, 4]
    assert merged["images"] == [{"id": 1, "file_name": "a"}, {"id": 2, "file_name": "b"}]


# ---- in a real Chromium ----


def files(tmp_path: Path) -> list[Path]:
    """Three scenes, and a file that is no image."""
    paths = [text_file(tmp_path)]
    scenes = SceneData(3, seed=7)
    for index in range(3):
        paths.append(tmp_path / f"scene {index}.png")
        Image.fromarray(scenes[index].image).save(paths[-1])
    return paths


def open_all(bench: Workbench, tmp_path: Path) -> object:
    """Drop them, and return the thumbnails."""
    bench.tab.set_input_files("#picture-upload input[type=file]", files(tmp_path))
    bench.expect_text("#message", "notes.png is not a supported image")
    thumbnails = bench.tab.locator("#images button")
    wait_for(bench, lambda: thumbnails.count() == 3)
    bench.type_classes(CLASSES)
    return thumbnails


def go_to(bench: Workbench, thumbnails: object, index: int) -> None:
    thumbnails.nth(index).click()
    bench.tab.wait_for_selector(f"#images button:nth-child({index + 1})[aria-current]")


@pytest.mark.browser
def test_dropped_together_run_together(
    bench: Workbench,
    predictions: list[Prediction],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(archive, "write_figure", lambda *_: None)
    thumbnails = open_all(bench, tmp_path)
    bench.choose_methods(GUIDED, SURGERY)
    bench.tab.locator("#live input").uncheck()
    bench.click(0.25, 0.5)
    go_to(bench, thumbnails, 2)
    bench.click(0.5, 0.75)
    bench.click(0.75, 0.75)
    go_to(bench, thumbnails, 1)
    bench.tab.click("#run-all")
    bench.expect_text("#status", "3 of 3 images done in")
    assert len(predictions) == 6
    counts = [len(made.prompt.concepts[0].points) for made in predictions[::2]]
    assert counts == [1, 0, 2]
    for index in (0, 2, 1):
        go_to(bench, thumbnails, index)
        for title, made in zip((GUIDED, SURGERY), predictions[2 * index :][:2], strict=True):
            bench.expect_mask(title, 0, made.class_mask(0))
    bench.tab.wait_for_selector("#stop:disabled")
    go_to(bench, thumbnails, 2)
    bench.tab.click("#annotator [data-do=undo]")  # Its two points are there again.
    bench.expect_text("#stale", "The results belong to an earlier prompt")
    bench.run()
    assert len(predictions) == 8
    assert len(predictions[-1].prompt.concepts[0].points) == 1
    bench.tab.click("#export")
    with bench.tab.expect_download() as download:
        bench.tab.locator("#archive a").first.click()
    download.value.save_as(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as packed:
        coco = json.loads(packed.read("coco/clip-surgery-sam.json"))
        names = packed.namelist()
    assert [one["file_name"] for one in coco["images"]] == [
        f"scene {index}/image.png" for index in range(3)
    ]
    assert "scene 2/clip-guided-sam/red heart.png" in names


@pytest.mark.browser
def test_an_example_in_between_and_a_stop(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    thumbnails = open_all(bench, tmp_path)
    bench.type_classes("red heart, checked star")
    held = HeldUp(monkeypatch, at=3)  # The first class of the second image.
    bench.choose_methods(GUIDED)
    bench.tab.click("#run-all")
    held.wait()
    bench.example("Lion")
    assert thumbnails.count() == 3
    bench.tab.click("#stop")
    held.go_on()
    bench.expect_text("#status", "Stopped: 1 of 3 images done in")
    go_to(bench, thumbnails, 0)
    bench.card(GUIDED).locator(".overlay").first.wait_for()
    go_to(bench, thumbnails, 1)
    bench.expect_text(".card .problem", "Stopped before it finished")
