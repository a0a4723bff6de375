"""Recipes: the papers' values, and settings as people type them."""

from __future__ import annotations

import dataclasses

import pytest

from clipsam.errors import PromptError
from clipsam.methods.clip_guided_sam import ClipGuidedSamPredictor
from clipsam.methods.esc_net import EscNetPredictor
from clipsam.models.tuned_sam_model import TunedSamConfig
from clipsam.prompting import REFERENCE_PROMPTS
from clipsam.training.recipe import EscNetRecipe, TunedSamRecipe, apply_settings
from clipsam.training.stages import recipe_for
from clipsam.weights.presets import PRESETS, TINY

GUIDED = ClipGuidedSamPredictor.design(PRESETS["base"])


def test_defaults_are_the_reference_run():
    recipe = recipe_for(ClipGuidedSamPredictor, PRESETS["base"])
    assert (recipe.lr, recipe.clip_lr, recipe.weight_decay) == (5e-5, 1e-7, 1e-3)
    assert (recipe.epochs, recipe.batch_size, recipe.seed) == (40, 2, 42)
    assert (recipe.schedule, recipe.precision, recipe.num_points) == ("constant", "float32", 5)
    assert recipe.bce == recipe.dice == recipe.iou == 1
    assert recipe.loop(samples_per_epoch=500).steps == 40 * 500 / 2
    assert recipe_for(ClipGuidedSamPredictor, TINY) != recipe


def test_how_maps_prompt_is_not_the_reference_run():
    """Five points above the calibrated threshold, but spread, and ±8 where theirs is 255."""
    recipe = TunedSamRecipe()
    assert (recipe.num_points, recipe.sampling, recipe.dense_logit) == (5, "spread", 8.0)
    stated, _ = apply_settings(
        recipe,
        GUIDED,
        ["sampling=reference", "point_threshold=0.8", "dense_logit=255"],
    )
    names = [field.name for field in dataclasses.fields(REFERENCE_PROMPTS)]
    theirs = [getattr(REFERENCE_PROMPTS, name) for name in names]
    assert theirs == [5, "reference", 0.8, 255.0]
    assert [getattr(stated, name) for name in names] == theirs


def test_esc_nets_defaults_are_the_papers():
    recipe = recipe_for(EscNetPredictor, PRESETS["base"])
    assert (recipe.lr, recipe.pretrained_lr, recipe.weight_decay) == (2e-4, 2e-6, 1e-4)
    assert (recipe.batch_size, recipe.clip_norm, recipe.schedule) == (4, 0.01, "cosine")
    assert recipe.loop(samples_per_epoch=118_000).steps == 80_000
    assert recipe.classes_per_image is None
    assert recipe_for(EscNetPredictor, TINY) != recipe


def test_settings_reach_esc_net():
    network = EscNetPredictor.design(PRESETS["base"])
    settings = ["prompts=box, mask", "use_sam=false", "blocks=0", "loss=ce", "pretrained_lr=0"]
    settings += ["classes_per_image=none", "num_points=3", "fuse=mean", "alpha=2"]
    recipe, changed = apply_settings(EscNetRecipe(), network, settings)
    assert (recipe.loss, recipe.pretrained_lr, recipe.classes_per_image) == ("ce", 0, None)
    assert changed == dataclasses.replace(
        network,
        prompts=("box", "mask"),
        use_sam=False,
        blocks=0,
        num_points=3,
        fuse="mean",
        alpha=2.0,
    )
    assert apply_settings(EscNetRecipe(), network, ["prompts="])[1].prompts == ()
    for setting, words in (("prompts=circle", "prompts must be"), ("blocks=-1", "at least 0")):
        with pytest.raises(PromptError, match=words):
            apply_settings(EscNetRecipe(), network, [setting])


def test_settings_reach_the_recipe_the_network_and_its_adapters():
    settings = ["lr=1e-3", "iou=0", "clip_norm=none", "clip_blocks=4", "clip=plain"]
    settings += ["similarity=false", "block=reference", "last_blocks=none", "epochs=2.5"]
    recipe, network = apply_settings(TunedSamRecipe(), GUIDED, settings)
    assert (recipe.lr, recipe.iou, recipe.clip_norm, recipe.epochs) == (1e-3, 0, None, 2.5)
    assert (network.clip_blocks, network.clip) == (4, "plain")
    assert not network.adapters.similarity and network.adapters.vision
    assert (network.adapters.block, network.adapters.last_blocks) == ("reference", None)
    assert apply_settings(TunedSamRecipe(), GUIDED, []) == (TunedSamRecipe(), GUIDED)


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
        apply_settings(TunedSamRecipe(), GUIDED, [setting])
    assert "\n" not in str(error.value)


def test_adapters_cannot_be_set_where_there_are_none():
    with pytest.raises(PromptError, match="no setting “vision”"):
        apply_settings(TunedSamRecipe(), TunedSamConfig(), ["vision=true"])
