"""Methods measured on what a stranger uploads: what is taken, what is refused, and the figures."""

from __future__ import annotations

import csv
import json
import shutil
import stat
import tempfile
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
import torch
from PIL import Image

from clipsam.cli import main
from clipsam.data import unpacking, uploads
from clipsam.data.readers import DataError, FolderData
from clipsam.data.samples import BACKGROUND, VOID
from clipsam.data.synthetic import SceneData
from clipsam.data.uploads import Source, from_server, from_zip, offered
from clipsam.evaluation import study
from clipsam.evaluation.runner import MethodRun, evaluate
from clipsam.evaluation.summary import present_figures
from clipsam.evaluation.truth import match_truth
from clipsam.predictor import Predictor
from clipsam.registry import find_method, load_predictor
from clipsam.training.adapt import adapt
from clipsam.types import parse_classes, prompt_from_classes
from clipsam.weights.backbones import Backbones
from clipsam.workbench import zero_gpu
from clipsam.workbench.adapt.adapt_tab import AdaptTab, example_pictures
from clipsam.workbench.bundles import SessionBundle, SessionBundles
from clipsam.workbench.evaluate import measuring
from clipsam.workbench.evaluate.evaluate_tab import EVERY, PRESENT, EvaluateTab
from clipsam.workbench.evaluate.measuring import CASES, FILES, EvaluateSession, sample_iou
from clipsam.workbench.model_store import ModelStore
from clipsam.workbench.page import launch

COUNT = 4
KEYS = ("clip-surgery-sam/vanilla", "sam/manual")
SCENES = SceneData(COUNT, seed=11)


@pytest.fixture(autouse=True)
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """A folder of images, masks and names; id 52 is the background."""
    return save(tmp_path / "scenes")


def save(folder: Path) -> Path:
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    (folder / "classes.json").write_text(json.dumps([*SCENES.names, "background"]))
    for index in range(COUNT):
        scene = SCENES[index]
        ids = np.where(scene.classes == BACKGROUND, len(SCENES.names), scene.classes)
        Image.fromarray(scene.image).save(folder / "images" / f"scene{index}.png")
        Image.fromarray(ids.astype(np.uint8)).save(folder / "masks" / f"scene{index}.png")
    return folder


def pack(folder: Path, target: Path, under: str = "") -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, f"{under}{path.relative_to(folder)}")
    return target


def write_zip(path: Path, files: dict[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def add(path: Path, name: str, content: bytes | str = b"", **fields: int) -> Path:
    """Put one more entry into a zip, with fields of its own."""
    entry = zipfile.ZipInfo(name)
    for field, value in fields.items():
        setattr(entry, field, value)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(entry, content)
    return path


# ---- what is taken ----


def same_images(source: Source, part: str = "all") -> None:
    data = source.open(part)
    assert len(data) == COUNT
    for index in range(COUNT):
        sample, scene = data[index], SCENES[index]
        assert np.array_equal(sample.image, scene.image)
        assert [sample.names[v] for v in sample.present()] == [
            scene.names[v] for v in scene.present()
        ]
        for value in scene.present():
            mine = sample.classes == sample.names.index(scene.names[value])
            assert np.array_equal(mine, scene.classes == value)


@pytest.mark.parametrize("under", ["", "my scenes/", "a/b/c/", "my scenes\\"])
def test_a_folder_wherever_in_the_zip(scenes: Path, tmp_path: Path, room: Path, under: str) -> None:
    path = pack(scenes, tmp_path / "my.zip", under)
    add(path, "__MACOSX/._scenes", b"litter")
    add(path, f"{under}.DS_Store", b"litter")
    source = from_zip(path)
    assert list(source.parts) == ["all"]
    same_images(source)
    assert len(list(room.iterdir())) == 1
    source.close()
    assert not list(room.iterdir())


def test_parts_share_the_names(scenes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "divided"
    for part in ("train", "val"):
        shutil.copytree(scenes, folder / part)
        shutil.move(folder / part / "classes.json", folder / "classes.json")
    source = from_zip(pack(folder, tmp_path / "my.zip"))
    assert list(source.parts) == ["train", "val"] and source.first_part == "val"
    same_images(source, "train")
    with pytest.raises(DataError, match="no part “test”, expected train or val"):
        source.open("test")


def coco(panoptic: bool) -> dict:
    """The scenes as COCO has them; crowds are not among them."""
    names = SCENES.names
    content = {
        "images": [
            {"id": 7 + i, "file_name": f"scene{i}.png", "height": 256, "width": 256}
            for i in range(COUNT)
        ],
        "categories": [{"id": 3 + i, "name": name} for i, name in enumerate(names)],
        "annotations": [],
    }
    for index in range(COUNT):
        values = SCENES[index].present()
        if panoptic:
            segments = [{"id": 1 + v, "category_id": 3 + v} for v in values]
            entry = {"image_id": 7 + index, "file_name": f"scene{index}.png"}
            content["annotations"].append({**entry, "segments_info": segments})
            continue
        for value in values:
            inside = (SCENES[index].classes == value).ravel(order="F")
            edges = np.flatnonzero(np.diff(inside)) + 1
            ends = [0, *edges.tolist(), inside.size]
            counts = np.diff(ends).tolist()
            shape = {"size": [256, 256], "counts": [0, *counts] if inside[0] else counts}
            entry = {"id": len(content["annotations"]), "image_id": 7 + index}
            content["annotations"].append(
                {**entry, "category_id": 3 + value, "segmentation": shape}
            )
    return content


@pytest.mark.parametrize(
    ("listing", "images", "part"),
    [
        ("annotations.json", "images", "annotations"),
        ("labels.json", ".", "labels"),
        ("train/_annotations.coco.json", "train", "_annotations.coco"),
        ("annotations/instances_val2017.json", "val2017", "val2017"),
    ],
)
def test_coco_instances(scenes: Path, tmp_path: Path, listing: str, images: str, part: str) -> None:
    folder = tmp_path / "coco"
    shutil.copytree(scenes / "images", folder / images, dirs_exist_ok=True)
    (folder / listing).parent.mkdir(exist_ok=True)
    (folder / listing).write_text(json.dumps(coco(False)))
    source = from_zip(pack(folder, tmp_path / "coco.zip", "top/"))
    assert list(source.parts) == [part]
    same_images(source, part)


def test_coco_divided_into_parts(scenes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "coco"
    for part in ("train", "valid"):
        shutil.copytree(scenes / "images", folder / part)
        (folder / part / "_annotations.coco.json").write_text(json.dumps(coco(False)))
    source = from_zip(pack(folder, tmp_path / "coco.zip"))
    assert list(source.parts) == ["train", "valid"] and source.first_part == "valid"
    same_images(source, "valid")


def test_coco_panoptic(scenes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "coco"
    shutil.copytree(scenes / "images", folder / "val2017")
    masks = folder / "annotations" / "panoptic_val2017"
    masks.mkdir(parents=True)
    for index in range(COUNT):
        scene = SCENES[index]
        ids = np.where(scene.classes >= 0, scene.classes + 1, 0).astype(np.uint8)
        colours = np.stack((ids, 0 * ids, 0 * ids), axis=-1)
        Image.fromarray(colours).save(masks / f"scene{index}.png")
    (folder / "annotations" / "panoptic_val2017.json").write_text(json.dumps(coco(True)))
    source = from_zip(pack(folder, tmp_path / "coco.zip"))
    assert list(source.parts) == ["panoptic_val2017"]
    same_images(source, "panoptic_val2017")


# ---- what is refused ----


def refused(path: Path, room: Path) -> str:
    """The sentence, after which nothing is left behind, here or elsewhere."""
    with pytest.raises(DataError) as caught:
        source = from_zip(path)
        source.open(source.first_part)
    assert not list(room.parent.rglob("evil.png"))
    text = str(caught.value)
    assert str(room) not in text and text.endswith((".", ")")), text
    return text


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"name": "../evil.png"}, "“../evil.png”, a path outside the zip"),
        ({"name": "images/../../../evil.png"}, "a path outside the zip"),
        ({"name": "..\\evil.png"}, "a path outside the zip"),
        ({"name": "/tmp/evil.png"}, "a path outside the zip"),
        ({"name": "C:/evil.png"}, "a path outside the zip"),
        (
            {
                "name": "images/link.png",
                "content": "/etc/passwd",
                "external_attr": (stat.S_IFLNK | 0o777) << 16,
            },
            "contains the link “images/link.png”. Include the file itself",
        ),
        ({"name": "pipe", "external_attr": (stat.S_IFIFO | 0o600) << 16}, "contains the link"),
        ({"name": "images/scene0.png", "content": "again"}, "“images/scene0.png” twice"),
        ({"name": "images/scene0.png/x"}, "“images/scene0.png” twice"),
        ({"name": "a" * 300}, "cannot be unpacked"),
        ({"name": "x.bin", "compress_type": zipfile.ZIP_LZMA}, "Create it with “deflate”"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_entries_that_are_refused(
    scenes: Path, tmp_path: Path, room: Path, entry: dict, says: str
) -> None:
    path = add(pack(scenes, tmp_path / "my.zip"), **entry)
    assert says in refused(path, room)
    assert not list(room.iterdir())


def test_bombs_are_counted_while_they_unpack(
    scenes: Path, tmp_path: Path, room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pack(scenes, tmp_path / "my.zip")
    add(path, "zeros", bytes(30_000_000), compress_type=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2_000_000
    monkeypatch.setattr(unpacking, "MAX_BYTES", 20_000_000)
    assert "when unpacked" in refused(path, room)
    # The same, with sizes that are a lie.
    lying = path.read_bytes().replace((30_000_000).to_bytes(4, "little"), b"\1\0\0\0")
    (tmp_path / "lying.zip").write_bytes(lying)
    assert "lying.zip is a damaged zip" in refused(tmp_path / "lying.zip", room)
    monkeypatch.setattr(unpacking, "MAX_FILES", 9)
    assert "contains 12 files, more than the limit of 9" in refused(path, room)
    monkeypatch.setattr(unpacking, "MAX_FILES", 20)
    monkeypatch.setattr(unpacking, "MAX_BYTES", 2**30)
    monkeypatch.setattr(unpacking, "MAX_NAMES_BYTES", 100)
    assert "classes.json of more than" in refused(path, room)
    assert not list(room.iterdir())


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no classes.json": (
        lambda f: (f / "classes.json").unlink(),
        "has no classes.json (a list of class names). Expected images/, masks/",
    ),
    "no names": (lambda f: (f / "classes.json").write_text("{"), "classes.json is not valid JSON"),
    "names by id": (
        lambda f: (f / "classes.json").write_text("{}"),
        "is not a list of class names",
    ),
    "endless depth": (
        lambda f: (f / "classes.json").write_text("[" * 100_000),
        "classes.json is not valid JSON: its brackets are nested too deeply",
    ),
    "only background": (
        lambda f: (f / "classes.json").write_text('["background"]'),
        "classes.json names no class",
    ),
    "no masks": (lambda f: shutil.rmtree(f / "masks"), "contains no labelled images. Expected"),
    "no images": (
        lambda f: [path.unlink() for path in (f / "images").iterdir()],
        "contains no image",
    ),
    "a mask too few": (
        lambda f: (f / "masks" / "scene1.png").unlink(),
        "images/scene1.png has no mask masks/scene1.png.",
    ),
    "nothing of it": (
        lambda f: [shutil.rmtree(f / n) for n in ("images", "masks")],
        "my.zip contains no labelled images. Expected",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_layouts_that_are_refused(scenes: Path, tmp_path: Path, room: Path, case: str) -> None:
    spoil, says = BAD[case]
    spoil(scenes)
    assert says in refused(pack(scenes, tmp_path / "my.zip", "top/"), room)


def test_files_that_are_no_such_zip(tmp_path: Path, room: Path) -> None:
    path = tmp_path / "my.zip"
    path.write_bytes(b"")
    assert "my.zip is not a zip archive, expected a .zip file." in refused(path, room)
    path.write_text("a photograph")
    assert "is not a zip archive" in refused(path, room)
    assert "my.zip is empty" in refused(write_zip(path, {}), room)
    assert "my.zip is empty" in refused(write_zip(path, {"__MACOSX/._a": "x"}), room)
    write_zip(path, {"images/a.png": bytes(5000)})
    path.write_bytes(path.read_bytes().replace(bytes(100), bytes(99) + b"\1", 1))
    assert "my.zip is a damaged zip" in refused(path, room)
    # Locked: the first bit of the flags, in both headers.
    content = bytearray(write_zip(path, {"a": "b"}).read_bytes())
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    assert "protected by a password" in refused(path, room)


def spoiled(change: Callable[[dict], object]) -> dict:
    content = coco(False)
    change(content)
    return content


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda c: c["images"][1].update(file_name="../../../../etc/passwd.png"),
            "a path outside its folder",
        ),
        (lambda c: c["images"][1].update(file_name="/etc/passwd.png"), "a path outside its folder"),
        (lambda c: c["images"][1].update(file_name="scene0.jpg"), "two files named “scene0”"),
        (lambda c: c["images"][0].update(height=10**6, width=10**6), "too large"),
        (lambda c: c["images"][0].update(height="tall"), "must be two positive integers"),
        (lambda c: c["images"][3].update(height=-1), "must be two positive integers"),
        (
            lambda c: c["annotations"][0]["segmentation"].update(size=[10**5, 10**5]),
            "is 100000 × 100000 pixels, but its image is 256 × 256",
        ),
        (
            lambda c: c["annotations"][0].update(segmentation=[[0, 0, 1e9, 0, 1e9, 1e9]]),
            "extends far beyond its image",
        ),
        (
            lambda c: c["annotations"][0].update(segmentation=[[0, 0, float("nan"), 0, 9, 9]]),
            "extends far beyond its image",
        ),
        (lambda c: c.update(images=3), "annotations.json is not COCO JSON"),
        (lambda c: c.update(categories=[3]), "annotations.json is not COCO JSON"),
        (
            lambda c: [i.update(file_name=f"{i['id']}.png") for i in c["images"]],
            "which does not exist",
        ),
    ],
)
def test_coco_that_is_refused(
    scenes: Path, tmp_path: Path, room: Path, change: Callable[[dict], object], says: str
) -> None:
    (scenes / "annotations.json").write_text(json.dumps(spoiled(change)))
    shutil.rmtree(scenes / "masks")
    (scenes / "classes.json").unlink()
    assert says in refused(pack(scenes, tmp_path / "my.zip"), room)


# ---- folders of the server ----


def test_only_what_lies_in_the_folders_allowed(tmp_path: Path) -> None:
    allowed, secret = tmp_path / "allowed", tmp_path / "secret"
    for folder in (allowed / "scenes", allowed / ".hidden", secret):
        save(folder)
    (allowed / "out").symlink_to(secret)
    (allowed / "again").symlink_to(allowed / "scenes")
    (allowed / "notes.txt").write_text("")
    (tmp_path / "more").mkdir()
    save(tmp_path / "more" / "scenes")
    folders = [allowed, tmp_path / "more", tmp_path / "not there"]
    assert list(offered(folders)) == ["again", "scenes", "more/scenes"]
    same_images(from_server(folders, "scenes"))
    for name in ("out", "../secret", str(secret), ".hidden", ".", "", "notes.txt", "None"):
        with pytest.raises(DataError, match="Choose one from the list"):
            from_server(folders, name)


def test_nothing_is_written_into_a_folder_of_the_server(scenes: Path, tmp_path: Path) -> None:
    shutil.rmtree(scenes / "masks")
    (scenes / "labels.json").write_text(json.dumps(coco(False)))
    before = sorted(scenes.rglob("*"))
    source = from_server([tmp_path], "scenes")
    same_images(source, "labels")
    source.close()
    assert sorted(scenes.rglob("*")) == before


# ---- measuring ----


@pytest.fixture(scope="module")
def models(tiny: Backbones) -> ModelStore:
    return ModelStore()


@pytest.fixture
def whole_tab(models: ModelStore, tmp_path: Path) -> EvaluateTab:
    with gr.Blocks():
        return EvaluateTab(models, gr.State(SessionBundles()), [tmp_path])


@pytest.fixture
def tab(whole_tab: EvaluateTab, monkeypatch: pytest.MonkeyPatch) -> EvaluateTab:
    """Its reports are empty, for they take longer than everything else."""
    monkeypatch.setattr(study, "write_report", lambda *_: "")
    return whole_tab


ASKED = {
    "bundles": SessionBundles(),
    "part": "all",
    "preset": "tiny",
    "keys": KEYS,
    "images": 16,
    "seed": 0,
    "classes": PRESENT,
    "clicks": 2,
}


def values(tab: EvaluateTab, session: EvaluateSession, **changed: object) -> dict:
    """What Gradio hands the tab of :data:`ASKED`, but for what is changed."""
    request = {**ASKED, **changed}
    parts = {"part": tab.data.part, "keys": tab.methods}
    request = {parts.get(name) or getattr(tab, name): value for name, value in request.items()}
    return {tab.session: session, **request}


def steps(tab: EvaluateTab, session: EvaluateSession, **changed: object) -> Iterator[dict]:
    """What the page shows after each image, by the attributes of the tab."""
    names = {part: name for name, part in vars(tab).items() if isinstance(part, gr.blocks.Block)}
    names |= {part: name for name, part in tab.downloads.items()}
    tab.stop.begin(session)
    for updates in tab.run(values(tab, session, **changed), lambda *_, **__: None):
        yield {names[part]: value for part, value in updates.items()}


def run(tab: EvaluateTab, session: EvaluateSession, **changed: object) -> SimpleNamespace:
    """What the page shows in the end; ``None`` for what was not mentioned."""
    shown: dict[str, object] = {"report.html": None}
    for updates in steps(tab, session, **changed):
        shown |= updates
    return SimpleNamespace(**shown)


@pytest.fixture
def session(scenes: Path, tmp_path: Path) -> Iterator[EvaluateSession]:
    """A user who has uploaded the scenes."""
    session = EvaluateSession(from_zip(pack(scenes, tmp_path / "scenes.zip")))
    yield session
    session.close()


def lines(path: Path) -> list[dict[str, str]]:
    """A table without its seconds."""
    with path.open() as file:
        return [{k: v for k, v in one.items() if "second" not in k} for one in csv.DictReader(file)]


@pytest.mark.parametrize("classes", [PRESENT, EVERY])
def test_figures_are_those_of_the_command_line(
    whole_tab: EvaluateTab, session: EvaluateSession, scenes: Path, tmp_path: Path, classes: str
) -> None:
    shown = vars(run(whole_tab, session, classes=classes, images=3))
    out = tmp_path / "out"
    command = ["evaluate", "--data", f"folder:{scenes}", "--limit", "3", "--clicks", "2"]
    command += ["--method", "clip-surgery-sam:vanilla", "--method", "sam:manual"]
    command += ["--absent", "all"] if classes == EVERY else []
    assert main([*command, "--out", str(out)]) == 0
    for name in FILES:
        assert Path(shown[name]).name == name
    for name in ("results.csv", "samples.csv"):
        ours, theirs = lines(Path(shown[name])), lines(out / name)
        by_name = sorted(ours, key=str), sorted(theirs, key=str)
        assert by_name[0] == by_name[1] and ours
    ours, theirs = (
        json.loads((f / "results.json").read_text())
        for f in (Path(shown["results.json"]).parent, out)
    )
    assert ours["settings"] == {**theirs["settings"], "data": "folder:scenes", "part": "all"}
    for one, other in zip(ours["methods"], theirs["methods"], strict=True):
        for seeds in (one["seeds"], other["seeds"]):
            seeds[0]["present"].pop("seconds_per_image")
        assert one["seeds"] == other["seeds"]
    assert "<h2>Worst samples</h2>" in Path(shown["report.html"]).read_text()
    assert shown["status"].endswith("3 of 3 images done.</p>")
    assert ("false alarms %" in shown["board"]) == (classes == EVERY)


@pytest.fixture
def bundles(tiny: Backbones) -> Iterator[SessionBundles]:
    """What a session has that trained a decoder for three steps."""
    bundles = SessionBundles()
    folder = bundles.new_folder("sam-decoder-tiny-adapted-1")
    method = find_method("sam-decoder")
    adapt(method, tiny, example_pictures()[:4], 60, folder, lambda step, _: step == 3)
    bundles.keep(SessionBundle("Mine", "sam-decoder", "tiny", folder, folder.with_suffix(".zip")))
    yield bundles
    bundles.close()


def test_weights_of_the_session_have_figures_of_their_own(
    tab: EvaluateTab,
    session: EvaluateSession,
    bundles: SessionBundles,
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = "sam-decoder-tiny-adapted-1"
    keys = ["sam-decoder/manual", f"sam-decoder@{own}/manual"]
    offered = tab.take_bundle(bundles, "tiny", keys[:1])
    assert offered.choices[-1] == ("Mine · manual", keys[1]) and offered.value == keys
    assert tab.offer(SessionBundles(), "tiny", keys).value == keys[:1]
    shown = run(tab, session, bundles=bundles, keys=keys)
    monkeypatch.chdir(bundles.kept[0].folder.parent)
    command = ["evaluate", "--data", f"folder:{scenes}", "--limit", "16", "--clicks", "2"]
    command += ["--method", "sam-decoder:manual", "--method", f"sam-decoder:manual@{own}"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    table = lines(tmp_path / "out" / "results.csv")
    assert [one["method"] for one in table] == ["sam-decoder", f"sam-decoder@{own}"]
    assert table[0]["miou"] != table[1]["miou"]
    assert lines(Path(getattr(shown, "results.csv"))) == table
    results = json.loads(Path(getattr(shown, "results.json")).read_text())
    assert results["settings"]["methods"] == command[-3::2]
    for name, line in zip(("SAM, decoder tuned", "Mine"), table, strict=True):
        row = next(part for part in shown.board.split("<tr>") if f"{name}</td>" in part)
        assert f"{100 * float(line['miou']):.1f}<" in row.replace("<b>", "")
    # Another user's session knows nothing of it.
    assert "Select at least one" in run(tab, session, keys=keys[1:]).message


def test_the_leaderboard_follows_each_image(
    tab: EvaluateTab, session: EvaluateSession, scenes: Path, tiny: Backbones
) -> None:
    boards = [updates["board"] for updates in steps(tab, session) if updates.get("board")]
    assert len(boards) == COUNT
    runs = [MethodRun("clip-surgery-sam", "vanilla"), MethodRun("sam", "manual", 2)]
    predictors = {one.method: load_predictor(one.method, tiny) for one in runs}
    data = FolderData(scenes)
    for done, board in enumerate(boards, start=1):
        scores = evaluate(_First(data, done), predictors, runs, (0,))
        for figures in map(present_figures, scores.values()):
            for value in (figures["miou"], figures["mean_iou"], figures["dice"], figures["mae"]):
                assert f"{100 * value:.1f}<" in board.replace("<b>", ""), (done, value)
        assert f">{done}</td>" in board


class _First:
    """The first images of a data set."""

    def __init__(self, data: FolderData, count: int) -> None:
        self.names, self.keys, self._data = data.names, data.keys[:count], data

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> object:
        return self._data[index]


def test_stop_keeps_what_has_been_measured(tab: EvaluateTab, session: EvaluateSession) -> None:
    shown: dict[str, object] = {}
    boards = 0
    for updates in steps(tab, session):
        shown |= updates
        boards += bool(updates.get("board"))
        if boards == 2 and not session.stopped:
            assert tab.stop.end(session).interactive is False
    assert "Stopped after 2 of 4 images. Results so far are kept." in shown["status"]
    assert boards == 2 and ">2</td>" in shown["board"]
    assert {line["images"] for line in lines(Path(shown["results.csv"]))} == {"2"}
    assert shown["cases"].count("<button") > 0
    # The next run begins anew.
    assert "4 of 4 images done." in run(tab, session).status


def test_stop_within_an_image_and_before_the_first(
    tab: EvaluateTab, session: EvaluateSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict, request = Predictor.predict, []

    def counted(self: Predictor, *args: object, **kwargs: object) -> object:
        request.append(self.info.id)
        if len(request) == 3:
            tab.stop.end(session)
        return predict(self, *args, **kwargs)

    monkeypatch.setattr(Predictor, "predict", counted)
    shown = run(tab, session)
    # The second image lacks a method: it does not count.
    assert "Stopped after 1 of 4" in shown.status and ">1</td>" in shown.board
    assert tab.stop.begin(session).interactive
    tab.stop.end(session)
    shown = list(tab.run(values(tab, session), lambda *_, **__: None))
    assert "Stopped after 0 of 4" in shown[-1][tab.status] and session.measuring.measured == 0


def test_a_bad_image_is_left_out_and_named(
    tab: EvaluateTab, scenes: Path, tmp_path: Path, room: Path
) -> None:
    Image.new("L", (7, 5)).save(scenes / "masks" / "scene1.png")
    (scenes / "images" / "scene2.png").write_text("no picture")
    session = EvaluateSession(from_zip(pack(scenes, tmp_path / "my.zip")))
    shown = run(tab, session)
    assert "4 of 4 images done." in shown.status and ">2</td>" in shown.board
    assert "2 images could not be used" in shown.left_out and str(room) not in shown.left_out
    assert "masks/scene1.png is 7 × 5 pixels" in shown.left_out
    assert "images/scene2.png" in shown.left_out
    assert getattr(shown, "results.csv")


def test_only_bad_images(tab: EvaluateTab, scenes: Path, tmp_path: Path) -> None:
    for path in (scenes / "masks").iterdir():
        Image.new("L", (7, 5)).save(path)
    session = EvaluateSession(from_zip(pack(scenes, tmp_path / "my.zip")))
    shown = run(tab, session)
    assert "No image could be used. masks/scene0.png is 7 × 5 pixels" in shown.message


def test_a_method_that_fails_leaves_the_image_out(
    tab: EvaluateTab,
    session: EvaluateSession,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("boom")

    monkeypatch.setattr(Predictor, "predict", fail)
    shown = run(tab, session)
    assert "scene0 failed with an unexpected error; see the server log." in shown.message


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"keys": []}, "Select at least one method."),
        ({"keys": ["sam3/text"]}, "cannot run with tiny: needs facebook/sam3"),
        ({"keys": ["../evil"]}, "Select at least one method."),
        ({"preset": "giant"}, "There is no preset “giant”"),
        ({"part": "../evil"}, "has no part “../evil”, expected all."),
        ({"part": None}, "has no part “None”"),
        ({"seed": None}, "The seed is missing"),
    ],
)
def test_questions_that_cannot_be_answered(
    tab: EvaluateTab, session: EvaluateSession, changed: dict, says: str
) -> None:
    shown = run(tab, session, **changed)
    assert says in shown.message and "class='problem'" in shown.message


def test_without_images(tab: EvaluateTab) -> None:
    assert "There are no images yet. Upload a zip" in run(tab, EvaluateSession()).message


def test_methods_that_do_not_fit_together_are_refused(
    tab: EvaluateTab, session: EvaluateSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tab.models, "max_bytes", 1000)
    assert "Select fewer" in run(tab, session).message
    assert "4 of 4" in run(tab, session, keys=KEYS[:1]).status


def test_the_seed_chooses_the_images(tab: EvaluateTab, session: EvaluateSession) -> None:
    chosen = set()
    for seed in range(6):
        shown = run(tab, session, images=1, seed=seed, keys=KEYS[:1])
        (image,) = {line["image"] for line in lines(Path(getattr(shown, "samples.csv")))}
        chosen.add(image)
    assert len(chosen) > 1


# ---- where a GPU is lent call by call ----


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As in a fork: sums may differ in their last bit otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def written(shown: SimpleNamespace) -> list[object]:
    """Everything that was written, without its times."""
    results = json.loads(Path(getattr(shown, "results.json")).read_text())
    for method in results["methods"]:
        for figures in (method["mean"], method["std"], method["seeds"][0]["present"]):
            figures.pop("seconds_per_image")
    tables = [lines(Path(getattr(shown, name))) for name in ("results.csv", "samples.csv")]
    worst = Path(getattr(shown, "report.html")).read_text().partition("<h2>Worst samples</h2>")[2]
    assert worst
    return [results, *tables, worst]


@pytest.mark.parametrize("kind", ["folder", "coco"])
def test_a_fork_measures_the_same(
    whole_tab: EvaluateTab,
    scenes: Path,
    tmp_path: Path,
    bundles: SessionBundles,
    lent: list[int],
    one_thread: None,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    if kind == "coco":
        (scenes / "annotations.json").write_text(json.dumps(coco(False)))
        shutil.rmtree(scenes / "masks")
    else:
        (scenes / "images" / "scene2.png").write_text("no picture")
    session = EvaluateSession(from_zip(pack(scenes, tmp_path / "scenes.zip")))
    request = {
        "bundles": bundles,
        "part": session.source.first_part,
        "keys": ["clip-surgery-sam/vanilla", "sam-decoder@sam-decoder-tiny-adapted-1/manual"],
        "classes": EVERY,
    }
    monkeypatch.setattr(zero_gpu, "MAX_SECONDS", 35)  # Not enough for two images of 52 classes
    loaded = dict(whole_tab.models._predictors)
    monkeypatch.setattr(whole_tab.models, "_predictors", OrderedDict())
    far = run(whole_tab, session, **request)
    assert not whole_tab.models._predictors  # Nothing is loaded in this process.
    far_files, far_cases = written(far), far.cases
    measured = COUNT if kind == "coco" else COUNT - 1
    assert len(lent) == measured + 1 and max(lent) <= 35
    monkeypatch.setattr(whole_tab.models, "_predictors", OrderedDict(loaded))
    monkeypatch.setattr(zero_gpu, "ON_ZERO_GPU", False)
    here = run(whole_tab, session, **request)
    assert far_files == written(here)
    assert far_cases == here.cases and far_cases.count("<button") > 0
    assert (far.left_out, far.status) == (here.left_out, here.status)
    assert len(lent) == measured + 1
    session.close()


def test_one_lent_gpu_measures_what_fits_into_its_time(
    tab: EvaluateTab, session: EvaluateSession, lent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    boards = [updates["board"] for updates in steps(tab, session) if updates.get("board")]
    assert len(boards) == COUNT and len(lent) == 2  # The images, and the report.
    lent.clear()
    monkeypatch.setattr(measuring, "MAX_PIXELS", 2 * 256 * 256)
    assert "4 of 4 images done." in run(tab, session).status
    assert len(lent) == 3


def test_stop_where_a_gpu_is_lent(
    tab: EvaluateTab, session: EvaluateSession, lent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "MAX_PIXELS", 1)  # One image at a time
    shown: dict[str, object] = {}
    for updates in steps(tab, session):
        shown |= updates
        if updates.get("board"):
            tab.stop.end(session)
    assert "Stopped after 1 of 4 images. Results so far are kept." in shown["status"]
    assert len(lent) == 2  # Its image, and the report.


def test_a_gpu_that_is_not_lent_any_more(
    tab: EvaluateTab, session: EvaluateSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def refused(*arguments: object) -> Iterator:
        calls.append(arguments)
        if len(calls) > 1:
            raise gr.Error("90s requested vs. 7s left", title="ZeroGPU quota exceeded")
        yield from zero_gpu._in_worker(*arguments)

    monkeypatch.setattr(zero_gpu, "ON_ZERO_GPU", True)
    monkeypatch.setattr(zero_gpu, "_lent", refused)
    monkeypatch.setattr(measuring, "MAX_PIXELS", 1)
    shown = run(tab, session)
    assert "ZeroGPU quota exceeded: 90s requested vs. 7s left" in shown.message
    assert "Stopped after 1 of 4 images" in shown.status and ">1</td>" in shown.board
    assert shown.cases.count("<button") > 0 and not hasattr(shown, "results.csv")


# ---- cases ----


def test_cases_are_the_worst_and_the_best(tab: EvaluateTab, session: EvaluateSession) -> None:
    run(tab, session)
    samples = lines(Path(session.measuring._files.name) / "samples.csv")
    for choice in session.measuring.request.choices:
        ious = sorted(float(one["iou"]) for one in samples if one["method"] == choice.method)
        worst, best = session.measuring.cases(choice)
        kept = min(CASES, len(ious) - len(ious) // 2), min(CASES, len(ious) // 2)
        assert (len(worst), len(best)) == kept
        assert [sample_iou(one.score) for one in worst] == pytest.approx(
            ious[: len(worst)], abs=1e-6
        )
        assert [sample_iou(one.score) for one in best] == pytest.approx(
            ious[::-1][: len(best)], abs=1e-6
        )
        assert not {one.number for one in worst} & {one.number for one in best}


def test_a_case_opens_with_its_classes_and_truth(
    tab: EvaluateTab, session: EvaluateSession, scenes: Path
) -> None:
    run(tab, session)
    data = FolderData(scenes)
    worst, best = session.measuring.cases(session.measuring.request.choices[1])
    for case in (*worst, *best):
        example = tab.case(session, case.number)
        sample = data[data.keys.index(case.score.image)]
        assert np.array_equal(example.image, sample.image)
        classes = parse_classes(example.classes)
        assert classes[0] == (case.score.name,)
        assert {names[0] for names in classes} == {sample.names[v] for v in sample.present()}
        truth = match_truth(
            example.truth.ids,
            sample.image.shape[:2],
            prompt_from_classes(classes),
            example.truth.names,
        )
        assert np.array_equal(truth.valid, sample.classes != VOID)
        for name, mask in truth.masks.items():
            assert np.array_equal(mask, sample.classes == sample.names.index(name))
    for index in (-1, 10**9):
        with pytest.raises(DataError, match="no longer available"):
            tab.case(session, index)


def test_void_is_not_scored_and_separators_do_not_separate(
    tab: EvaluateTab, scenes: Path, tmp_path: Path
) -> None:
    (scenes / "classes.json").write_text(json.dumps(["a, b;  c", *SCENES.names[1:], "background"]))
    ids = np.full((256, 256), 255, np.uint8)
    ids[:100] = 0
    Image.fromarray(ids).save(scenes / "masks" / "scene0.png")
    session = EvaluateSession(from_zip(pack(scenes, tmp_path / "my.zip")))
    shown = run(tab, session, keys=KEYS[1:])
    example = tab.case(session, 0)
    assert example.classes == "a b c" and "a, b; c" in shown.by_class
    prompt = prompt_from_classes(parse_classes(example.classes))
    truth = match_truth(example.truth.ids, (256, 256), prompt, example.truth.names)
    assert np.array_equal(truth.masks["a b c"], ids == 0)
    assert np.array_equal(truth.valid, ids == 0)


# ---- sessions ----


def test_two_users_do_not_see_each_other(
    tab: EvaluateTab, session: EvaluateSession, scenes: Path, tmp_path: Path
) -> None:
    other = EvaluateSession()
    run(tab, session)
    number = session.measuring.cases(session.measuring.request.choices[0])[0][0].number
    with pytest.raises(DataError, match="no longer available"):
        tab.case(other, number)
    assert tab.show_cases(other, KEYS[0]) == ""
    other.take(from_zip(pack(scenes, tmp_path / "others.zip")))
    tab.stop.end(other)
    assert not session.measuring.stopped
    other.close()
    same_images(session.source)
    assert tab.case(session, number).classes


def test_other_images_end_a_run_and_nothing_stays_on_disk(
    tab: EvaluateTab, session: EvaluateSession, scenes: Path, tmp_path: Path, room: Path
) -> None:
    going = steps(tab, session)
    while not next(going).get("board"):
        pass
    tab.data._session = tab.session
    tab.data.take_folder(session, "scenes")
    assert session.source.name == "scenes" and session.measuring is None
    assert list(going) == []
    run(tab, session)
    assert len(list(room.iterdir())) == 2
    session.close()
    assert list(room.iterdir()) == []


def test_bad_uploads_are_one_red_sentence(
    tab: EvaluateTab,
    session: EvaluateSession,
    tmp_path: Path,
    room: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    panel = tab.data
    (tmp_path / "notes.zip").write_text("notes")
    shown = panel.take_zip(session, str(tmp_path / "notes.zip"))
    assert "class='problem'" in shown[panel.message] and "not a zip" in shown[panel.message]
    assert session.source is None and not list(room.iterdir())
    shown = panel.take_folder(session, "../etc")
    assert "Choose one from the list" in shown[panel.message]

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(uploads, "unpack", fail)
    shown = panel.take_zip(session, str(tmp_path / "notes.zip"))
    assert "see the server log" in shown[panel.message]
    assert not list(room.iterdir())


# ---- in the browser ----


class Page:
    """The tab, in words of what a user does and sees; asks once about what may be redrawn."""

    def __init__(self, page: object, address: str) -> None:
        self.page = page
        self.problems: list[str] = []
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", lambda line: line.type == "error" and self.problems.append(line.text))
        page.goto(address)
        page.wait_for_selector("#evaluate-upload input[type=file]", state="attached")

    def upload(self, path: Path) -> None:
        remove = self.page.locator("#evaluate-upload button[aria-label='Clear']")
        if remove.count():
            remove.click()
        self.page.set_input_files("#evaluate-upload input[type=file]", path)

    def expect(self, selector: str, text: str) -> None:
        self.page.wait_for_function(
            "([selector, text]) => document.querySelector(selector)?.innerText.includes(text)",
            arg=[selector, text],
        )

    def figures(self, table: str = "leaderboard") -> list[list[str]]:
        return self.page.locator(f"#{table} tbody").evaluate_all(
            "all => all.flatMap(body => [...body.rows].map(row => "
            "[...row.cells].map(cell => cell.innerText)))"
        )


@pytest.fixture
def page(chromium: object, models: ModelStore, tmp_path: Path) -> Iterator[Page]:
    """The tab served, with Adapt below it; a case that is opened is named at the foot."""
    for key in KEYS:
        models.predictor("tiny", key.partition("/")[0])
    with gr.Blocks() as blocks:
        bundles = gr.State(SessionBundles(), delete_callback=SessionBundles.close)
        tab = EvaluateTab(models, bundles, [tmp_path])
        tab.join(AdaptTab(models, bundles))
        opened = gr.Textbox(elem_id="opened")

        def open_case(session: EvaluateSession, chosen: gr.EventData) -> str:
            return tab.case(session, int(chosen.index)).classes

        tab.cases.click(open_case, tab.session, opened)
    _, address, _ = launch(blocks, server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    context = chromium.new_context(viewport={"width": 390, "height": 900}, accept_downloads=True)
    context.set_default_timeout(60_000)
    page = Page(context.new_page(), address)
    yield page
    assert page.problems == []
    assert "Traceback" not in page.page.locator("body").inner_text()
    context.close()
    blocks.close()


@pytest.mark.browser
def test_what_is_trained_is_measured_beside_the_projects_own(
    page: Page, scenes: Path, tmp_path: Path, chromium: object
) -> None:
    inner = page.page
    inner.click("#adapt-example")
    inner.wait_for_selector("#adapt-listing figure:nth-child(8)")
    inner.click("#adapt-start")
    inner.wait_for_selector("#adapt-curve polyline.mean")
    inner.click("#adapt-stop")
    page.expect("#adapt-status", "selected in Compare and Evaluate")
    mine = inner.get_by_label("CLIP-Guided SAM, adapted 1 · semi-automatic", exact=True)
    mine.wait_for()
    assert mine.is_checked()
    inner.get_by_label("CLIP-Guided SAM, adapted 1 · manual", exact=True).click()
    for title in ("CLIP Surgery + SAM · vanilla", "ESC-Net · whole-image"):
        inner.get_by_label(title, exact=True).click()
    page.upload(pack(scenes, tmp_path / "my.zip"))
    page.expect("#evaluate-about", "my.zip: 4 images, 52 classes")
    inner.click("#evaluate-run")
    page.expect("#evaluate-status", "4 of 4 images done.")
    figures = {row[0].strip(): row[2] for row in page.figures()}
    assert set(figures) == {"CLIP-Guided SAM", "CLIP-Guided SAM, adapted 1"}
    inner.wait_for_selector("#get-results-csv")
    with inner.expect_download() as coming:
        inner.click("#get-results-csv")
    table = {line["method"]: line["miou"] for line in lines(coming.value.path())}
    assert set(table) == {"clip-guided-sam", "clip-guided-sam@clip-guided-sam-tiny-adapted-1"}
    assert {f"{100 * float(miou):.1f}" for miou in table.values()} == set(figures.values())
    # Another window of the same page does not know of it.
    other = chromium.new_context().new_page()
    other.goto(inner.url)
    other.get_by_label("CLIP-Guided SAM · semi-automatic", exact=True).wait_for()
    assert other.get_by_text("adapted 1").count() == 0
    other.context.close()


@pytest.mark.browser
def test_in_the_browser(
    page: Page, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = page.page
    inner.click("#evaluate-run")
    page.expect("#evaluate-message [role=alert]", "There are no images yet")
    (tmp_path / "notes.zip").write_text("notes")
    page.upload(tmp_path / "notes.zip")
    page.expect("#evaluate-data-message [role=alert]", "notes.zip is not a zip archive")
    page.upload(pack(scenes, tmp_path / "my.zip"))
    page.expect("#evaluate-about", "my.zip: 4 images, 52 classes")
    ticks = ("CLIP-Guided SAM · semi-automatic", "ESC-Net · whole-image", "SAM · manual")
    for title in ticks:
        inner.get_by_label(title, exact=True).click()
    inner.click("#evaluate-run")
    page.expect("#evaluate-status", "4 of 4 images done.")
    rows = page.figures()
    assert {row[0].strip() for row in rows} == {"CLIP Surgery + SAM", "SAM"}
    assert [row[-1] for row in rows] == ["4", "4"]
    assert float(rows[0][2]) > float(rows[1][2])
    # Sorted by a heading, first downwards.
    inner.locator("#leaderboard th button", has_text="mIoU").first.click()
    assert page.figures() == rows
    inner.locator("#leaderboard th button", has_text="mIoU").first.click()
    assert page.figures() == rows[::-1]
    assert len(page.figures("per-class")) == len({n for s in SCENES for n in s.present()})
    with inner.expect_download() as coming:
        inner.click("#get-results-csv")
    download = coming.value
    assert download.suggested_filename == "results.csv"
    table = lines(download.path())
    assert {f"{100 * float(line['miou']):.1f}" for line in table} == {row[2] for row in rows}
    inner.locator("#cases button").first.click()
    inner.wait_for_function("document.querySelector('#opened textarea, #opened input').value")
    width = inner.evaluate("document.documentElement.scrollWidth")
    assert width == 390
    # Stopped after the first image, at which the models wait until Stop was pressed.
    predict, stop = Predictor.predict, threading.Event()
    request: list[str] = []

    def waiting(self: Predictor, *args: object, **kwargs: object) -> object:
        request.append(self.info.id)
        if len(request) == 3:
            stop.wait(30)
        return predict(self, *args, **kwargs)

    monkeypatch.setattr(Predictor, "predict", waiting)
    inner.click("#evaluate-run")
    inner.wait_for_selector("#leaderboard .number:text-is('1')")
    inner.click("#evaluate-stop")
    page.expect("#evaluate-stop", "Stopping …")
    stop.set()
    page.expect("#evaluate-status", "Stopped after 1 of 4 images")
    rows = page.figures()
    assert [row[-1] for row in rows] == ["1", "1"]
    inner.wait_for_selector("#get-results-csv")
    inner.wait_for_selector("#evaluate-run:enabled")
    assert float(rows[0][2]) < float(rows[1][2])  # Still in the order chosen
