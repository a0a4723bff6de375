"""``evaluate`` as a person uses it."""

from __future__ import annotations

import csv
import json

import pytest
import torch

from clipsam.cli import main
from clipsam.data.readers import open_data
from clipsam.evaluation.runner import MethodRun, evaluate
from clipsam.evaluation.summary import present_figures
from clipsam.registry import load_predictor
from clipsam.weights.bundle import save_bundle

COMMON = {"--data": "scenes:3", "--method": "clip-surgery-sam"}


def arguments(options: dict[str, str], *more: str) -> list[str]:
    return ["evaluate", *(word for option in options.items() for word in option), *more]


def test_figures_and_files(tiny, tmp_path, capsys):
    out = tmp_path / "out"
    methods = ("--method", "sam", "--method", "clip-guided-sam:manual")
    options = {**COMMON, "--seeds": "2", "--clicks": "1", "--absent": "3", "--out": str(out)}
    assert main(arguments(options, *methods)) == 0
    assert "3/3" in capsys.readouterr().err
    with (out / "results.csv").open() as file:
        lines = list(csv.DictReader(file))
    runs = [
        MethodRun("clip-surgery-sam", "vanilla"),
        MethodRun("sam", "manual", 1),
        MethodRun("clip-guided-sam", "manual", 1),
    ]
    predictors = {run.method: load_predictor(run.method, tiny) for run in runs}
    expected = evaluate(open_data("scenes:3", "val"), predictors, runs, (0, 1))
    for line, ((run, seed), scores) in zip(lines, expected.items(), strict=True):
        assert (line["method"], line["mode"]) == (run.method, run.mode)
        assert (line["preset"], line["seed"], line["images"]) == ("tiny", str(seed), "3")
        assert float(line["miou"]) == pytest.approx(present_figures(scores)["miou"], abs=1e-6)
        assert float(line["seconds_per_image"]) > 0
    results = json.loads((out / "results.json").read_text())
    surgery, sam, guided = results["methods"]
    assert surgery["seeds"][0]["with_absent"]["asked"] == 9
    assert 0 <= surgery["seeds"][0]["with_absent"]["presence_auc"] <= 1
    assert sam["seeds"][0]["with_absent"] is guided["seeds"][0]["with_absent"] is None
    assert (out / "report.html").stat().st_size > 10_000
    assert (out / "samples.csv").is_file()


def test_the_same_command_goes_on_and_another_does_not(tmp_path, capsys):
    options = {**COMMON, "--out": str(tmp_path)}
    assert main(arguments(options, "--shard", "1/2")) == 0
    assert not (tmp_path / "results.csv").exists()
    assert main(arguments(options, "--shard", "0/2")) == 0
    written = (tmp_path / "results.csv").read_text()
    assert main(arguments(options)) == 0
    assert (tmp_path / "results.csv").read_text() == written
    capsys.readouterr()
    assert main(arguments(options, "--preset", "tiny", "--seeds", "2")) == 2
    assert "another setting of “seeds” (1, now 2). Choose another --out." in capsys.readouterr().err


def test_single_objects(tmp_path):
    options = {**COMMON, "--data": "scenes:2-camouflage", "--limit": "1", "--out": str(tmp_path)}
    assert main(arguments(options, "--single-object")) == 0
    (method,) = json.loads((tmp_path / "results.json").read_text())["methods"]
    assert 0 < method["mean"]["s_measure"] < 1


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"--data": "folder:/not/there"}, "/not/there"),
        ({"--data": "scenes"}, "KIND:PATH"),
        ({"--part": "test"}, "no part test"),
        ({"--data": "folder:."}, "no image in its part “val”"),
        ({"--method": "sam9"}, "no method “sam9”"),
        ({"--method": "clip-guided-sam:fast"}, "semi-automatic or manual"),
        ({"--method": "clip-guided-sam@other"}, "trained for preset 'base'"),
        ({"--preset": "giant"}, "no preset"),
        ({"--shard": "3/2"}, "--shard 3/2"),
        ({"--shard": "half"}, "--shard half"),
        ({"--seeds": "0"}, "--seeds 0"),
        ({"--clicks": "0"}, "--clicks 0"),
        ({"--limit": "-1"}, "--limit -1"),
        ({"--absent": "some"}, "--absent some"),
        ({"--out": "file"}, "file is a file, expected a folder"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, capsys, changed, says):
    monkeypatch.chdir(tmp_path)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    (tmp_path / "classes.json").write_text('["cat"]')
    (tmp_path / "file").write_text("")
    save_bundle(
        tmp_path / "other",
        {"method": "clip-guided-sam", "preset": "base"},
        {"weight": torch.zeros(1)},
    )
    assert main(arguments({**COMMON, "--out": "out", **changed})) == 2
    message = capsys.readouterr().err
    assert says in message
    assert "Traceback" not in message and message.count("\n") == 1
