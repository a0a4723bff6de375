"""``methods``: list of the methods and their status."""

from __future__ import annotations

import argparse
import json
import sys

from ..registry import METHODS, describe_methods, statuses
from ..weights.presets import find_preset


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print all as JSON, with parameters")
    parser.add_argument("--preset", default="tiny", help="of which --json counts parameters")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print the list."""
    if args.json:
        described = describe_methods(find_preset(args.preset))
        sys.stdout.write(json.dumps(described, indent=2) + "\n")
        return
    for info in METHODS.values():
        ready = [name for name, status in statuses(info).items() if status == "ready"]
        sys.stdout.write(
            f"{info.id:25} {info.name:36} {info.paper:17} ready for: {', '.join(ready) or '–'}\n"
        )
