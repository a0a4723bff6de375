"""Studies in a folder: interrupted, shared by several processes, read again."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace

import pytest

from clipsam.data.readers import DataError
from clipsam.evaluation.report import worst_samples
from clipsam.evaluation.rows import read_rows
from clipsam.evaluation.runner import MethodRun, evaluate
from clipsam.evaluation.study import Settings, Shard, Study
from clipsam.evaluation.summary import present_figures
from clipsam.tiling import Tiling
from clipsam.writing import OutputError

RUNS = (MethodRun("text", "text"), MethodRun("clicks", "manual", 2))
SETTINGS = Settings("kind:path", "val", ("halves", "halves:manual"), "tiny", 2, seeds=2)


@pytest.fixture
def study(halves, quarters, tmp_path):
    """Makes a study in a folder of that name."""

    def make(name: str = "study", settings: Settings = SETTINGS, data=quarters) -> Study:
        predictors = {"text": halves, "clicks": halves}
        return Study(settings, data, predictors, RUNS, tmp_path / name)

    return make


def table(study: Study) -> list[dict[str, str]]:
    """``results.csv`` without its seconds."""
    with (study.out / "results.csv").open() as file:
        return [
            {k: v for k, v in line.items() if "seconds" not in k} for line in csv.DictReader(file)
        ]


def test_results_are_those_of_evaluate(study, halves, quarters):
    done = study()
    assert done.run(Shard())
    expected = evaluate(quarters, {"text": halves, "clicks": halves}, RUNS, (0, 1))
    lines = table(done)
    for line, ((run, seed), scores) in zip(lines, expected.items(), strict=True):
        assert (line["method"], line["mode"], line["seed"]) == (run.method, run.mode, str(seed))
        figures = present_figures(scores)
        for name in ("miou", "mean_iou", "dice", "mae", "boundary_f", "images"):
            assert float(line[name]) == pytest.approx(figures[name], abs=1e-6), name
    results = json.loads((done.out / "results.json").read_text())
    assert results["settings"]["seeds"] == 2 and results["images"] == 4
    assert results["methods"][0]["seeds"][0]["with_absent"] is None


def test_shards_in_any_order_give_the_same(study):
    whole, shared = study("whole"), study("shared")
    whole.run(Shard())
    assert not shared.run(Shard(2, 3))
    assert not (shared.out / "results.csv").exists()
    assert not shared.run(Shard(0, 3))
    assert shared.run(Shard(1, 3))
    assert table(shared) == table(whole)
    # Another division of the work scores no image again.
    lines = sum(len(p.read_text().splitlines()) for p in (shared.out / "rows").iterdir())
    assert study("shared").run(Shard())
    again = sum(len(p.read_text().splitlines()) for p in (shared.out / "rows").iterdir())
    assert lines == again and table(shared) == table(whole)


def test_an_interrupted_study_goes_on(study, quarters):
    class Breaking(type(quarters)):
        def __getitem__(self, index):
            if index == 2:
                raise KeyboardInterrupt
            return super().__getitem__(index)

    study("whole").run(Shard())
    with pytest.raises(KeyboardInterrupt):
        study("cut", data=Breaking()).run(Shard())
    rows = study("cut").out / "rows" / "0-of-1.jsonl"
    assert list(read_rows(rows.parent)) == ["a", "b"]
    rows.write_bytes(rows.read_bytes()[:-20])  # as if killed while writing b
    assert study("cut").run(Shard())
    assert table(study("cut")) == table(study("whole"))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"seeds": 3}, "“seeds” (2, now 3)"),
        ({"limit": 2}, "“limit” (none, now 2)"),
        ({"methods": ("halves",)}, "“methods” (halves, halves:manual, now halves)"),
        ({"absent": "all"}, "“absent” (none, now all)"),
    ],
)
def test_another_study_needs_another_folder(study, changed, says):
    study()
    with pytest.raises(DataError, match="Choose another --out") as caught:
        study(settings=replace(SETTINGS, **changed))
    assert says in str(caught.value)


def test_a_folder_of_version_0_1_resumes(study):
    config = json.loads((study().out / "config.json").read_text())
    settings = {
        "data": "kind:path",
        "part": "val",
        "methods": ["halves", "halves:manual"],
        "preset": "tiny",
        "clicks": 2,
        "seeds": 2,
        "limit": None,
        "absent": None,
        "single_object": False,
        "precision": "auto",
        "compiled": False,
    }
    digests = {name: config[name] for name in ("images", "weights")}
    (study().out / "config.json").write_text(json.dumps(settings | digests))
    assert study().run(Shard())


def test_other_images_or_weights_are_another_study(study, halves, quarters, monkeypatch):
    study()
    with monkeypatch.context() as patch, pytest.raises(DataError, match="“images”"):
        patch.setattr(type(quarters), "keys", ("a", "b", "c", "e"))
        study()
    with pytest.raises(DataError, match="“weights”"):
        network = halves.network()
        network.weight.fill_(1)
        monkeypatch.setattr(type(halves), "network", lambda self: network)
        study()


def test_no_image_and_no_class(study, quarters):
    class Empty(type(quarters)):
        keys = ()

    class Background(type(quarters)):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            return replace(sample, classes=sample.classes * 0 - 2)

    with pytest.raises(DataError, match="no image in its part “val”"):
        study(data=Empty())
    with pytest.raises(DataError, match="contains any of its classes"):
        study(data=Background()).run(Shard())


def test_a_folder_that_cannot_be(study, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file is a file, expected a folder"):
        study("file")


def test_limit_takes_some_images(study):
    limited = study(settings=replace(SETTINGS, limit=2))
    assert limited.run(Shard())
    assert len(set(limited.keys)) == 2 and set(limited.keys) <= {"a", "b", "c", "<d>"}
    assert set(read_rows(limited.out / "rows")) == set(limited.keys)


def test_absent_classes_do_not_touch_the_oracle(study):
    plain, asked = study("plain"), study("asked", replace(SETTINGS, absent="all"))
    plain.run(Shard())
    asked.run(Shard())
    assert table(plain) == table(asked)
    text, clicks = json.loads((asked.out / "results.json").read_text())["methods"]
    # Absent: cow in each image, and cat in the last.
    assert text["seeds"][0]["with_absent"]["asked"] == 5
    assert text["seeds"][0]["with_absent"]["miou"] < text["mean"]["miou"]
    assert clicks["seeds"][0]["with_absent"] is None
    assert "Without the presence oracle" in (asked.out / "report.html").read_text()
    assert "Without the presence oracle" not in (plain.out / "report.html").read_text()


def test_single_objects_are_checked(study, quarters):
    with pytest.raises(DataError, match="a shows 2 classes"):
        study(settings=replace(SETTINGS, single_object=True)).run(Shard())

    class Dogs(type(quarters)):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            return replace(sample, classes=sample.classes.clip(max=1) // 2 * 2 + 1)

    done = study("dogs", replace(SETTINGS, single_object=True), Dogs())
    done.run(Shard())
    figures = json.loads((done.out / "results.json").read_text())["methods"][0]["mean"]
    assert {"s_measure", "e_measure", "weighted_f", "saliency_mae"} <= set(figures)
    assert "s_measure" in (done.out / "samples.csv").read_text().splitlines()[0]
    assert "s_measure" not in (done.out / "results.csv").read_text()


def test_the_report_needs_nothing_else_and_believes_no_name(study):
    done = study()
    done.run(Shard())
    html = (done.out / "report.html").read_text()
    assert all(link.startswith("data:image/") for link in re.findall(r'src="([^"]*)"', html))
    assert "href" not in html and "<script" not in html and "url(" not in html
    assert "<d>" not in html and "&lt;d&gt;" in html
    assert "<halves>" not in html and "Halves &amp; &lt;halves&gt;, manual" in html
    assert html.count("<figure>") == 2 * (2 + 2 + 2 + 1)
    assert SETTINGS.command().split(" --preset")[0] in html


def test_worst_first(study):
    done = study()
    done.run(Shard())
    rows = [row for rows in read_rows(done.out / "rows").values() for row in rows]
    worst = worst_samples(rows, "text", "text")
    ious = [score.counts.intersection / score.counts.union for score in worst]
    assert ious == sorted(ious) and ious[0] == 0
    assert len(worst) == 7


def test_the_command_can_be_typed_again():
    settings = replace(SETTINGS, data="folder:/my photos", limit=3, absent=4, single_object=True)
    assert settings.command() == (
        "python -m clipsam evaluate --data 'folder:/my photos' --part val --method halves "
        "--method halves:manual --preset tiny --seeds 2 --clicks 2 --limit 3 --absent 4 "
        "--single-object"
    )
    halves = replace(SETTINGS, precision="bfloat16", compiled=True)
    assert halves.command().endswith("--clicks 2 --precision bfloat16 --compile")
    tiled = replace(SETTINGS, tiling=Tiling(512, 0.5))
    assert tiled.command().endswith("--clicks 2 --tile 512 --tile-overlap 0.5 --tile-blend linear")
    assert tiled.options.tiling == Tiling(512, 0.5)
