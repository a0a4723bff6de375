"""``clipsam``, or ``python -m clipsam``: the workbench without a browser; one module a command."""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from collections.abc import Sequence
from pkgutil import resolve_name
from typing import Any, NamedTuple

from ..errors import ClipsamError

INTERRUPTED = 130
"""Exit code of a command that was interrupted by Ctrl-C."""


class Command(NamedTuple):
    """A command.

    Attributes:
        help: description in the list of commands.
        declare: ``module:function`` here that adds its arguments and its ``run`` to a parser;
            imported when the command is chosen.
    """

    help: str
    declare: str


COMMANDS = {
    "methods": Command("list the methods and their status", "list_methods:declare"),
    "download": Command("download published weights, or verify those present", "download:declare"),
    "segment": Command("segment one image, a folder or a data set (resumable)", "segment:declare"),
    "suggest": Command("suggest class names for an image", "suggest:declare"),
    "train": Command("train a method on labelled images", "train:declare"),
    "evaluate": Command(
        "evaluate methods on a data set (resumable, in several processes)", "evaluate:declare"
    ),
    "open-vocabulary": Command(
        "evaluate a method that is queried for every class in every image",
        "open_vocabulary:declare",
    ),
    "reproduce": Command(
        "train and measure the rows of a paper's table (resumable)", "reproduce:declare"
    ),
    "import": Command(
        "convert a CLIP-Guided SAM checkpoint of the authors' code to a bundle",
        "import_export:declare_import",
    ),
    "export": Command(
        "convert a clip-guided-sam bundle to a checkpoint of the authors' code",
        "import_export:declare_export",
    ),
    "push": Command("upload a bundle to the hub, or copy it to a folder", "push_pull:declare_push"),
    "pull": Command(
        "download a bundle from the hub, or copy it from a folder", "push_pull:declare_pull"
    ),
    "space": Command("publish the page as a Space on the hub", "space:declare"),
    "train-tiny": Command("train the bundled tiny models (resumable)", "train_tiny:declare"),
}


class _CommandParser(argparse.ArgumentParser):
    """Parser of one command that adds its arguments only when needed."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Import the command, then parse."""
        command = COMMANDS[self.prog.rpartition(" ")[2]]
        resolve_name(f"{__name__}.{command.declare}")(self)
        return super().parse_known_args(args, namespace)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The process's exit code: 0; 2 with one sentence on standard error; 130 if it was
        interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # In a C locale, names are written as escapes.
            stream.reconfigure(errors="backslashreplace")
    try:
        return _run(argv)
    except KeyboardInterrupt:
        sys.stderr.write("\nclipsam: interrupted; what was finished is kept.\n")
        return INTERRUPTED
    except BrokenPipeError:  # Who read the output has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except ClipsamError as error:
        sys.stderr.write(f"clipsam: {error}\n")
    except OSError as error:
        where = f"{error.filename} cannot be used: " if error.filename else ""
        sys.stderr.write(f"clipsam: {where}{error.strerror or error}.\n")
    return 2


def _run(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="clipsam", description="Segment images, and train and evaluate methods."
    )
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_CommandParser)
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.help)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for library in ("httpx", "httpx2"):
        logging.getLogger(library).setLevel(logging.WARNING)
    args.run(args)
    return 0
