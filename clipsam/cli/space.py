"""``space``: the project as a Space of the hub."""

from __future__ import annotations

import argparse
import logging
import sys

from ..registry import methods
from ..weights.space_upload import push_space, space_files

logger = logging.getLogger(__name__)


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--push",
        required=True,
        metavar="OWNER/NAME",
        help="make this Space, or bring it up to date",
    )
    parser.add_argument(
        "--private", action="store_true", help="the Space, if it is made now, is private"
    )
    parser.add_argument("--dry-run", action="store_true", help="only list what would go up")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Send it, or list what would be sent."""
    own = (id for id, cls in methods().items() if cls.needs_training)
    bundles = ("sam", "clip", *own)
    if not args.dry_run:
        logger.info("The Space is at %s.", push_space(args.push, bundles, args.private))
        return
    sizes = {name: path.stat().st_size for name, path in space_files(bundles).items()}
    for name, size in sizes.items():
        sys.stdout.write(f"{size / 1e6:10.3f} MB  {name}\n")
    sys.stdout.write(f"{sum(sizes.values()) / 1e6:10.3f} MB  in {len(sizes)} files\n")
