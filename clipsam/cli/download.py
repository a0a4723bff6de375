"""``download``: published weights of a preset, and extra networks of methods."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from ..registry import find_info
from ..weights.download import copy_from_folder, download
from ..weights.presets import PRESETS, find_preset

logger = logging.getLogger(__name__)


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("preset", help=", ".join(PRESETS))
    parser.add_argument(
        "methods",
        nargs="*",
        metavar="METHOD",
        help="also download the extra networks of these methods",
    )
    parser.add_argument(
        "--from",
        dest="folder",
        type=Path,
        metavar="FOLDER",
        help="copy from this folder instead of downloading; it holds OWNER/NAME/ as on the hub, or "
        "Meta's sam_vit_….pth for SAM",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Download and verify the weights."""
    preset = find_preset(args.preset)
    methods = [find_info(method) for method in args.methods]
    extra_networks = tuple(
        dict.fromkeys(one for method in methods for one in method.extra_networks(preset))
    )
    if not (preset.sources or extra_networks):
        logger.info(
            "Preset “%s” is bundled with the project; there is nothing to download.", preset.name
        )
        return
    if args.folder is None:
        download(preset, extra_networks)
    else:
        copy_from_folder(preset, args.folder, extra_networks)
    repos = ", ".join(published.repo for published in (*preset.sources, *extra_networks))
    logger.info("Downloaded and verified: %s.", repos)
