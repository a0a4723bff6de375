"""``train-tiny``: training of the bundled models from scratch."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..training.tiny import TinyRecipe, TinyTraining


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--photographs", type=Path, help="folder with camvid/, ccp/ and coco100/")
    parser.add_argument("--out", type=Path, default=Path("checkpoints/tiny"))
    parser.add_argument(
        "--work", type=Path, default=Path("runs/tiny"), help="folder for checkpoints and logs"
    )
    parser.add_argument(
        "--stage",
        help="run only this stage: clip, sam, the id of a method, or card",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Train the models, or one stage."""
    training = TinyTraining(TinyRecipe(), args.photographs, args.out, args.work)
    training.run(args.stage)
