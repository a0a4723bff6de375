"""How each kind of network is trained: the one place that a new kind of training is added to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ..data.samples import SegmentationData
from ..evaluation.runner import MethodRun
from ..methods.base import TrainablePredictor
from ..models.esc_net import EscNetConfig
from ..models.tuned_sam_model import TunedSamConfig
from ..weights.presets import Preset
from .esc_net_stage import EscNetStage
from .loop import Stage
from .recipe import TINY_ESC_NET_RECIPE, TINY_RECIPE, EscNetRecipe, Recipe, TunedSamRecipe
from .tuned_sam_stage import TunedSamStage


class MethodStage(Stage, Protocol):
    """What the training of a method has beyond a :class:`Stage`."""

    runs: tuple[MethodRun, ...]
    """In which modes it is validated."""

    def samples(self, pairs: tuple[tuple[int, int], ...]) -> Any:
        """Training samples of (image index, class value) pairs; ``epoch`` of them show all."""
        ...

    def finish(self, trained_on: SegmentationData) -> None:
        """After training: bring up to date what depends on the weights."""
        ...


@dataclass(frozen=True)
class StageKind:
    """Training of one kind of network.

    Attributes:
        stage: makes the stage from predictor, data, recipe and the only mode to train for.
        recipe: the paper's, for published networks.
        bundled_recipe: for the bundled preset.
    """

    stage: Callable[[Any, SegmentationData, Any, str | None], MethodStage]
    recipe: Recipe
    bundled_recipe: Recipe


STAGES: Mapping[type, StageKind] = {
    TunedSamConfig: StageKind(TunedSamStage, TunedSamRecipe(), TINY_RECIPE),
    EscNetConfig: StageKind(EscNetStage, EscNetRecipe(), TINY_ESC_NET_RECIPE),
}
"""By the type of a method's network configuration."""


def recipe_for(method: type[TrainablePredictor], preset: Preset) -> Recipe:
    """Choose the recipe that a method's training starts from with a preset."""
    kind = STAGES[method.config_type]
    return kind.bundled_recipe if preset.bundled else kind.recipe
