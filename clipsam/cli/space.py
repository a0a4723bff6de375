"""``space``: the project as a Space on the hub."""

from __future__ import annotations

import argparse
import logging
import sys

from ..registry import METHODS
from ..weights.space_upload import push_space, space_files

logger = logging.getLogger(__name__)


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--push",
        required=True,
        metavar="OWNER/NAME",
        help="create or update this Space",
    )
    parser.add_argument(
        "--private", action="store_true", help="make the Space private if it is created"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="only list the files that would be uploaded"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Upload the Space, or list its files."""
    own = (id for id, info in METHODS.items() if info.needs_training)
    bundles = ("sam", "clip", *own)
    if not args.dry_run:
        logger.info("The Space is at %s.", push_space(args.push, bundles, args.private))
        return
    sizes = {name: path.stat().st_size for name, path in space_files(bundles).items()}
    for name, size in sizes.items():
        sys.stdout.write(f"{size / 1e6:10.3f} MB  {name}\n")
    sys.stdout.write(f"{sum(sizes.values()) / 1e6:10.3f} MB  in {len(sizes)} files\n")
