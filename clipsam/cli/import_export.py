"""``import`` and ``export``: checkpoints of the CLIP-Guided SAM authors' code."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from ..methods.clip_guided_sam import ClipGuidedSamPredictor
from ..methods.reference_checkpoint import read_reference_checkpoint, write_reference_checkpoint
from ..weights.backbones import load_backbones
from ..weights.bundle import read_config, save_bundle
from ..weights.presets import find_preset
from ..writing import check_file, check_folder

logger = logging.getLogger(__name__)


def declare_import(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``import``."""
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument(
        "--preset",
        default="base-reference",
        help="SAM and CLIP that the checkpoint was tuned from, and how they see images; "
        "base-reference is the authors' way",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle to write")
    parser.set_defaults(run=run_import)


def declare_export(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``export``."""
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.pth")
    parser.set_defaults(run=run_export)


def run_import(args: argparse.Namespace) -> None:
    """Convert a checkpoint to a bundle."""
    check_folder(args.out)
    backbones = load_backbones(find_preset(args.preset))
    predictor = read_reference_checkpoint(args.checkpoint, backbones)
    config = predictor.bundle_config({"imported": args.checkpoint.name})
    save_bundle(args.out, config, predictor.model.trainable_state())
    logger.info("Wrote %s.", args.out)


def run_export(args: argparse.Namespace) -> None:
    """Convert a bundle to a checkpoint."""
    check_file(args.out)
    backbones = load_backbones(find_preset(read_config(args.bundle).get("preset", "")))
    write_reference_checkpoint(ClipGuidedSamPredictor.load(backbones, args.bundle), args.out)
    logger.info("Wrote %s.", args.out)
