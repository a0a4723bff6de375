"""How a method is trained: a field for every value and ablation of the papers."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..data.augment import Augmentation
from ..methods.base import NetworkConfig
from ..prompting import PointSampling
from ..types import PromptError
from .loop import LoopConfig


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What every method's training has; what differs between papers has no default here.

    Attributes:
        lr: of what is new.
        weight_decay: see the stage of the method.
        epochs: passes over all samples.
        steps: optimiser steps, instead of epochs.
        batch_size: images per step, over all processes.
        classes_per_image: classes of each of them; ``None`` asks for all.
        accumulate, warmup, schedule, clip_norm, precision: see :class:`LoopConfig`.
        augmentation: see :func:`clipsam.data.augment.augment`.
        validation_images: held out to choose the checkpoint; 0 keeps the last one.
        validations: how often they are looked at in a run.
        save_seconds: time between checkpoints.
        seed: of weights, order, augmentation and points.
    """

    lr: float
    weight_decay: float
    batch_size: int
    classes_per_image: int | None
    augmentation: Augmentation
    epochs: float = 40
    steps: int | None = None
    accumulate: int = 1
    warmup: int = 0
    schedule: Literal["constant", "cosine"] = "constant"
    clip_norm: float | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    validation_images: int = 24
    validations: int = 5
    save_seconds: float = 60.0
    seed: int = 42

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


@dataclass(frozen=True, kw_only=True)
class TunedSamRecipe(Recipe):
    """Of a tuned SAM.

    Learning rates, decay, epochs, batch size, losses, augmentation and the number of points are by
    default those of CLIP-Guided SAM's reference run (arXiv 2605.24807). How points are sampled and
    the strength of the dense prompt are not; ``sampling="reference"`` and ``dense_logit=255`` are.

    What is injected, adapted and tuned belongs to the network, see :class:`TunedSamConfig`.

    Attributes:
        lr, weight_decay: of adapters, decoder and prompt encoder.
        clip_lr: of CLIP's vision attention, which has no decay.
        augmentation: the papers use none on camouflage.
        checkpoint_activations: recompute the adapted blocks in the backward pass, for memory.
        bce, dice, iou, structure: weights of the loss terms.
        num_points, sampling, point_threshold, dense_logit: how prompts are made from CLIP's map,
            see :class:`~clipsam.prompting.PromptSettings`; the bundle predicts with the same. A
            threshold of ``None`` is the calibrated one.
        fewest_clicks: a manual sample has this many to K clicks.
        target_scale: side of the loss's grid, relative to SAM's low-resolution masks.
    """

    lr: float = 5e-5
    clip_lr: float = 1e-7
    weight_decay: float = 1e-3
    batch_size: int = 2
    classes_per_image: int = 1
    augmentation: Augmentation = "paper"
    checkpoint_activations: bool = False
    bce: float = 1.0
    dice: float = 1.0
    iou: float = 1.0
    structure: float = 0.0
    num_points: int = 5
    sampling: PointSampling = "spread"
    point_threshold: float | None = None
    dense_logit: float = 8.0
    fewest_clicks: int = 5
    target_scale: int = 1

    @property
    def loss_weights(self) -> tuple[float, ...]:
        """As :func:`clipsam.training.losses.combined_loss` takes them."""
        return self.bce, self.dice, self.iou, self.structure


@dataclass(frozen=True, kw_only=True)
class EscNetRecipe(Recipe):
    """Of ESC-Net; defaults are the paper's, and CAT-Seg's where it names none.

    Attributes:
        lr: of what is neither CLIP nor SAM.
        pretrained_lr: of CLIP's attention and SAM's layers.
        weight_decay: of all but norms.
        loss: ``bce``, each class for itself, or ``ce`` among the classes asked: ESC-Net's summary
            says cross-entropy, but it names no loss, and CAT-Seg's is the former.
        dice: weight of Dice on the classes present, beside it.
        text_noise: largest length of the random vector that is added to a class's text feature,
            whose own length is 1; not in the papers. A network that learns from few names, each
            with its own level of similarity, else takes a word that it never saw for absent.
    """

    lr: float = 2e-4
    pretrained_lr: float = 2e-6
    weight_decay: float = 1e-4
    batch_size: int = 4
    classes_per_image: int | None = None
    augmentation: Augmentation = "crop"
    steps: int | None = 80_000
    schedule: Literal["constant", "cosine"] = "cosine"
    clip_norm: float | None = 0.01
    loss: Literal["bce", "ce"] = "bce"
    dice: float = 0.0
    text_noise: float = 0.0


TINY_RECIPE = TunedSamRecipe(
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

TINY_ESC_NET_RECIPE = EscNetRecipe(
    lr=7e-4,
    pretrained_lr=1e-4,
    epochs=10,
    steps=None,
    classes_per_image=8,
    warmup=30,
    clip_norm=1.0,
    precision="auto",
    augmentation="mirror",
    dice=1.0,
)
"""For the tiny preset: hundreds of steps instead of 80,000, hence longer ones.

BCE alone spends the first hundreds of them with every pixel "none of the classes"; Dice does not.
"""


def apply_settings(
    recipe: Recipe, network: NetworkConfig, settings: Sequence[str]
) -> tuple[Recipe, NetworkConfig]:
    """Change fields of a recipe, a network or its adapters, as ``NAME=VALUE`` each.

    Raises:
        PromptError: no such field, or a value that it cannot have.
    """
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise PromptError(f"--set {setting}: write NAME=VALUE.")
        adapters = getattr(network, "adapters", None)
        try:
            if name in _fields(recipe):
                recipe = _changed(recipe, name, value)
            elif name in _fields(network):
                network = _changed(network, name, value)
            elif name in _fields(adapters):
                adapters = _changed(adapters, name, value)
                network = dataclasses.replace(network, **{"adapters": adapters})
            else:
                known = _fields(recipe) | _fields(network) | _fields(adapters)
                raise PromptError(f"There is no setting “{name}”: choose from {sorted(known)}.")
        except ValueError as error:
            if isinstance(error, PromptError):
                raise
            raise PromptError(f"--set {setting}: {error}.") from None
    return recipe, network


def _fields(settings: Any) -> set[str]:
    """Names that can be set; those of nested settings count for themselves."""
    if settings is None:
        return set()
    return {field.name for field in dataclasses.fields(settings)} - {"adapters"}


def _changed(settings: Any, name: str, text: str) -> Any:
    hint = typing.get_type_hints(type(settings))[name]
    return dataclasses.replace(settings, **{name: _parse(name, hint, text)})


def _parse(name: str, hint: object, text: str) -> object:
    """Parse a field's value: number, true/false, none, one of its words, or several."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    for option in typing.get_args(hint) if union else (hint,):
        if option is type(None):
            if text.lower() == "none":
                return None
        elif option is bool:
            if text.lower() in ("true", "false"):
                return text.lower() == "true"
        elif typing.get_origin(option) is Literal:
            if text in typing.get_args(option):
                return text
        elif typing.get_origin(option) is tuple:
            parts = [part.strip() for part in text.split(",") if part.strip()]
            return tuple(_parse(name, typing.get_args(option)[0], part) for part in parts)
        else:
            try:
                return option(text)
            except ValueError:
                continue
    expected = getattr(hint, "__name__", None) or str(hint).replace("typing.", "")
    raise PromptError(f"--set {name}={text}: {name} must be {expected}.")
