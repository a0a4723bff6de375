"""``suggest``: class names that an image may show."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ..data.images import open_image
from ..encoded_image import EncodedImage
from ..errors import PromptError
from ..suggest import COMMON, VOCABULARIES, read_vocabulary, suggest
from ..weights.backbones import load_backbones
from ..weights.presets import find_preset


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("image", type=Path, help="image file")
    known = "; ".join(f"{name}: {what}" for name, what in VOCABULARIES.items())
    parser.add_argument(
        "--vocabulary",
        default=COMMON,
        help=f"names to choose from, separated by commas, or one of: {known}",
    )
    parser.add_argument("--names", type=Path, help="text file with a name per line instead")
    parser.add_argument("--preset", default="tiny", help="SAM and CLIP weights")
    parser.add_argument("--count", type=int, default=8, help="number of suggestions")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print the likeliest names, with presence and highest similarity."""
    names = read_vocabulary(args.vocabulary if args.names is None else _typed(args.names))
    backbones = load_backbones(find_preset(args.preset))
    found = suggest(EncodedImage(open_image(args.image)), backbones, names, args.count)
    if args.json:
        sys.stdout.write(json.dumps([one.to_json() for one in found], indent=2) + "\n")
        return
    for one in found:
        sys.stdout.write(f"{one.name:24} presence {one.presence:.2f}  ")
        sys.stdout.write(f"similarity {one.similarity:.3f}\n")


def _typed(path: Path) -> str:
    """Read a file of names."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise PromptError(f"{path} is not a text file with a name per line: {error}.") from None
