"""What a machine does to a command: one sentence, the right exit code, and what was done stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipsam.cli import main
from clipsam.data.synthetic import SceneData
from clipsam.evaluation import study
from clipsam.weights.availability import has_weights
from clipsam.weights.presets import TINY

pytestmark = pytest.mark.skipif(not has_weights(TINY), reason="the tiny bundle is not here")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(SceneData(1, seed=3)[0].image).save(path)
    return path


def segment(image: Path, out: Path, *more: str) -> list[str]:
    words = ["segment", str(image), "--text", "disc", "--method", "sam:manual", *more]
    return [*words, "--point", "disc:100,90,1", "--out", str(out)]


def sentence(capsys: pytest.CaptureFixture) -> str:
    """The last line on standard error, which must hold no traceback."""
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said.strip().splitlines()[-1]


@pytest.fixture
def no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if a model is loaded: the place for its results must have been checked before."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    for module in ("segment", "train", "import_export"):
        for name in ("load_methods_from_args", "load_backbones"):
            monkeypatch.setattr(f"clipsam.cli.{module}.{name}", fail, raising=False)
    monkeypatch.setattr("clipsam.evaluate_methods.load_methods_from_args", fail)


COMMANDS = {
    "segment": lambda photo, out: segment(photo, out),
    "evaluate": lambda _, out: [
        *("evaluate", "--data", "scenes:2", "--method", "sam", "--out", str(out))
    ],
    "train": lambda _, out: ["train", "sam-decoder", "--data", "scenes:4", "--out", str(out)],
    "import": lambda photo, out: ["import", str(photo), "--out", str(out)],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.usefixtures("no_models")
def test_places_that_cannot_be_written(
    command: str, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "file").write_text("mine")
    for out, says in (
        (tmp_path / "file", "is a file, expected a folder"),
        (tmp_path / "file" / "inside", "cannot be written (Not a directory)"),
        (tmp_path / ("n" * 300), "is too long for a name"),
        (Path("/proc/nowhere"), "cannot be written"),
    ):
        assert main(COMMANDS[command](photo, out)) == 2
        assert says in sentence(capsys)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.usefixtures("no_models")
def test_export_into_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["export", "checkpoints/tiny/clip-guided-sam", "--out", str(tmp_path)]) == 2
    assert "is a folder, expected the name of a file" in sentence(capsys)


def test_names_of_every_kind(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A class of 300 bytes, and an image whose name is no text."""
    image = tmp_path / os.fsdecode(b"photo\xe9.png")
    try:
        Image.fromarray(SceneData(1, seed=3)[0].image).save(image)
    except OSError:
        pytest.skip("this file system takes decodable names only")
    words = segment(image, tmp_path / "out")
    words[3], words[words.index("disc:100,90,1")] = "犬" * 100, "犬" * 100 + ":100,90,1"
    assert main(words) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert results["image"].endswith("photo\udce9.png") or "photo\\udce9.png" in results["image"]
    assert list((tmp_path / "out" / "sam").glob("犬*.png"))


def test_a_pipe_in_place_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert main(segment(tmp_path / "pipe.png", tmp_path / "out")) == 2
    assert "pipe.png is no regular file, expected an image" in sentence(capsys)


def test_an_interruption_keeps_what_was_done(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the second image: one line, 130, and the next run scores the rest alone."""
    scored: list[str] = []
    score = study.score_image

    def interrupted(sample, *rest):
        if len(scored) == 1:
            raise KeyboardInterrupt
        scored.append(sample.key)
        return score(sample, *rest)

    words = ["evaluate", "--data", "scenes:2", "--method", "sam", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(study, "score_image", interrupted)
    assert main(words) == 130
    assert sentence(capsys) == "clipsam: interrupted; what was finished is kept."
    monkeypatch.setattr(study, "score_image", score)
    first = (tmp_path / "out" / "rows" / "0-of-1.jsonl").read_text()
    assert main(words) == 0
    assert (tmp_path / "out" / "rows" / "0-of-1.jsonl").read_text().startswith(first)
    assert json.loads((tmp_path / "out" / "results.json").read_text())["images"] == 2


def test_segment_keeps_the_methods_that_were_done(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clipsam.methods.tuned_sam import TunedSamPredictor

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(TunedSamPredictor, "_predict_all", stop)
    assert main(segment(photo, tmp_path / "out", "--method", "sam-decoder:manual")) == 130
    (done,) = json.loads((tmp_path / "out" / "results.json").read_text())["methods"]
    assert done["id"] == "sam"
    assert np.asarray(Image.open(tmp_path / "out" / "sam" / "disc.png")).any()


def test_ctrl_c_in_a_c_locale(photo: Path, tmp_path: Path) -> None:
    """A real process with a real signal, where neither names nor messages can be encoded."""
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "PYTHONUTF8": "0"}
    environment |= {"PYTHONCOERCECLOCALE": "0", "OMP_NUM_THREADS": "1"}
    words = ["evaluate", "--data", "scenes:200", "--method", "sam", "--out", str(tmp_path / "é")]
    process = subprocess.Popen(
        [sys.executable, "-m", "clipsam", *words],
        env=environment,
        # A shell's background jobs, and what they start, would ignore the signal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[2],
    )
    rows = tmp_path / "é" / "rows" / "0-of-1.jsonl"
    limit = time.monotonic() + 300  # Machines may be slow, and everything is imported first.
    while not (rows.exists() and rows.stat().st_size) and time.monotonic() < limit:
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert b"Traceback" not in said
    assert said.strip().splitlines()[-1] == b"clipsam: interrupted; what was finished is kept."
    assert json.loads(rows.read_text(encoding="utf-8").splitlines()[-1])["done"]
