"""CONTRIBUTING.md's recipes: what a new method and a new metric need, and get for nothing."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from clipsam.cli import main
from clipsam.data.readers import open_data
from clipsam.data.samples import BACKGROUND
from clipsam.data.synthetic import SceneData
from clipsam.data.uploads import Source
from clipsam.evaluation.metric_table import METRICS, Metric, mean_of
from clipsam.registry import METHODS, MethodInfo
from clipsam.weights.backbones import Backbones
from clipsam.workbench.bundles import SessionBundles
from clipsam.workbench.evaluate.evaluate_tab import PRESENT, EvaluateTab
from clipsam.workbench.evaluate.measuring import EvaluateSession
from clipsam.workbench.model_store import ModelStore
from clipsam.workbench.page import build_page

HEADING = "precision %"


@pytest.fixture(autouse=True)
def toys(tiny: Backbones, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry that each of them needs besides its own code."""
    toy = MethodInfo(
        id="toy",
        name="Toy",
        paper="none",
        kind="baseline",
        modes=("text",),
        summary="Finds every class in the left half of the image.",
        predictor="tests.standins.toy:ToyPredictor",
    )
    monkeypatch.setitem(METHODS, "toy", toy)
    precision = Metric(
        HEADING,
        mean_of("precision"),
        lambda compared: compared.counts.intersection / max(1, compared.counts.predicted),
        "precision",
    )
    monkeypatch.setitem(METRICS, "precision", precision)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two labelled images."""
    scenes, folder = SceneData(2, seed=11), tmp_path / "scenes"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    (folder / "classes.json").write_text(json.dumps(["background", *scenes.names]))
    for index in range(2):
        scene = scenes[index]
        ids = np.where(scene.classes == BACKGROUND, 0, scene.classes + 1)
        Image.fromarray(scene.image).save(folder / "images" / f"{index}.png")
        Image.fromarray(ids.astype(np.uint8)).save(folder / "masks" / f"{index}.png")
    return folder


@pytest.fixture
def expected(folder: Path) -> float:
    """Share of the left half that shows a class, mean over the classes that an image shows."""
    data, shares = open_data(f"folder:{folder}", "all"), []
    for index in range(len(data)):
        sample = data[index]
        left = sample.classes[:, : sample.classes.shape[1] // 2]
        shares += [(left == value).mean() for value in sample.present()]
    return sum(shares) / len(shares)


def test_methods_lists_it(capsys: pytest.CaptureFixture) -> None:
    assert main(["methods", "--json"]) == 0
    listed = {entry["id"]: entry for entry in json.loads(capsys.readouterr().out)}
    toy = listed["toy"]
    assert (toy["name"], toy["modes"]) == ("Toy", ["text"])
    assert toy["presets"]["tiny"] == "ready"
    assert toy["parameters"] == listed["sam"]["parameters"]


def test_an_evaluation_runs_and_measures_it(folder: Path, tmp_path: Path, expected: float) -> None:
    out = tmp_path / "out"
    arguments = ["--data", f"folder:{folder}", "--method", "toy", "--method", "clip-surgery-sam"]
    assert main(["evaluate", *arguments, "--out", str(out)]) == 0
    with (out / "results.csv").open() as file:
        figures = {line["method"]: line for line in csv.DictReader(file)}
    assert float(figures["toy"]["precision"]) == pytest.approx(expected, abs=1e-6)
    assert float(figures["clip-surgery-sam"]["precision"]) > 0
    with (out / "samples.csv").open() as file:
        assert all(0 <= float(line["precision"]) <= 1 for line in csv.DictReader(file))
    report = (out / "report.html").read_text()
    assert f"<th>{HEADING}</th>" in report and "Toy, text" in report


@pytest.fixture
def session(folder: Path) -> Iterator[EvaluateSession]:
    session = EvaluateSession(Source("scenes", folder, TemporaryDirectory()))
    yield session
    session.close()


def test_the_page_offers_and_measures_it(session: EvaluateSession, expected: float) -> None:
    models = ModelStore()
    blocks = build_page(models).blocks.values()
    (listed,) = (block for block in blocks if block.elem_id == "methods-list")
    methods = [method for group in listed.props["groups"] for method in group["methods"]]
    assert "toy/text" in [method["key"] for method in methods]
    groups = [block for block in blocks if isinstance(block, gr.CheckboxGroup)]
    offers = [group.elem_id for group in groups if ("Toy · text", "toy/text") in group.choices]
    assert offers == ["evaluate-methods"]
    bundles = SessionBundles()
    with gr.Blocks():
        tab = EvaluateTab(models, gr.State(bundles))
    values = {
        tab.session: session,
        tab.bundles: bundles,
        tab.data.part: "all",
        tab.preset: "tiny",
        tab.methods: ["toy/text"],
        tab.images: 2,
        tab.seed: 0,
        tab.classes: PRESENT,
        tab.clicks: 1,
    }
    tab.stop.begin(session)
    boards = [
        updates[tab.board]
        for updates in tab.run(values, lambda *_, **__: None)
        if updates.get(tab.board)
    ]
    assert HEADING in boards[-1] and "Toy" in boards[-1]
    assert f">{100 * expected:.1f}</td>" in boards[-1]
