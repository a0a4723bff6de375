"""Recipes: the papers' values, and settings as people type them."""

from __future__ import annotations

import pytest

from clipsam.methods.clip_guided_sam import ClipGuidedSamPredictor
from clipsam.models.tuned_sam import TunedSamConfig
from clipsam.training.recipe import Recipe, apply_settings, recipe_for
from clipsam.types import PromptError
from clipsam.weights.presets import PRESETS, TINY

GUIDED = ClipGuidedSamPredictor.design(PRESETS["base"])


def test_defaults_are_the_reference_run():
    recipe = recipe_for(PRESETS["base"])
    assert (recipe.lr, recipe.clip_lr, recipe.weight_decay) == (5e-5, 1e-7, 1e-3)
    assert (recipe.epochs, recipe.batch_size, recipe.seed) == (40, 2, 42)
    assert (recipe.schedule, recipe.precision, recipe.num_points) == ("constant", "float32", 5)
    assert recipe.bce == recipe.dice == recipe.iou == 1
    assert recipe.loop(samples_per_epoch=500).steps == 40 * 500 / 2
    assert recipe_for(TINY) != recipe


def test_settings_reach_the_recipe_the_network_and_its_adapters():
    settings = ["lr=1e-3", "iou=0", "clip_norm=none", "clip_blocks=4", "clip=plain"]
    settings += ["similarity=false", "block=reference", "last_blocks=none", "epochs=2.5"]
    recipe, network = apply_settings(Recipe(), GUIDED, settings)
    assert (recipe.lr, recipe.iou, recipe.clip_norm, recipe.epochs) == (1e-3, 0, None, 2.5)
    assert (network.clip_blocks, network.clip) == (4, "plain")
    assert not network.adapters.similarity and network.adapters.vision
    assert (network.adapters.block, network.adapters.last_blocks) == ("reference", None)
    assert apply_settings(Recipe(), GUIDED, []) == (Recipe(), GUIDED)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("lr", "NAME=VALUE"),
        ("learning_rate=1", "no setting “learning_rate”"),
        ("epochs=many", "epochs must be float"),
        ("vision=maybe", "vision must be bool"),
        ("schedule=zigzag", "schedule must be"),
        ("clip=none", "come from CLIP"),
    ],
)
def test_a_setting_that_cannot_be_gets_one_sentence(setting, words):
    with pytest.raises(PromptError, match=words) as error:
        apply_settings(Recipe(), GUIDED, [setting])
    assert "\n" not in str(error.value)


def test_adapters_cannot_be_set_where_there_are_none():
    with pytest.raises(PromptError, match="no setting “vision”"):
        apply_settings(Recipe(), TunedSamConfig(), ["vision=true"])
