"""``reproduce``: a table of the papers, trained and measured row by row."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from ..errors import PromptError
from ..reproduce.plan import plan
from ..reproduce.run import reproduce
from ..reproduce.scope import Scope
from ..reproduce.tables import TABLES, find_table
from .evaluate import parse_shard

logger = logging.getLogger(__name__)


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("table", metavar="TABLE", help=", ".join(TABLES))
    parser.add_argument(
        "--plan", action="store_true", help="run nothing; say what is needed and what is there"
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=Path("data"),
        metavar="FOLDER",
        help="folder of the data sets; --plan says where in it each must lie",
    )
    parser.add_argument("--preset", help="SAM and CLIP weights of every row, instead of its own")
    parser.add_argument(
        "--data",
        metavar="KIND:PATH",
        help="one data set with the parts train and val for every row, instead of its own",
    )
    parser.add_argument("--steps", type=int, help="steps of every training")
    parser.add_argument("--limit", type=int, help="images of every measurement, drawn at random")
    parser.add_argument(
        "--shard", default="0/1", metavar="I/N", help="process I of N, counted from 0"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("reproduced"),
        metavar="FOLDER",
        help="bundles, figures and tables; an unfinished run resumes, finished rows stay",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print the plan, or run the rows and log where the table is."""
    for option in ("steps", "limit"):
        value = getattr(args, option)
        if value is not None and value < 1:
            raise PromptError(f"--{option} {value}: expected at least 1.")
    table = find_table(args.table)
    scope = Scope(args.root, args.preset, args.data, args.steps, args.limit)
    if args.plan:
        sys.stdout.write(plan(table, scope, args.out))
        return
    reproduce(table, scope, args.out, parse_shard(args.shard))
    logger.info("Wrote %s.", args.out / f"{table.name}.md")
