"""``train``: training of a method on a labelled data set."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import math
from pathlib import Path

import torch

from ..data.readers import open_data
from ..data.splits import choose_split
from ..errors import PromptError
from ..methods.base import find_trainable
from ..training.loop import start_accelerator
from ..training.recipe import apply_settings
from ..training.stages import recipe_for
from ..training.train_method import TrainingJob, train_method
from ..weights.availability import method_status
from ..weights.backbones import load_backbones
from ..weights.checkpoints import find_checkpoint
from ..weights.presets import find_preset

logger = logging.getLogger(__name__)


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("method", help="id of the method, see `methods`")
    parser.add_argument("--preset", default="tiny", help="SAM and CLIP weights")
    parser.add_argument(
        "--data", required=True, metavar="KIND:PATH", help="data set, for example folder:my-images"
    )
    parser.add_argument("--part", default="train", help="part of the data set")
    parser.add_argument(
        "--split", default="full", help="full, 1/512, a number of images, or a file that lists them"
    )
    parser.add_argument(
        "--mode", help="manual or semi-automatic; by default, all modes of the method"
    )
    parser.add_argument(
        "--start",
        default="auto",
        help="bundle (the project's), plain (unmodified SAM and CLIP), or a bundle's folder; by "
        "default, the project's bundle if there is one",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a field of the recipe or the network, for example epochs=5 or similarity=false",
    )
    parser.add_argument("--seed", type=int, help="random seed of split, weights, order and points")
    parser.add_argument("--skip-bad", action="store_true", help="leave out damaged images")
    parser.add_argument("--resume", action="store_true", help="resume an unfinished run")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="folder of the bundle to write; default: where the page and the other commands look "
        "for the bundle of the method and preset",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Train and log the result."""
    method, preset = find_trainable(args.method), find_preset(args.preset)
    data = open_data(args.data, args.part)
    recipe = recipe_for(method, preset)
    if args.seed is not None:
        recipe = dataclasses.replace(recipe, seed=args.seed)
    split = choose_split(data, args.split, recipe.seed, args.data.partition(":")[0])
    backbones = load_backbones(preset, start_accelerator().device)
    start = args.start
    if start == "auto":
        start = "bundle" if method_status(method.info, preset) == "ready" else "plain"
    torch.manual_seed(recipe.seed)
    if start == "plain":
        recipe, network = apply_settings(recipe, method.design(preset), args.set)
        predictor = method.untrained(backbones, network)
    else:
        predictor = method.load(backbones, None if start == "bundle" else Path(start))
        recipe, network = apply_settings(recipe, predictor.config, args.set)
        if network != predictor.config:
            raise PromptError(
                "--set changes the network, but training starts from a bundle with a fixed "
                "network. Add --start plain."
            )
    job = TrainingJob(args.data, data, split, recipe, start, args.mode, args.skip_bad)
    out = args.out or find_checkpoint(preset.name, method.info.id)
    scores = train_method(predictor, job, out, args.resume)
    logger.info("Wrote %s.", out)
    if not math.isnan(scores["before"]):
        logger.info("Validation mIoU: %.4f → %.4f.", scores["before"], scores["after"])
