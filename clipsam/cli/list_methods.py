"""``methods``: list of the methods and their status."""

from __future__ import annotations

import argparse
import json
import sys

from ..registry import describe_methods
from ..weights.presets import find_preset


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.add_argument("--preset", default="tiny", help="preset for which parameters are counted")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print the list."""
    described = describe_methods(find_preset(args.preset))
    if args.json:
        sys.stdout.write(json.dumps(described, indent=2) + "\n")
        return
    for method in described:
        ready = [name for name, status in method["presets"].items() if status == "ready"]
        counts = method["parameters"]
        millions = "?" if counts is None else f"{counts['total'] / 1e6:.2f}"
        sys.stdout.write(
            f"{method['id']:18} {method['name']:20} {method['paper']:18} "
            f"{millions:>8} M  ready for: {', '.join(ready) or '–'}\n"
        )
