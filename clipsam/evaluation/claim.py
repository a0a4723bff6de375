"""A folder of results that belongs to one job: whoever goes on with it must have its settings."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data.readers import DataError
from ..writing import check_folder, write_text


def claim_folder(folder: Path, config: Mapping[str, Any], job: str) -> None:
    """Write the settings of a job into its folder, or check that they are the same.

    Args:
        folder: of the results; its ``config.json`` says whose they are.
        config: settings by name, for JSON.
        job: what it is, with its article.

    Raises:
        DataError: the folder belongs to a job with other settings.
    """
    path = folder / "config.json"
    config = json.loads(json.dumps(config))
    check_folder(folder)
    try:
        if not path.exists():
            write_text(path, json.dumps(config, indent=2, ensure_ascii=False), os.getpid())
        written = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from None
    except ValueError:
        raise DataError(f"{path} is not valid JSON. Choose another --out.") from None
    for name, value in config.items():
        if written.get(name) != value:
            raise DataError(
                f"{folder} contains {job} with another setting of “{name}” "
                f"({_shown(written.get(name))}, now {_shown(value)}). Choose another --out."
            )


def weights_digest(network: nn.Module) -> str:
    """Compute a digest of a network's weights, the same on every machine."""
    digest = hashlib.sha256()
    for tensor in network.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:12]


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {part}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)
