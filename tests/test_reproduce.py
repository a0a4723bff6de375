"""The papers' tables: quoted values against the papers' pages, and runs at the smallest size."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipsam.cli import main
from clipsam.data.synthetic import SceneData
from clipsam.registry import METHODS
from clipsam.reproduce import run as run_module
from clipsam.reproduce.run import prepare, trainings
from clipsam.reproduce.tables import TABLES, Table
from clipsam.weights.availability import has_weights
from clipsam.weights.presets import TINY, find_preset
from tests.conftest import SHARED

needs_tiny = pytest.mark.skipif(not has_weights(TINY), reason="the tiny bundle is not here")
every_table = pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)


def page(name: str) -> str:
    path = SHARED / "design" / name
    if not path.is_file():
        pytest.skip(f"the papers' figures are not here: {path}")
    return path.read_text(encoding="utf-8")


def cells_of(text: str, heading: str) -> dict[str, list[str]]:
    """The rows of the first table below a heading, by their first cell."""
    table = text.partition(heading)[2].partition("\n|")[2].partition("\n\n")[0]
    lines = [line.strip("|").split("|") for line in table.splitlines()]
    return {first.strip(" *"): [cell.strip(" *") for cell in rest] for first, *rest in lines}


def quoted(name: str) -> dict[str, list[float | None]]:
    """The quoted values of a table of ours, by label."""
    found: dict[str, list[float | None]] = {}
    for row in TABLES[name].rows:
        found.setdefault(row.label, []).append(row.quoted)
    return found


MAIN = {
    "Grounded SAM": "GroundedSAM",
    "CLIP Surgery + SAM": "CLIPSurgery+SAM, vanilla",
    "– with dense prompt": "– + dense prompt",
    "– decoder tuned": "– decoder tuned",
    "– adapters and decoder tuned": "– adapters + decoder tuned",
    "CLIP-Guided SAM": "CLIP-Guided SAM, text only",
}


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("clip-guided-sam-coco", [0]),
        ("clip-guided-sam-ade20k", [1]),
        ("clip-guided-sam-voc", [2]),
        ("clip-guided-sam-camouflage", [3, 4, 5]),
    ],
)
def test_the_main_table_of_clip_guided_sam_is_quoted_right(name, columns):
    paper = cells_of(page("clip-guided-sam.md"), "## 10.")
    ours = quoted(name)
    for label, theirs in MAIN.items():
        # “78.3–78.5”: two places of the paper, the first of which is quoted.
        expected = [float(paper[theirs][column].split("–")[0]) for column in columns]
        assert ours[label] == expected
    if name == "clip-guided-sam-coco":
        sam3 = paper["SAM 3 zero-shot / tuned (840M)"][0]
        assert ours["SAM 3, not tuned"] == [float(sam3.split(" / ")[0])]


def test_methods_with_clicks_are_quoted_right():
    paper = cells_of(page("clip-guided-sam.md"), "## 10.")
    ours = quoted("clip-guided-sam-camouflage-clicks")
    family = [c.split("/") for c in paper["SU-SAM parallel / mix / series / LoRA, manual"][3:]]
    for place, variant in enumerate(("parallel", "mix", "series", "LoRA")):
        assert ours[f"SU-SAM, {variant}"] == [float(cell[place]) for cell in family]
    assert ours["SAM-PTx"] == [float(cell) for cell in paper["SAM-PTx, manual"][3:]]
    assert ours["CLIP-Guided SAM"] == [float(cell) for cell in paper["CLIP-Guided SAM, manual"][3:]]
    ptx = [float(cell.split()[0]) for cell in paper["SAM-PTx, manual"][:2]]
    assert quoted("sam-ptx") == {"SAM-PTx": ptx}


def test_the_ablations_of_clip_guided_sam_are_quoted_right():
    text = page("clip-guided-sam.md")
    sentence = text.partition("VOC 1/16 ablations: ")[2].partition("\n")[0]

    def says(words: str) -> float:
        (value,) = re.findall(rf"{re.escape(words)} (\d\d\.\d)", sentence)
        return float(value)

    expected = {
        "clip-guided-sam-modalities": [
            says(words)
            for words in (
                *("plain parallel adapters", "text only", "vision only", "similarity only"),
                *("no similarity", "no vision", "no text", "full"),
            )
        ],
        "clip-guided-sam-losses": [says(w) for w in ("BCE", "+Dice", "+IoU", ", all")],
        "clip-guided-sam-clip": [
            *(says(w) for w in ("Plain CLIP instead of Surgery", "frozen Surgery", "full")),
        ],
    }
    for name, values in expected.items():
        assert [row.quoted for row in TABLES[name].rows] == values
    trained_on_truth = re.search(r"tested on CLIP points: ([\d.]+) → ([\d.]+)\)", text)
    assert [row.quoted for row in TABLES["clip-guided-sam-alignment"].rows] == [
        float(trained_on_truth[2]),
        float(trained_on_truth[1]),
    ]
    dense = re.search(r"Improves ([\d.]+) → ([\d.]+) in the paper", text)
    assert [row.quoted for row in TABLES["clip-guided-sam-dense-prompt"].rows] == [
        *map(float, dense.groups())
    ]
    coco = re.search(
        r"\nCOCO: ([\d., ]+) from 1/512 to 1/32; CLIP-L ([\d.]+), SAM-H ([\d.]+) at 1/512", text
    )
    assert [row.quoted for row in TABLES["clip-guided-sam-labels"].rows] == [
        float(value) for value in coco[1].split(", ")
    ]
    assert [row.quoted for row in TABLES["clip-guided-sam-backbones"].rows][1:] == [
        *map(float, coco.groups()[1:])
    ]


def test_esc_net_is_quoted_right():
    paper = {
        label: [float(cell) for cell in cells]
        for label, cells in cells_of(page("esc-net.md"), "## 11.").items()
        if "." in cells[0]
    }
    full = paper["ESC-Net L/14"]
    assert quoted("esc-net") == {
        "CAT-Seg, ViT-B/16": paper["CAT-Seg B/16"],
        "ESC-Net, ViT-B/16": paper["ESC-Net B/16"],
        "CAT-Seg, ViT-L/14": paper["CAT-Seg L/14"],
        "ESC-Net, ViT-L/14": full,
    }
    assert quoted("esc-net-sam") == {
        "without SAM": paper["– without SAM"],
        "SAM's blocks with random weights": paper["– SAM random"],
        "SAM's blocks from SAM": full,
    }
    assert quoted("esc-net-prompts") == {
        "points": paper["– point only"],
        "boxes": paper["– box only"],
        "boxes and masks": paper["– box + mask"],
        "points and masks": full,
        "points, boxes and masks": paper["– all three"],
    }


@every_table
def test_every_row_can_be_asked_of_its_method(table: Table):
    for row in table.rows:
        measurement = row.measurement
        assert measurement.mode in METHODS[measurement.method].modes
        assert METHODS[measurement.method].needs_training == (measurement.training is not None)
        assert find_preset(measurement.preset)
    for training in trainings(table):
        prepared = prepare(training)  # refuses a setting that the method does not have
        assert prepared.recipe.epochs == 40
        assert training.mode is None or training.mode in METHODS[training.method].modes


def test_trained_rows_are_the_authors_network():
    (full,) = (row for row in TABLES["clip-guided-sam-losses"].rows if row.quoted == 78.3)
    prepared = prepare(full.measurement.training)
    assert prepared.network.adapters.block == "reference"
    assert prepared.network.adapters.last_blocks is None
    recipe = prepared.recipe
    assert (recipe.dense_logit, recipe.sampling, recipe.point_threshold) == (255, "reference", 0.8)
    assert (recipe.num_points, recipe.lr, recipe.clip_lr, recipe.batch_size) == (5, 5e-5, 1e-7, 2)
    assert full.measurement.training.mode == "semi-automatic"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three scenes to train on and one to measure on, as a folder of images and masks."""
    for part, count in (("train", 3), ("val", 1)):
        scenes = SceneData(count, seed=len(part))
        for index in range(count):
            sample = scenes[index]
            ids = np.where(sample.classes < 0, len(sample.names), sample.classes).astype(np.uint8)
            for name, values in (("images", sample.image), ("masks", ids)):
                path = tmp_path / "my" / part / name / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(path)
    names = json.dumps([*SceneData(1).names, "background"])
    (tmp_path / "my" / "classes.json").write_text(names)
    return tmp_path / "my"


def command(table: str, images: Path, out: Path, *more: str) -> list[str]:
    small = ["--preset", "tiny", "--data", f"folder:{images}", "--steps", "1", "--limit", "1"]
    return ["reproduce", table, *small, "--out", str(out), *more]


def written(out: Path, table: str) -> list[dict[str, str]]:
    with (out / f"{table}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@needs_tiny
@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_table(images, tmp_path, monkeypatch, capsys):
    name = "clip-guided-sam-alignment"
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert main(command(name, images, whole)) == 0

    measure, done = run_module._measure, []

    def once(*args: object) -> None:
        if done:
            raise KeyboardInterrupt
        measure(*args)
        done.append(args)

    monkeypatch.setattr(run_module, "_measure", once)
    assert main(command(name, images, broken)) == 130
    first, second = written(broken, name)
    assert first["measured"] and not second["measured"]
    finished = {path: path.stat().st_mtime_ns for path in broken.glob("*/*/*") if path.is_file()}
    monkeypatch.setattr(run_module, "_measure", measure)
    assert main(command(name, images, broken)) == 0
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    for ending in (".md", ".csv"):
        file = f"{name}{ending}"
        assert (broken / file).read_text() == (whole / file).read_text()

    for line, study, value in zip(
        written(whole, name), TABLES[name].rows, (69.8, 78.3), strict=True
    ):
        assert line["row"] == study.label and float(line["quoted"]) == value
        difference = float(line["measured"]) - value
        assert float(line["difference"]) == pytest.approx(difference, abs=1e-5)
    results = [json.loads(p.read_text()) for p in whole.glob("measurements/*/results.json")]
    shown = {round(100 * one["methods"][0]["mean"]["miou"], 6) for one in results}
    assert {float(line["measured"]) for line in written(whole, name)} == shown

    capsys.readouterr()
    assert main(command(name, images, whole, "--plan")) == 0
    planned = capsys.readouterr().out
    assert "2 rows, 2 measured; 2 trainings" in planned
    assert planned.count(", finished |") == 2 and "3 images" in planned
    assert main(command(name, images, whole, "--steps", "2")) == 2
    assert "another setting of “steps” (1, now 2)" in capsys.readouterr().err


@needs_tiny
@pytest.mark.slow
def test_rows_whose_weights_are_missing_are_left_open(images, tmp_path, capsys):
    name, out = "clip-guided-sam-voc", tmp_path / "out"
    assert main(command(name, images, out)) == 2
    said = capsys.readouterr().err
    assert "1 of 6 rows could not be measured" in said and "Traceback" not in said
    lines = {line["row"]: line["measured"] for line in written(out, name)}
    assert [row for row, measured in lines.items() if not measured] == ["Grounded SAM"]
    assert (
        "| Grounded SAM | VOC 1/16 | mIoU, % | 72.0 | – | – |" in (out / f"{name}.md").read_text()
    )


@needs_tiny
def test_label_maps_and_shards(images, tmp_path):
    name, out = "esc-net-sam", tmp_path / "out"
    assert main(command(name, images, out, "--shard", "0/3")) == 0
    lines = written(out, name)
    # On one data set the six benchmarks of a network are one measurement.
    assert [bool(line["measured"]) for line in lines] == [True] * 6 + [False] * 12
    (summary,) = out.glob("measurements/*/summary.json")
    miou = json.loads(summary.read_text())["miou"]
    assert {float(line["measured"]) for line in lines[:6]} == {round(100 * miou, 6)}


def test_a_plan_without_data_says_what_is_needed(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "clip-guided-sam-modalities", "--plan"]) == 0
    said = capsys.readouterr().out
    assert "`voc:data/VOC2012` | train | missing" in said
    assert "`data/splits/voc-1-16.txt`" in said
    assert "python -m clipsam download base-reference" in said
    assert "8 trainings" in said and said.count("| 40 epochs | – |") == 8
    assert not list(tmp_path.iterdir())
    assert main(["reproduce", "esc-net", "--plan"]) == 0
    assert capsys.readouterr().out.count("| 80000 | – |") == 4


@needs_tiny
def test_a_plan_counts_the_steps_that_the_training_takes(images, tmp_path, capsys):
    """One image of 1/16: its classes in pairs, ten times, eight pairs a step."""
    arguments = command("clip-guided-sam-dense-prompt", images, tmp_path / "out", "--plan")
    without = [word for word in arguments if word not in ("--steps", "1", "--limit")]
    assert main(without) == 0
    said = capsys.readouterr().out
    chosen = np.random.default_rng(42).permutation(3)[0]
    classes = len(SceneData(3, seed=len("train"))[int(chosen)].present())
    steps = max(1, round(10 * -(-classes // 2) / 8))
    assert said.count(f"| semi-automatic | {steps} | – |") == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["table-9"], "There is no table “table-9”: choose from clip-guided-sam-voc"),
        (["sam-ptx", "--steps", "0"], "--steps 0: expected at least 1"),
        (["sam-ptx", "--preset", "huge"], "There is no preset “huge”"),
        (["sam-ptx", "--shard", "2/2"], "expected I from 0 to N − 1"),
        (["sam-ptx", "--out", "file"], "file is a file, expected a folder"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, capsys, words, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    assert main(["reproduce", *words]) == 2
    message = capsys.readouterr().err
    assert says in message and "Traceback" not in message
