"""``evaluate``: evaluation of methods on a data set, with tables and a report."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Literal

from ..data.readers.registry import shows_single_objects
from ..errors import PromptError
from ..evaluate_methods import open_study
from ..evaluation.study import Settings, Shard
from ..method_args import (
    METHOD_ARG,
    METHOD_ARG_HELP,
    PRECISION_HELP,
    PRECISIONS,
    declare_prompt_settings,
    declare_tiling,
    prompt_settings_of,
    tiling_of,
)


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--data",
        required=True,
        metavar="KIND:PATH",
        help="data set, for example folder:photographs",
    )
    parser.add_argument("--part", default="val", help="part of the data set")
    parser.add_argument(
        "--method", action="append", required=True, metavar=METHOD_ARG, help=METHOD_ARG_HELP
    )
    parser.add_argument("--preset", default="tiny", help="SAM and CLIP weights")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help=PRECISION_HELP)
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile SAM's encoder: faster for many images on a GPU, after a slow first image",
    )
    parser.add_argument(
        "--seeds", type=int, default=1, help="number of random seeds for the points"
    )
    parser.add_argument(
        "--clicks",
        type=int,
        default=5,
        help="points per class in manual modes, inside the ground truth",
    )
    parser.add_argument("--limit", type=int, help="number of images, drawn at random")
    parser.add_argument(
        "--absent", metavar="all|N", help="also query classes that are absent from an image"
    )
    parser.add_argument(
        "--single-object",
        action="store_true",
        help="also compute S-measure, E-measure and weighted F: each image shows one object",
    )
    declare_prompt_settings(parser)
    declare_tiling(parser)
    parser.add_argument(
        "--shard", default="0/1", metavar="I/N", help="process I of N, counted from 0"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="output folder; an unfinished evaluation resumes"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Evaluate one shard."""
    for option in ("seeds", "clicks", "limit"):
        value = getattr(args, option)
        if value is not None and value < 1:
            raise PromptError(f"--{option} {value}: expected at least 1.")
    shard = parse_shard(args.shard)
    settings = Settings(
        data=args.data,
        part=args.part,
        methods=tuple(args.method),
        preset=args.preset,
        precision=args.precision,
        compiled=args.compile,
        clicks=args.clicks,
        seeds=args.seeds,
        limit=args.limit,
        absent=_absent(args.absent),
        single_object=args.single_object or shows_single_objects(args.data),
        tiling=tiling_of(args),
        **prompt_settings_of(args),
    )
    open_study(settings, args.out).run(shard)


def parse_shard(text: str) -> Shard:
    """Parse ``I/N``.

    Raises:
        PromptError: another form, or no such process.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None:
        raise PromptError(f"--shard {text}: expected I/N, for example 0/2.")
    index, count = map(int, match.groups())
    if index >= count:
        raise PromptError(f"--shard {text}: expected I from 0 to N − 1.")
    return Shard(index, count)


def _absent(text: str | None) -> int | Literal["all"] | None:
    if text is None:
        return None
    if text == "all":
        return "all"
    if not text.isdecimal() or int(text) < 1:
        raise PromptError(f"--absent {text}: expected all, or a number of classes of at least 1.")
    return int(text)
