"""``python -m clipsam``: the workbench without a browser."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m clipsam", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    tiny = commands.add_parser("train-tiny", help="train the bundled tiny models (resumable)")
    tiny.add_argument("--photographs", type=Path)
    tiny.add_argument("--out", type=Path, default=Path("checkpoints/tiny"))
    tiny.add_argument("--work", type=Path, default=Path("runs/tiny"))
    tiny.add_argument("--stage", choices=["clip", "sam", "clip-guided-sam"])
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    from .training.tiny import TinyRecipe, TinyTraining

    training = TinyTraining(TinyRecipe(), args.photographs, args.out, args.work)
    for name, run in training.stages().items():
        if args.stage in (None, name):
            run()
    return 0
