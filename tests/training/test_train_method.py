"""Training a method, as a person does it: on the command line, a few steps on a few scenes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clipsam.cli import main
from clipsam.data.synthetic import SceneData
from clipsam.encoded_image import EncodedImage
from clipsam.methods.base import TrainablePredictor
from clipsam.models.esc_net import EscNetConfig
from clipsam.models.tuned_sam_model import TunedSamConfig
from clipsam.predictor import PredictOptions
from clipsam.registry import find_method, methods
from clipsam.types import Concept, Prediction, Prompt
from clipsam.weights import checkpoints
from clipsam.weights.availability import has_weights
from clipsam.weights.backbones import load_backbones
from clipsam.weights.bundle import load_bundle
from clipsam.weights.presets import TINY

pytestmark = pytest.mark.skipif(not has_weights(TINY), reason="the tiny bundle is not here")

TUNED = [id for id, cls in methods().items() if issubclass(cls, TrainablePredictor)]
ROOT = Path(__file__).resolve().parents[2]
TRAINED_PARTS = {
    TunedSamConfig: ("mask_decoder", "adapter", "vision."),
    EscNetConfig: ("clip.vision", "clip.text", ".sam.pretrained.", ".fusion.", "decoder."),
}
QUICK = ["--set", "batch_size=2", "--set", "precision=float32", "--set", "validations=1"]


def command(method: str, out: Path, *more: str, data: str = "scenes:4") -> list[str]:
    split = ["--split", "3", "--seed", "3", "--start", "plain", "--set", "validation_images=1"]
    return ["train", method, "--data", data, "--out", str(out), *split, *QUICK, *more]


def labelled_folder(folder: Path, count: int = 5) -> Path:
    """Scenes as a plain folder of images, masks and class names."""
    scenes = SceneData(count, seed=4)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for index in range(count):
        sample = scenes[index]
        ids = np.where(sample.classes < 0, len(sample.names), sample.classes)
        Image.fromarray(sample.image).save(folder / "images" / f"{index}.png")
        Image.fromarray(ids.astype(np.uint8)).save(folder / "masks" / f"{index}.png")
    (folder / "classes.json").write_text(json.dumps([*scenes.names, "background"]))
    return folder


@pytest.mark.parametrize("method", TUNED)
def test_every_method_trains_into_a_bundle_that_runs(tiny, tmp_path, method):
    out = tmp_path / "bundle"
    assert main(command(method, out, "--set", "epochs=1")) == 0
    config, state = load_bundle(out)
    assert config["method"] == method
    assert config["training"]["images"] == 3
    assert config["training"]["held_out_images"] == 1
    assert {p.name for p in out.iterdir()} == {
        "README.md",
        "config.json",
        "curve.png",
        "log.jsonl",
        "model.safetensors",
    }
    trained = find_method(method).load(tiny, out)
    fresh = find_method(method).untrained(tiny)
    assert set(state) == set(fresh.model.trainable_state())
    moved = [n for n, p in fresh.model.trainable_state().items() if not torch.equal(p, state[n])]
    for part in TRAINED_PARTS[fresh.config_type]:
        assert any(part in name for name in moved) == any(part in name for name in state)
    assert any(part in name for part in TRAINED_PARTS[fresh.config_type] for name in moved)
    scene = SceneData(1, seed=9)[0]
    prompt = Prompt((Concept((scene.names[0],), points=[[100, 90]], labels=[1]),))
    answers = [p.predict(EncodedImage(scene.image), prompt).logits() for p in (trained, fresh)]
    assert not np.array_equal(*answers)


def test_a_bundle_predicts_with_the_prompts_of_its_training(tiny, tmp_path):
    out, settings = tmp_path / "bundle", ("dense_logit=255", "num_points=2", "sampling=reference")
    asked = [word for setting in settings for word in ("--set", setting)]
    assert main(command("clip-guided-sam", out, "--set", "epochs=0.5", *asked)) == 0
    scene = SceneData(1, seed=9)[0]
    prompt = Prompt((Concept((scene.names[scene.present()[0]],)),))

    def predict(**options) -> Prediction:
        predictor = find_method("clip-guided-sam").load(tiny, out)
        return predictor.predict(EncodedImage(scene.image), prompt, PredictOptions(**options))

    own = predict()
    assert len(own.results[0].prompts.points) == 2
    assert own.overrides == {}
    by_hand = predict(dense_logit=255.0, num_points=2, sampling="reference")
    np.testing.assert_array_equal(own.logits(), by_hand.logits())
    assert by_hand.overrides == {"dense_logit": 255.0, "num_points": 2, "sampling": "reference"}
    assert not np.array_equal(own.logits(), predict(dense_logit=8.0).logits())
    assert len(predict(num_points=4).results[0].prompts.points) == 4
    # Bundles of before stated two of them in their recipe alone.
    config = json.loads((out / "config.json").read_text())
    del config["prompts"]
    (out / "config.json").write_text(json.dumps(config))
    np.testing.assert_array_equal(predict(sampling="reference").logits(), by_hand.logits())


def test_only_what_the_paper_tunes_is_tuned(tiny, tmp_path):
    """Frozen weights are borrowed from SAM and CLIP: training must leave them as they are."""
    before = {
        n: p.clone() for n, p in [*tiny.sam.named_parameters(), *tiny.clip.named_parameters()]
    }
    assert main(command("clip-guided-sam", tmp_path / "b", "--set", "epochs=0.5")) == 0
    for name, parameter in [*tiny.sam.named_parameters(), *tiny.clip.named_parameters()]:
        assert torch.equal(parameter, before[name])
    trained = set(load_bundle(tmp_path / "b")[1])
    groups = {name.split(".")[0] for name in trained}
    assert groups == {"image_encoder", "prompt_encoder", "mask_decoder", "vision"}
    assert all(".self_attn." in name for name in trained if name.startswith("vision."))
    assert all("adapter" in name for name in trained if name.startswith("image_encoder."))


def python(*args: str) -> list[str]:
    return [sys.executable, "-m", *args]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As the processes that a test starts: sums over more threads round otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_killed_run_ends_in_the_weights_of_an_unbroken_one(one_thread, tmp_path):
    args = ["--set", "epochs=2", "--set", "precision=auto"]
    assert main(command("sam-ptx", tmp_path / "whole", *args)) == 0
    broken = tmp_path / "broken"
    work = broken / "training"
    process = subprocess.Popen(
        [*python("clipsam"), *command("sam-ptx", broken, *args, "--set", "save_seconds=0")],
        cwd=ROOT,
        env=environment(),
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (work / "sam-ptx.pt").exists() and time.monotonic() < deadline:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (broken / "config.json").exists()
    args += ["--set", "save_seconds=0"]
    assert main(command("sam-ptx", broken, *args)) == 2, "it must be asked to resume"
    assert main(command("sam-ptx", broken, *args, "--set", "lr=1", "--resume")) == 2
    assert main(command("sam-ptx", broken, *args, "--resume")) == 0
    whole, resumed = load_bundle(tmp_path / "whole")[1], load_bundle(broken)[1]
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())
    logs = [(tmp_path / run / "log.jsonl").read_text() for run in ("whole", "broken")]
    assert logs[0] == logs[1]


@pytest.mark.parametrize("method", ["sam-ptx", "esc-net"])
def test_two_processes_follow_the_loss_curve_of_one(one_thread, tmp_path, method):
    args = ["--set", "steps=3"]
    assert main(command(method, tmp_path / "one", *args)) == 0
    launch = python("accelerate.commands.launch", "--cpu", "--num_processes", "2")
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "-m"]
    subprocess.run(
        [*launch, "clipsam", *command(method, tmp_path / "two", *args)],
        cwd=ROOT,
        env=environment(),
        check=True,
        capture_output=True,
    )

    def losses(run: str) -> list[float]:
        lines = (tmp_path / run / "log.jsonl").read_text().splitlines()
        return [json.loads(line)["loss"] for line in lines]

    assert len(losses("one")) == 3
    assert losses("two") == pytest.approx(losses("one"), abs=1e-4)


def test_esc_net_is_the_same_in_parts(tmp_path):
    """Images of a batch do not see each other, so a batch may be computed in parts."""
    losses = {}
    for name, parts in (("whole", 1), ("parts", 2)):
        more = ["--set", "epochs=0.7", "--set", f"accumulate={parts}"]
        assert main(command("esc-net", tmp_path / name, *more)) == 0
        lines = (tmp_path / name / "log.jsonl").read_text().splitlines()
        losses[name] = [json.loads(line)["loss"] for line in lines]
    assert losses["parts"] == pytest.approx(losses["whole"], abs=1e-4)


def test_accumulation_and_checkpointed_activations_change_nothing(tmp_path):
    """Both trade time for memory; the training is the same."""
    runs = {"plain": [], "thrifty": ["accumulate=2", "checkpoint_activations=true"]}
    losses = {}
    for name, settings in runs.items():
        more = [word for setting in settings for word in ("--set", setting)]
        args = command("clip-guided-sam", tmp_path / name, "--set", "epochs=0.5", *more)
        assert main(args) == 0
        lines = (tmp_path / name / "log.jsonl").read_text().splitlines()
        losses[name] = [json.loads(line)["loss"] for line in lines]
    assert losses["thrifty"] == pytest.approx(losses["plain"], abs=1e-4)


def refused(capsys, *words: str) -> None:
    error = capsys.readouterr().err
    sentence = error.splitlines()[-1]
    assert sentence.startswith("clipsam: ")
    for word in words:
        assert word in sentence
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: Image.new("L", (7, 5)).save(f / "masks/1.png"), ["1.png", "7 × 5", "256 × 256"]),
        (
            lambda f: Image.fromarray(np.full((256, 256), 99, np.uint8)).save(f / "masks/1.png"),
            ["1.png", "99"],
        ),
        (lambda f: (f / "images/1.png").write_text("no picture"), ["1.png"]),
        (lambda f: (f / "classes.json").unlink(), ["classes.json"]),
        (lambda f: (f / "masks/1.png").unlink(), ["masks/1.png"]),
    ],
    ids=["size", "class-id", "unreadable", "no-classes", "no-mask"],
)
def test_bad_data_stops_before_training(tmp_path, capsys, spoil, words):
    folder = labelled_folder(tmp_path / "data")
    spoil(folder)
    out = tmp_path / "bundle"
    args = command("sam-decoder", out, "--split", "5", data=f"folder:{folder}")
    assert main([*args, "--set", "validation_images=0"]) == 2
    refused(capsys, *words)
    assert not (out / "model.safetensors").exists()
    assert not list(out.rglob("*.jsonl"))


def test_bad_images_can_be_left_out(tmp_path, caplog):
    folder = labelled_folder(tmp_path / "data")
    (folder / "images/1.png").write_text("no picture")
    args = command("sam-decoder", tmp_path / "b", "--split", "5", data=f"folder:{folder}")
    more = ["--set", "validation_images=0", "--set", "epochs=0.3", "--skip-bad"]
    with caplog.at_level("WARNING"):
        assert main([*args, *more]) == 0
    left_out = [r.getMessage() for r in caplog.records if "left out" in r.getMessage()]
    assert len(left_out) == 1 and "1.png" in left_out[0]
    assert load_bundle(tmp_path / "b")[0]["training"]["images"] == 4


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--split", "0"], ["empty"]),
        (["--split", "1/x"], ["1/x"]),
        (["--split", "99"], ["99", "4"]),
        (["--mode", "telepathic"], ["telepathic", "manual"]),
        (["--set", "depth=3"], ["depth"]),
        (["--preset", "base"], ["base", "not on this machine"]),
        (["--data", "floppy:a"], ["floppy", "folder"]),
        (["--start", "nowhere"], ["nowhere"]),
        (["--set", "batch_size=3", "--set", "accumulate=2"], ["3", "2"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_option_gets_one_sentence(tmp_path, capsys, args, words):
    assert main(command("sam-decoder", tmp_path / "bundle", *args)) == 2
    refused(capsys, *words)


def test_a_method_without_weights_of_its_own_cannot_be_trained(tmp_path, capsys):
    assert main(command("sam", tmp_path / "bundle")) == 2
    refused(capsys, "SAM has no trainable weights", "sam-decoder")


def test_a_finished_bundle_is_not_overwritten(tmp_path, capsys):
    args = command("sam-decoder", tmp_path / "bundle", "--set", "epochs=0.3")
    assert main(args) == 0
    weights = (tmp_path / "bundle" / "model.safetensors").read_bytes()
    assert main(args) == 2
    refused(capsys, "finished bundle")
    assert main([*args, "--set", "num_points=3", "--resume"]) == 2
    refused(capsys, "finished bundle")
    assert main([*args, "--resume"]) == 0, "the run that made it has nothing left to do"
    assert (tmp_path / "bundle" / "model.safetensors").read_bytes() == weights


def test_without_a_folder_it_goes_where_the_method_looks_for_it(tmp_path, capsys, monkeypatch):
    for part in (ROOT / "checkpoints" / "tiny").iterdir():
        if part.name not in TUNED:
            (tmp_path / "tiny").mkdir(exist_ok=True)
            (tmp_path / "tiny" / part.name).symlink_to(part)
    monkeypatch.setattr(checkpoints, "checkpoint_folders", lambda: (tmp_path,))
    args = command("sam-decoder", tmp_path, "--set", "epochs=0.3")
    place = args.index("--out")
    del args[place : place + 2]
    assert main(args) == 0
    assert load_bundle(tmp_path / "tiny" / "sam-decoder")[0]["training"]["images"] == 3
    find_method("sam-decoder").load(load_backbones(TINY))
    assert main(args) == 2
    refused(capsys, "finished bundle")
