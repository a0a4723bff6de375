"""Adapting to a few pictures: what is learnt is kept, and nothing shared is touched."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from clipsam.data.labelled import from_masks
from clipsam.data.samples import LabelledImage
from clipsam.data.synthetic import SceneData
from clipsam.encoded_image import EncodedImage
from clipsam.evaluation.metrics import count, iou
from clipsam.methods.base import TrainablePredictor
from clipsam.predictor import PredictOptions
from clipsam.registry import find_method
from clipsam.training.adapt import adapt, adapt_recipe, held_out, trained_parts
from clipsam.types import Concept, Prompt, prompt_from_classes
from clipsam.weights.bundle import load_bundle
from clipsam.weights.presets import PRESETS, TINY

STEPS = 20


def scenes(count: int, *names: str) -> list[LabelledImage]:
    """Scenes in which every shape is called as the one name, or by turns."""
    data = SceneData(count, seed=4, pairs="unseen")
    return [
        from_masks(f"{i}", data[i].image, {names[i % len(names)]: data[i].classes >= 0})
        for i in range(count)
    ]


@pytest.mark.parametrize(
    ("count", "out"), [(4, 1), (7, 1), (8, 2), (15, 3), (16, 4), (20, 4), (32, 4)]
)
def test_the_last_quarter_is_held_out(count: int, out: int) -> None:
    assert held_out(count) == out


def test_twenty_steps_teach_and_the_bundle_is_what_was_measured(tiny, tmp_path: Path) -> None:
    method = find_method("clip-guided-sam")
    pictures = scenes(8, "sticker")
    losses: list[float] = []

    def watch(step: int, figures: dict[str, float]) -> bool:
        losses.append(figures["loss"])
        assert step == len(losses)
        return step == STEPS

    adapted = adapt(method, tiny, pictures, 600, tmp_path / "bundle", watch)
    assert len(losses) == STEPS
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert adapted.mean_after > adapted.mean_before
    assert [row.picture for row in adapted.rows] == ["6", "7"]
    loaded = method.load(tiny, tmp_path / "bundle")
    for picture, row, after in zip(adapted.pictures, adapted.rows, adapted.after, strict=True):
        asked = (
            EncodedImage(picture.image),
            prompt_from_classes([["sticker"]]),
            PredictOptions(mode=adapted.mode),
        )
        again = loaded.predict(*asked)
        assert np.array_equal(again.logits(), after.logits())
        assert row.after == iou(count(again.class_mask(0), picture.classes == 0))
    config, _ = load_bundle(tmp_path / "bundle")
    training = config["training"]
    assert (training["steps"], training["images"], training["held_out_images"]) == (STEPS, 6, 2)
    assert training["recipe"]["steps"] == STEPS
    files = {path.name for path in (tmp_path / "bundle").iterdir()}
    assert files == {"README.md", "config.json", "curve.png", "log.jsonl", "model.safetensors"}
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert "8 pictures labelled on the workbench's page" in card
    assert "flatters" not in card  # Nothing was chosen with the held-out pictures.
    log = (tmp_path / "bundle" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in log] == pytest.approx(losses, abs=1e-6)


def test_held_out_pictures_are_not_trained_on(tiny, tmp_path: Path) -> None:
    """Whatever their labels are, the weights are the same."""
    method, pictures = find_method("sam-decoder"), scenes(4, "sticker")
    upside_down = from_masks("3", pictures[3].image, {"sticker": pictures[3].classes != 0})
    states = []
    for name, last in (("one", pictures[3]), ("other", upside_down)):
        adapt(method, tiny, [*pictures[:3], last], 600, tmp_path / name, lambda step, _: step == 2)
        states.append(load_bundle(tmp_path / name)[1])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("id", ["clip-guided-sam", "sam-lora", "esc-net"])
def test_nothing_shared_is_touched(tiny, tmp_path: Path, id: str) -> None:
    """Not before, not after, and not in the midst of the training."""
    method = find_method(id)
    shared = method.load(tiny)
    scene = SceneData(1, seed=9)[0]
    prompt = Prompt((Concept((scene.names[0],), points=[[100, 90]], labels=[1]),))
    parts = (shared.network(), tiny.sam, tiny.clip)
    weights = [p.clone() for part in parts for p in part.parameters()]
    in_training = [module.training for part in parts for module in part.modules()]

    def answer() -> np.ndarray:
        return shared.predict(EncodedImage(scene.image), prompt).logits()

    before, amid = answer(), []

    def watch(step: int, _: object) -> bool:
        amid.append(answer())
        return step == 2

    adapted = adapt(method, tiny, scenes(4, "sticker"), 600, tmp_path / "bundle", watch)
    assert all(np.array_equal(before, logits) for logits in (*amid, answer()))
    after = [p for part in parts for p in part.parameters()]
    assert all(torch.equal(one, other) for one, other in zip(weights, after, strict=True))
    assert in_training == [module.training for part in parts for module in part.modules()]
    trained = method.load(tiny, adapted.folder)
    other = trained.predict(EncodedImage(scene.image), prompt).logits()
    assert not np.array_equal(before, other)


def test_the_clock_ends_it(tiny, tmp_path: Path) -> None:
    method, steps = find_method("sam-decoder"), []
    adapt(
        method, tiny, scenes(4, "a", "b"), 1e-3, tmp_path / "bundle", lambda s, _: steps.append(s)
    )
    assert steps == [1]


def test_a_class_in_every_picture_leaves_its_presence_open(tiny, tmp_path: Path) -> None:
    """Without a picture that lacks it, nobody can tell what its absence looks like."""
    method = find_method("clip-guided-sam")
    for name, classes in (("one", ["sticker"]), ("two", ["sticker", "patch"])):
        made = adapt(
            method, tiny, scenes(4, *classes), 600, tmp_path / name, lambda step, _: step == 1
        )
        midpoint = method.load(tiny, made.folder).calibration.presence_midpoint
        assert (midpoint is None) == (name == "one")


def test_the_recipe_fits_the_pictures() -> None:
    method = find_method("clip-guided-sam")
    assert adapt_recipe(method, TINY, scenes(2, "a")).classes_per_image == 1
    both = from_masks("x", np.zeros((4, 4, 3), np.uint8), {"a": np.eye(4) > 0, "b": np.eye(4) == 0})
    assert adapt_recipe(method, TINY, [both]).classes_per_image == 2
    base = adapt_recipe(method, PRESETS["base"], [both])
    assert (base.lr, base.batch_size, base.augmentation) == (5e-5, 2, "paper")


def test_what_is_trained_is_what_a_bundle_holds(tiny) -> None:
    for id in ("clip-guided-sam", "sam-lora", "esc-net"):
        method: type[TrainablePredictor] = find_method(id)
        state = method.untrained(tiny).model.trainable_state()
        assert sum(trained_parts(method, TINY).values()) == sum(p.numel() for p in state.values())
