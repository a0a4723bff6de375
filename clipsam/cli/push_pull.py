"""``push`` and ``pull``: bundles to and from the hub or a folder."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from ..registry import methods_with_bundles
from ..weights.availability import has_weights
from ..weights.bundle_transfer import pull_bundle, push_bundle
from ..weights.model_card import segment_command
from ..weights.presets import PRESETS

logger = logging.getLogger(__name__)


def declare_push(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``push``."""
    parser.add_argument("bundle", type=Path, help="folder written by `train`")
    parser.add_argument(
        "target", help="OWNER/NAME on the hub, an existing folder, or ./NAME for a new folder"
    )
    parser.add_argument(
        "--private", action="store_true", help="make the repository private if it is created"
    )
    parser.set_defaults(run=run_push)


def declare_pull(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``pull``."""
    parser.add_argument("source", help="OWNER/NAME on the hub, or a folder")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="target folder; by default, the folder where the page and the other commands look for "
        "the bundle of its method and preset",
    )
    parser.set_defaults(run=run_pull)


def run_push(args: argparse.Namespace) -> None:
    """Upload or copy a bundle."""
    place = push_bundle(args.bundle, args.target, methods_with_bundles(), args.private)
    logger.info("Pushed %s to %s.", args.bundle, place)


def run_pull(args: argparse.Namespace) -> None:
    """Download or copy a bundle, and log how to use it."""
    abouts = methods_with_bundles()
    pulled = pull_bundle(args.source, abouts, args.out)
    if pulled.is_new:
        logger.info("Pulled %s to %s.", args.source, pulled.folder)
    else:
        logger.info("%s is already up to date.", pulled.folder)
    if not has_weights(PRESETS[pulled.preset]):
        logger.info("First run: python -m clipsam download %s", pulled.preset)
    folder = None if args.out is None else str(args.out)
    modes = abouts[pulled.method].modes
    logger.info("Usage: %s", segment_command(pulled.method, pulled.preset, modes, folder))
