"""Safe reading of third-party weight files, without running code in them."""

from __future__ import annotations

import hashlib
import pickle
import re
from pathlib import Path
from typing import Any, TypeGuard

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .bundle import WeightsError

_LOOK = 512
"""Number of bytes that identify a file's format."""


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors or PyTorch file, by name, to the CPU.

    Raises:
        WeightsError: it is missing, damaged, something else than its name says, or needs more
            than tensors to be read.
    """
    if path.suffix != ".safetensors":
        content = read_pickle(path)
        if not _is_state(content):
            raise WeightsError(f"{path} must contain named tensors only")
        return content
    _refuse_other_kinds(path, "safetensors")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} is a damaged or incomplete safetensors file of {_size(path)} ({error})"
        ) from None


def read_pickle(path: Path) -> Any:
    """Read a file written by ``torch.save``: tensors, numbers and containers of them.

    Raises:
        WeightsError: it is missing, damaged, or asks for code to be run.
    """
    _refuse_other_kinds(path, "a PyTorch checkpoint")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "WeightsUnpickler error: Unsupported" in str(error):
            unsafe = re.search(r"GLOBAL (\S+)", str(error))
            operation = f" ({unsafe[1]})" if unsafe else ""
            raise WeightsError(
                f"{path} asks for code to be run{operation}, expected tensors only; it was not read"
            ) from None
        raise _damaged(path) from None
    # A cut-off archive can fail in any of the readers below PyTorch.
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError):
        raise _damaged(path) from None


def check_named_hash(path: Path) -> None:
    """Compare a file with the prefix of its SHA-256 in its name, ``…_<hash>.pth``.

    Raises:
        WeightsError: the name has no such part, or the content another hash.
    """
    match = re.search(r"[_-]([0-9a-f]{6,64})\.pth$", path.name)
    if match is None:
        raise WeightsError(f"{path} must be named …_<start of its SHA-256>.pth")
    found = file_hash(path, "sha256")
    if not found.startswith(match[1]):
        raise WeightsError(
            f"{path} must have a SHA-256 that starts with {match[1]}, but it starts with "
            f"{found[: len(match[1])]}; it is damaged or another file"
        )


def file_hash(path: Path, kind: str) -> str:
    """Compute the hexadecimal hash of a file: ``sha256``, or ``git`` for git's object name."""
    digest = hashlib.sha256() if kind == "sha256" else hashlib.sha1(usedforsecurity=False)
    if kind == "git":
        digest.update(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _is_state(content: object) -> TypeGuard[dict[str, Tensor]]:
    return isinstance(content, dict) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in content.items()
    )


def _refuse_other_kinds(path: Path, expected: str) -> None:
    """Refuse other kinds of files.

    Raises:
        WeightsError: the file is missing, or its first bytes are those of another kind.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_LOOK)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror})") from None
    found = None
    if not start:
        found = "is empty"
    elif start.startswith(b"version https://git-lfs"):
        found = "is a git-lfs pointer (`git lfs pull` fetches what it points to)"
    elif start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        found = "is a web page"
    elif expected == "safetensors" and start.startswith((b"PK\x03\x04", b"\x80\x02")):
        found = "is a PyTorch checkpoint"
    elif expected != "safetensors" and start[8:9] == b"{":
        found = "looks like safetensors"
    if found is not None:
        raise WeightsError(f"{path} {found} ({_size(path)}), expected {expected}")


def _damaged(path: Path) -> WeightsError:
    return WeightsError(f"{path} is a damaged or incomplete PyTorch checkpoint of {_size(path)}")


def _size(path: Path) -> str:
    return f"{path.stat().st_size:,} bytes"
