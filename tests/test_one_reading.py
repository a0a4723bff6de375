"""The same mask, however it is stored, means the same wherever it is handed in."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from clipsam.cli import main
from clipsam.data.labelled import read_upload
from clipsam.data.readers import DataError, FolderData
from clipsam.data.samples import BACKGROUND
from clipsam.errors import ClipsamError
from clipsam.evaluation.truth import TruthError
from clipsam.types import prompt_from_classes
from clipsam.weights.backbones import Backbones
from clipsam.workbench.api import Api
from clipsam.workbench.compare.session import ComparisonRun, Session
from clipsam.workbench.compare.truth_panel import TruthPanel
from clipsam.workbench.model_store import ModelStore
from tests.conftest import SHARED

SIZE = (60, 80)
FOREGROUND = np.zeros(SIZE, bool)
FOREGROUND[15:45, 20:60] = True
IMAGE = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
BINARY = FOREGROUND.astype(np.uint8) * 255
NAMES = {"one name": ["person"], "background first": ["Background", "person"]}


def stored(folder: Path, way: str) -> Path:
    """The mask, stored in one of the ways that people do."""
    mask = Image.fromarray(BINARY)
    path = folder / f"mask.{'jpg' if way == 'jpeg' else 'png'}"
    match way:
        case "0 and 255":
            mask.save(path)
        case "ids":
            Image.fromarray(BINARY // 255).save(path)
        case "soft":
            mask.filter(ImageFilter.GaussianBlur(1)).save(path)
        case "jpeg":
            mask.save(path, quality=80)
        case "16 bits":
            Image.fromarray(BINARY.astype(np.uint16) * 257).save(path)
        case _:
            picture = Image.new("RGB", mask.size, way)
            picture.putalpha(mask)
            picture.save(path)
    return path


WAYS = ("0 and 255", "ids", "soft", "jpeg", "16 bits", "black", "white", "red")


def in_compare(image: Path, mask: Path, names: list[str], _: Path) -> np.ndarray:
    session = Session()
    session.show(np.asarray(Image.open(image).convert("RGB")))
    prompt = prompt_from_classes([("person",)])
    session.run = ComparisonRun(session.current_image(), prompt, "tiny", ())
    TruthPanel.take(None, session, str(mask), json.dumps(names))
    if session.truth_problem:
        raise TruthError(session.truth_problem)
    return session.truth(None).masks["person"]


def in_evaluate(image: Path, mask: Path, names: list[str], folder: Path) -> np.ndarray:
    for name, file in (("images", image), ("masks", mask)):
        (folder / "set" / name).mkdir(parents=True)
        shutil.copy(file, folder / "set" / name / f"a{file.suffix}")
    (folder / "set" / "classes.json").write_text(json.dumps(names))
    sample = FolderData(folder / "set")[0]
    return sample.classes == sample.names.index("person")


def in_adapt(image: Path, mask: Path, names: list[str], folder: Path) -> np.ndarray:
    files = [folder / "a.jpg", folder / f"a_mask{mask.suffix}"]
    Image.open(image).convert("RGB").save(files[0])
    shutil.copy(mask, files[1])
    (sample,) = read_upload(files, names)
    return sample.classes == sample.names.index("person")


PLACES = (in_compare, in_evaluate, in_adapt)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.fromarray(IMAGE).save(tmp_path / "image.png")
    return tmp_path / "image.png"


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", PLACES)
def test_a_binary_mask_is_its_foreground(
    tmp_path: Path, image: Path, place: Callable[..., np.ndarray], way: str, names: str
) -> None:
    found = place(image, stored(tmp_path, way), NAMES[names], tmp_path)
    assert (found & FOREGROUND).sum() / (found | FOREGROUND).sum() > 0.97


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("value", "names", "named"),
    [
        (7, ["background", "person"], "the id 7, but names are given for 0 to 1 only"),
        (255, ["background", "person", "car"], "only 0, 255, as a binary mask does, but 2 classes"),
        (2, ["sky", "person"], "the id 2, but names are given for 0 to 1 only"),
    ],
)
def test_a_value_without_a_meaning_is_named(
    tmp_path: Path,
    image: Path,
    place: Callable[..., np.ndarray],
    value: int,
    names: list[str],
    named: str,
) -> None:
    mask = tmp_path / "mask.png"
    Image.fromarray(FOREGROUND.astype(np.uint8) * value).save(mask)
    with pytest.raises(ClipsamError, match=named):
        place(image, mask, names, tmp_path)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "names",
    [
        ["background", "person", "Unlabelled"],
        ["Background ", "Person", "unlabeled"],
        ["_background_", "PERSON", "__ignore__"],
        ["background", "person", "Person", "void"],  # one class
    ],
)
def test_the_spelling_of_names_changes_nothing(
    tmp_path: Path, image: Path, place: Callable[..., np.ndarray], names: list[str]
) -> None:
    ids = FOREGROUND.astype(np.uint8)
    ids[50:, :] = len(names) - 1
    ids[15:30, 20:60] = names.index("Person") if "Person" in names[2:] else 1
    Image.fromarray(ids).save(tmp_path / "mask.png")
    typed = [name if name.lower() != "person" else "person" for name in names]
    np.testing.assert_array_equal(place(image, tmp_path / "mask.png", typed, tmp_path), FOREGROUND)


def test_in_a_folder_of_ids_255_is_void(tmp_path: Path, image: Path) -> None:
    in_evaluate(image, stored(tmp_path, "0 and 255"), NAMES["background first"], tmp_path)
    for name, file in (("images", image), ("masks", stored(tmp_path, "ids"))):
        shutil.copy(file, tmp_path / "set" / name / "b.png")
    first, second = FolderData(tmp_path / "set")
    assert set(np.unique(first.classes)) == {BACKGROUND, -1}
    assert second.present() == [0]


# ---- the published cases, on the command line and in the API too ----


@pytest.fixture
def cases() -> Path:
    """Files that were read wrongly; skips where they are absent."""
    if not (SHARED / "cases").is_dir():
        pytest.skip(f"the cases are not here: {SHARED / 'cases'}")
    return SHARED / "cases"


MASKS = ("soft.png", "saved.jpg", "grey_alpha.png", "alpha_black.png", "alpha_white.png")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", MASKS)
def test_real_masks(
    tmp_path: Path, cases: Path, place: Callable[..., np.ndarray], name: str
) -> None:
    right = np.asarray(Image.open(cases / "mask-values" / "same.png")) > 0
    photograph = cases / "bit-depth" / "u16.png"
    Image.fromarray((np.asarray(Image.open(photograph)) // 257).astype(np.uint8)).save(
        tmp_path / "photograph.png"
    )
    found = place(tmp_path / "photograph.png", cases / "mask-values" / name, ["person"], tmp_path)
    assert (found & right).sum() / (found | right).sum() > 0.97


def test_real_masks_on_the_command_line_and_in_the_api(
    tmp_path: Path, cases: Path, tiny: Backbones
) -> None:
    photograph = cases / "bit-depth" / "u16.png"
    scores: dict[str, tuple[float, float]] = {}
    api = Api(ModelStore())

    def url(path: Path) -> str:
        return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"

    for name in ("same.png", *MASKS):
        truth = cases / "mask-values" / name
        argv = ["segment", str(photograph), "--text", "person", "--method", "sam"]
        argv += ["--box", "person:60,40,230,440", "--truth", str(truth), "--out", str(tmp_path)]
        assert main(argv) == 0
        (method,) = json.loads((tmp_path / "results.json").read_text())["methods"]
        answer = api.compare_with_truth(
            url(photograph), url(truth), "person", ["sam"], boxes=[["person", 60, 40, 230, 440]]
        )
        scores[name] = (method["classes"][0]["iou"], answer["methods"][0]["mean_iou"])
        assert bool(answer["notes"]) == (name != "same.png")
    right = scores["same.png"]
    assert right[0] > 0.05
    for score in scores.values():
        assert score == pytest.approx(right, abs=0.03)


def test_two_spellings_of_a_category_are_one_folder_class(tmp_path: Path, image: Path) -> None:
    mask = tmp_path / "mask.png"
    Image.fromarray(FOREGROUND.astype(np.uint8)).save(mask)
    in_evaluate(image, mask, ["background", "person", "Person"], tmp_path)
    assert FolderData(tmp_path / "set").names == ("person",)
    (tmp_path / "set" / "classes.json").write_text("[]")
    with pytest.raises(DataError, match=r"classes\.json names no class"):
        FolderData(tmp_path / "set")
