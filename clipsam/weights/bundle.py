"""Bundles: a folder with ``config.json`` and ``model.safetensors``, saved and loaded safely."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

CONFIG, WEIGHTS = "config.json", "model.safetensors"


class WeightsError(ValueError):
    """Weights that cannot be used; the message says what was expected and what was found."""


def save_bundle(folder: Path, config: dict, state: dict[str, Tensor]) -> None:
    """Write a bundle whole or not at all, floating-point weights in half precision.

    Args:
        folder: where to; made if need be.
        config: what the weights are and what they fit, JSON-serialisable.
        state: tensors by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    halves = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous().cpu()
        for name, tensor in state.items()
    }
    partial = folder / f"{WEIGHTS}.partial"
    save_file(halves, partial)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    partial.replace(folder / WEIGHTS)


def load_bundle(folder: Path) -> tuple[dict, dict[str, Tensor]]:
    """Read a bundle: its config, and its tensors in float32.

    Raises:
        WeightsError: a file is missing or damaged.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise WeightsError(f"{folder} is no bundle: it has no {name}")
    try:
        config = json.loads((folder / CONFIG).read_text())
        state = load_file(folder / WEIGHTS)
    except (json.JSONDecodeError, SafetensorError) as error:
        raise WeightsError(f"{folder} is damaged: {error}") from None
    return config, {
        name: tensor.float() if tensor.dtype == torch.float16 else tensor
        for name, tensor in state.items()
    }


def load_into(module: torch.nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load every tensor of ``state`` into ``module``; parameters not named keep their values.

    Raises:
        WeightsError: a name that the module lacks, or another shape.
    """
    own = module.state_dict()
    unknown = sorted(set(state) - set(own))
    if unknown:
        raise WeightsError(f"{source} holds {unknown[0]} (of {len(unknown)}), which does not fit")
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            raise WeightsError(
                f"{source}: {name} should be {tuple(own[name].shape)}, is {tuple(tensor.shape)}"
            )
    module.load_state_dict(state, strict=False)
