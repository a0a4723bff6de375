"""A program that is killed at any moment: the next run gives the unbroken run's result.

A child process kills itself when it is about to change something on disk for the n-th time, so
every moment between two changes is one of a few numbers.
"""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clipsam import segment_many
from clipsam.cli import main
from clipsam.data.synthetic import SceneData
from clipsam.methods.clip_guided_sam import ClipGuidedSamPredictor
from clipsam.methods.reference_checkpoint import reference_design, write_reference_checkpoint
from clipsam.registry import methods_with_bundles
from clipsam.weights.availability import has_weights
from clipsam.weights.backbones import Backbones
from clipsam.weights.bundle import load_bundle, read_config
from clipsam.weights.bundle_transfer import push_bundle
from clipsam.weights.checkpoints import find_checkpoint
from clipsam.weights.presets import TINY

pytestmark = pytest.mark.skipif(not has_weights(TINY), reason="the tiny bundle is not here")

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"}


def in_child(work: Callable[[], object], folder: Path, moment: int = 0) -> int:
    """Run in a child that is killed at a moment, if it is not 0; returns how many there were."""
    source, sink = os.pipe()
    child = os.fork()
    if not child:
        code, done = 1, 0
        try:
            torch.set_num_threads(1)  # OpenMP's threads do not survive a fork.

            def watch(event: str, args: tuple) -> None:
                nonlocal done
                writes = event == "open" and isinstance(args[2], int) and args[2] & os.O_ACCMODE
                if not (event in CHANGES or writes) or not str(args[0]).startswith(str(folder)):
                    return
                done += 1
                if done == moment:
                    os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(watch)
            code = 0 if work() in (0, None) else 2
            os.write(sink, str(done).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(sink)
    said = os.read(source, 100)
    os.close(source)
    _, status = os.waitpid(child, 0)
    if moment and os.WIFSIGNALED(status):
        return moment
    assert os.waitstatus_to_exitcode(status) == 0
    return int(said)


def some(count: int, wanted: int, seed: int) -> list[int]:
    """Moments, the last one, before everything is done, always among them."""
    drawn = np.random.default_rng(seed).permutation(np.arange(1, count))[: wanted - 1]
    return sorted({*drawn.tolist(), count})


def timeless(value: object) -> object:
    """Leave all run times out of a JSON value."""
    if isinstance(value, dict):
        return {key: timeless(part) for key, part in value.items() if "seconds" not in key}
    return [timeless(part) for part in value] if isinstance(value, list) else value


def train(out: Path) -> Callable[[], int]:
    words = ["train", "sam-decoder", "--data", "scenes:4", "--split", "3", "--seed", "3"]
    words += ["--set", "batch_size=2", "--set", "precision=float32", "--set", "validations=1"]
    words += ["--set", "validation_images=1", "--set", "epochs=1", "--out", str(out)]

    def work() -> int:
        return main(words) and main([*words, "--resume"])

    return work


def test_train(tmp_path: Path) -> None:
    unbroken = tmp_path / "unbroken"
    count = in_child(train(unbroken), unbroken)
    _, expected = load_bundle(unbroken)
    for moment in some(count, 3, seed=1):
        out = tmp_path / str(moment)
        in_child(train(out), out, moment)
        in_child(train(out), out)
        config, state = load_bundle(out)
        assert config["training"]["kept_step"] == read_config(unbroken)["training"]["kept_step"]
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], expected[name]) for name in expected), moment
        assert not (out / "training").exists()


def test_evaluate(tmp_path: Path) -> None:
    scenes = SceneData(3, seed=11)
    data = tmp_path / "data"
    for name in ("images", "masks"):
        (data / name).mkdir(parents=True)
    (data / "classes.json").write_text(json.dumps([*scenes.names, "background"]))
    for index in range(3):
        ids = np.where(scenes[index].classes < 0, len(scenes.names), scenes[index].classes)
        Image.fromarray(scenes[index].image).save(data / "images" / f"{index}.png")
        Image.fromarray(ids.astype(np.uint8)).save(data / "masks" / f"{index}.png")

    def evaluate(out: Path) -> Callable[[], int]:
        words = ["evaluate", "--data", f"folder:{data}", "--method", "sam", "--out", str(out)]
        return lambda: main(words)

    def figures(out: Path) -> object:
        return timeless(json.loads((out / "results.json").read_text())["methods"])

    unbroken = tmp_path / "unbroken"
    count = in_child(evaluate(unbroken), unbroken)
    for moment in some(count, 3, seed=2):
        out = tmp_path / str(moment)
        in_child(evaluate(out), out, moment)
        in_child(evaluate(out), out)
        assert figures(out) == figures(unbroken)
        assert "</html>" in (out / "report.html").read_text()


def test_push_to_a_folder(tmp_path: Path) -> None:
    bundle = find_checkpoint(TINY.name, "sam-decoder")
    place = tmp_path / "shared"

    def push() -> None:
        push_bundle(bundle, str(place), methods_with_bundles())

    files = ("config.json", "model.safetensors")
    in_child(push, tmp_path)
    count = in_child(push, tmp_path)  # over an earlier one
    for moment in range(1, count + 1):
        in_child(push, tmp_path, moment)
        if place.exists():  # whole, for those who look in between
            assert all((place / f).read_bytes() == (bundle / f).read_bytes() for f in files)
        in_child(push, tmp_path)
        assert all((place / f).read_bytes() == (bundle / f).read_bytes() for f in files)
        assert [path.name for path in tmp_path.iterdir()] == ["shared"]


def test_export(tiny: Backbones, tmp_path: Path) -> None:
    predictor = ClipGuidedSamPredictor.untrained(tiny, reference_design(tiny.preset))
    path = tmp_path / "weights.pth"
    path.write_bytes(b"an older file")

    def export() -> None:
        write_reference_checkpoint(predictor, path)

    count = in_child(export, tmp_path)
    expected = path.read_bytes()
    for moment in range(1, count + 1):
        path.write_bytes(b"an older file")
        in_child(export, tmp_path, moment)
        assert path.read_bytes() in (b"an older file", expected)
        in_child(export, tmp_path)
        assert len(path.read_bytes()) == len(expected)
        torch.load(path, weights_only=True)


def test_segment_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table has the rows of the unbroken run: none twice, none missing."""
    monkeypatch.setattr(segment_many, "PART_ROWS", 2)
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for index in range(5):
        scene = SceneData(5, seed=7)[index].image[: 60 + index, :80]
        Image.fromarray(scene).save(photographs / f"{index}.png")
    (photographs / "2.png").write_bytes(b"damaged")

    def segment(out: Path) -> Callable[[], int]:
        words = ["segment", str(photographs), "--text", "red disc", "--method", "clip-surgery-sam"]
        return lambda: main([*words, "--out", str(out)])

    def rows(out: Path) -> object:
        code = "import sys, pyarrow.parquet as p; print(p.read_table(sys.argv[1]).to_pylist())"
        words = [sys.executable, "-c", code, str(out / "masks.parquet")]
        listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        return timeless(ast.literal_eval(listed))

    unbroken = tmp_path / "unbroken"
    count = in_child(segment(unbroken), unbroken)
    expected = rows(unbroken)
    assert [row["key"] for row in expected] == [f"{index}.png" for index in range(5)]
    assert [row["key"] for row in expected if row["error"]] == ["2.png"]
    for moment in some(count, 6, seed=4):
        out = tmp_path / str(moment)
        in_child(segment(out), out, moment)
        in_child(segment(out), out)
        assert rows(out) == expected, moment
        left = {path.name for path in out.iterdir() if not path.name.startswith(".")}
        assert left == {"config.json", "masks.parquet"}
