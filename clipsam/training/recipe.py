"""How a method is trained: the papers' values, and a field for every ablation."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass

from ..data.augment import Augmentation
from ..models.image_encoder import AdapterConfig
from ..models.tuned_sam import TunedSamConfig
from ..types import PromptError
from ..weights.presets import TINY, Preset
from .loop import LoopConfig


@dataclass(frozen=True)
class Recipe:
    """Training of a method; defaults are CLIP-Guided SAM's reference run (arXiv 2605.24807).

    What is injected, adapted and tuned belongs to the network, see :class:`TunedSamConfig`.

    Attributes:
        lr: of adapters, decoder and prompt encoder.
        clip_lr: of CLIP's vision attention.
        weight_decay: of all but CLIP.
        epochs: passes over all (image, class) pairs.
        steps: optimiser steps, instead of epochs.
        batch_size: images per step, over all processes.
        classes_per_image: classes of each of them.
        accumulate, warmup, schedule, clip_norm, precision: see :class:`LoopConfig`.
        checkpoint_activations: recompute the adapted blocks in the backward pass, for memory.
        bce, dice, iou, structure: weights of the loss terms.
        num_points: K, points from CLIP's map.
        fewest_clicks: a manual sample has this many to K clicks.
        dense_logit: strength of the dense prompt, see ``prompting.dense_prompt``.
        augmentation: see :func:`clipsam.data.augment.augment`; the papers use none on camouflage.
        target_scale: side of the loss's grid, relative to SAM's low-resolution masks.
        validation_images: held out to choose the checkpoint; 0 keeps the last one.
        validations: how often they are looked at in a run.
        save_seconds: time between checkpoints.
        seed: of weights, order, augmentation and points.
    """

    lr: float = 5e-5
    clip_lr: float = 1e-7
    weight_decay: float = 1e-3
    epochs: float = 40
    steps: int | None = None
    batch_size: int = 2
    classes_per_image: int = 1
    accumulate: int = 1
    warmup: int = 0
    schedule: typing.Literal["constant", "cosine"] = "constant"
    clip_norm: float | None = None
    precision: typing.Literal["auto", "float32", "bfloat16"] = "float32"
    checkpoint_activations: bool = False
    bce: float = 1.0
    dice: float = 1.0
    iou: float = 1.0
    structure: float = 0.0
    num_points: int = 5
    fewest_clicks: int = 5
    dense_logit: float = 8.0
    augmentation: Augmentation = "paper"
    target_scale: int = 1
    validation_images: int = 24
    validations: int = 5
    save_seconds: float = 60.0
    seed: int = 42

    @property
    def loss_weights(self) -> tuple[float, ...]:
        """As :func:`clipsam.training.losses.combined_loss` takes them."""
        return self.bce, self.dice, self.iou, self.structure

    def loop(self, samples_per_epoch: int, workers: int = 1) -> LoopConfig:
        """How the loop runs it."""
        passes = round(self.epochs * samples_per_epoch / self.batch_size)
        steps = max(1, passes if self.steps is None else self.steps)
        return LoopConfig(
            steps,
            self.batch_size,
            self.accumulate,
            min(self.warmup, steps // 10),
            self.schedule,
            self.clip_norm,
            self.precision,
            validate_steps=max(1, -(-steps // max(1, self.validations))),
            save_seconds=self.save_seconds,
            workers=workers,
        )


TINY_RECIPE = Recipe(
    lr=2e-4,
    clip_lr=1e-5,
    epochs=10,
    batch_size=8,
    classes_per_image=2,
    warmup=30,
    schedule="cosine",
    clip_norm=1.0,
    precision="auto",
    fewest_clicks=1,
    augmentation="mirror",
    target_scale=2,
)
"""For the tiny preset, whose weights have seen a thousandth of what the real ones have."""


def recipe_for(preset: Preset) -> Recipe:
    """The recipe that a preset starts from."""
    return TINY_RECIPE if preset is TINY else Recipe()


def apply_settings(
    recipe: Recipe, network: TunedSamConfig, settings: Sequence[str]
) -> tuple[Recipe, TunedSamConfig]:
    """Change fields of a recipe, a network or its adapters, as ``NAME=VALUE`` each.

    Raises:
        PromptError: no such field, or a value that it cannot have.
    """
    adapters = network.adapters
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise PromptError(f"--set {setting}: write NAME=VALUE.")
        if name in _fields(Recipe):
            recipe = dataclasses.replace(recipe, **{name: _parse(Recipe, name, value)})
        elif name in _fields(TunedSamConfig) - {"adapters"}:
            parsed = _parse(TunedSamConfig, name, value)
            try:
                network = dataclasses.replace(network, **{name: parsed})
            except ValueError as error:
                raise PromptError(f"--set {setting}: {error}.") from None
        elif name in _fields(AdapterConfig) and adapters is not None:
            adapters = dataclasses.replace(adapters, **{name: _parse(AdapterConfig, name, value)})
            network = dataclasses.replace(network, adapters=adapters)
        else:
            known = _fields(Recipe) | _fields(TunedSamConfig) - {"adapters"}
            if adapters is not None:
                known |= _fields(AdapterConfig)
            raise PromptError(f"There is no setting “{name}”: choose from {sorted(known)}.")
    return recipe, network


def _fields(cls: type) -> set[str]:
    return {field.name for field in dataclasses.fields(cls)}


def _parse(cls: type, name: str, text: str) -> object:
    """A field's value from text: number, true/false, none, or one of its words."""
    hint = typing.get_type_hints(cls)[name]
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    for option in typing.get_args(hint) if union else (hint,):
        if option is type(None):
            if text.lower() == "none":
                return None
        elif option is bool:
            if text.lower() in ("true", "false"):
                return text.lower() == "true"
        elif typing.get_origin(option) is typing.Literal:
            if text in typing.get_args(option):
                return text
        else:
            try:
                return option(text)
            except ValueError:
                continue
    expected = getattr(hint, "__name__", None) or str(hint).replace("typing.", "")
    raise PromptError(f"--set {name}={text}: {name} must be {expected}.")
