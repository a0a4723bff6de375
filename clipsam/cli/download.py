"""``download``: the published weights of a preset."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from ..predictor import find_preset
from ..weights.local import bring, download
from ..weights.presets import PRESETS

logger = logging.getLogger(__name__)


def add(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "download", help="get the published weights of a preset, or check those that are here"
    )
    published = [name for name, preset in PRESETS.items() if preset.sam_source is not None]
    parser.add_argument("preset", help=", ".join(published))
    parser.add_argument(
        "--from",
        dest="folder",
        type=Path,
        metavar="FOLDER",
        help="copy them from a folder instead, which holds OWNER/NAME/ as on the hub, or Meta's "
        "sam_vit_….pth in place of SAM's",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Get them, check them, and say so."""
    preset = find_preset(args.preset)
    if preset.sam_source is None:
        logger.info("“%s” comes with the project: there is nothing to download.", preset.name)
        return
    if args.folder is None:
        download(preset)
    else:
        bring(preset, args.folder)
    logger.info("“%s” is here, whole and as expected.", preset.name)
