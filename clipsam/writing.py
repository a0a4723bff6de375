"""Files written whole or not at all, and places to write to that are checked before the work."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import ClipsamError

SPARE = 50_000_000
"""Free bytes that a disk must have before something is computed for it."""

MAX_NAME = 120
"""Bytes of a file name that is made of somebody's words; file systems take at least 140."""


class OutputError(ClipsamError):
    """A file or folder that cannot be written."""


@contextmanager
def replacing(path: Path, process: int | None = None) -> Iterator[Path]:
    """Yield a path to write to; afterwards it takes the place of ``path`` at once.

    Whenever the program ends, even in the middle, ``path`` holds its old content or all of the new.

    Args:
        path: in an existing folder.
        process: number of this process, if several may write the same file.

    Raises:
        OutputError: it cannot be written.
    """
    tag = "" if process is None else f".{process}"
    # With the ending of the file, by which libraries choose its format.
    name = shorten(path.stem, MAX_NAME - len(path.suffix.encode("utf-8", "surrogateescape")) - 20)
    partial = path.with_name(f".{name}{tag}.partial{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError | RuntimeError):  # torch has no exception of its own for it
            raise unwritable(path, error) from None
        raise


def write_text(path: Path, text: str, process: int | None = None) -> None:
    """Write a text in UTF-8, see :func:`replacing`; parts of undecodable file names as escapes."""
    with replacing(path, process) as partial:
        partial.write_bytes(text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: Any, process: int | None = None) -> None:
    """Write a value as indented JSON, see :func:`write_text`."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n", process)


def check_folder(folder: Path) -> None:
    """Create a folder if needed, and check that files can be written into it.

    Raises:
        OutputError: it is a file, cannot be written, or its disk is full.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{printable(folder)} is a file, expected a folder.")
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{os.getpid()}.partial"
        probe.write_bytes(b"x")
        probe.unlink()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise unwritable(folder, error) from None
    if free < SPARE:
        raise OutputError(
            f"The disk of {printable(folder)} has only {free / 1e6:.0f} MB free, expected at least "
            f"{SPARE / 1e6:.0f} MB."
        )


def check_file(path: Path) -> None:
    """Check that a file can be written, see :func:`check_folder`.

    Raises:
        OutputError: it is a folder, or its folder cannot be written.
    """
    try:
        is_folder = path.is_dir()
    except OSError as error:
        raise unwritable(path, error) from None
    if is_folder:
        raise OutputError(f"{printable(path)} is a folder, expected the name of a file.")
    check_folder(path.parent)


def unwritable(path: Path, error: Exception) -> OutputError:
    """Explain in one sentence why something cannot be written."""
    shown, number = printable(path), getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT) or _is_full(path):
        return OutputError(f"The disk is full, so {shown} cannot be written. Free some space.")
    if number == errno.ENAMETOOLONG:
        return OutputError(f"{shown} is too long for a name. Choose a shorter one.")
    reason = getattr(error, "strerror", None) or "writing failed"
    return OutputError(f"{shown} cannot be written ({reason}).")


def printable(path: Path | str) -> str:
    """Return a path for people; what cannot be decoded becomes escapes."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def shorten(name: str, most: int = MAX_NAME) -> str:
    """Cut a name so that it takes at most so many bytes."""
    cut = name.encode("utf-8", "surrogateescape")[:most]
    return cut.decode("utf-8", "ignore") if len(cut) == most else name


def _is_full(path: Path) -> bool:
    """Return whether next to nothing is left on a path's disk."""
    try:
        folder = next(parent for parent in (path, *path.absolute().parents) if parent.is_dir())
        return shutil.disk_usage(folder).free < 2**16
    except (OSError, StopIteration):
        return False
