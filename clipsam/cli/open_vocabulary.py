"""``open-vocabulary``: evaluation with every class of a benchmark queried in every image."""

from __future__ import annotations

import argparse
import logging
import math
from pathlib import Path

from ..evaluation.label_map_protocols import PROTOCOLS
from ..method_args import METHOD_ARG
from ..open_vocabulary import OpenVocabulary, open_vocabulary

logger = logging.getLogger(__name__)


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--benchmark",
        metavar="NAME",
        help=f"{', '.join(PROTOCOLS)}; by default, the class names of the data set are queried",
    )
    parser.add_argument(
        "--data",
        required=True,
        metavar="[KIND:]PATH",
        help="data set; the kind may be omitted if it is the benchmark's",
    )
    parser.add_argument("--part", default="val", help="part of the data set")
    parser.add_argument(
        "--method",
        required=True,
        metavar=METHOD_ARG,
        help="without a mode, the first of its modes; a bundle is a folder written by `train`",
    )
    parser.add_argument("--preset", default="tiny", help="SAM and CLIP weights")
    parser.add_argument("--limit", type=int, help="number of images, drawn at random")
    parser.add_argument("--out", type=Path, help="output folder for the scores of every class")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Evaluate and log the result."""
    asked = OpenVocabulary(
        args.data, args.method, args.benchmark, args.part, args.preset, args.limit
    )
    summary = open_vocabulary(asked, args.out)
    logger.info(
        "%s, %s (%s): mIoU %.2f %% over %d classes, %d images, %.2f s each.",
        summary["protocol"],
        summary["method"],
        summary["mode"],
        math.nan if summary["miou"] is None else 100 * summary["miou"],
        summary["classes_present"],
        summary["images"],
        summary["seconds_per_image"],
    )
