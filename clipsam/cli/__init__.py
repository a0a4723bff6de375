"""``python -m clipsam``: the workbench without a browser; one file per command."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

import baselines as _baselines  # noqa: F401 (registers its pipelines)

from .. import methods as _methods  # noqa: F401 (registers the papers' methods)
from ..data.images import ImageError
from ..data.readers import DataError
from ..evaluation.truth import TruthError
from ..types import PromptError
from ..weights.bundle import WeightsError
from . import (
    download,
    evaluate,
    exchange,
    listing,
    open_vocabulary,
    segment,
    space,
    tiny,
    train,
    travel,
)

COMMANDS = (
    listing,
    download,
    segment,
    train,
    evaluate,
    open_vocabulary,
    exchange,
    travel,
    space,
    tiny,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The process's exit code: 0, or 2 with one sentence on standard error.
    """
    parser = argparse.ArgumentParser(prog="python -m clipsam", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for command in COMMANDS:
        command.add(commands)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for library in ("httpx", "httpx2"):
        logging.getLogger(library).setLevel(logging.WARNING)
    try:
        args.run(args)
    except (ImageError, DataError, PromptError, TruthError, WeightsError) as error:
        sys.stderr.write(f"clipsam: {error}\n")
        return 2
    return 0
