"""Bundles: a folder with ``config.json`` and ``model.safetensors``, saved and loaded safely."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .delta import pack, unpack

CONFIG, WEIGHTS = "config.json", "model.safetensors"
CODES, SCALES = ".delta_codes", ".delta_scales"
"""Endings of the two tensors that store a difference, see :mod:`clipsam.weights.delta`."""


class WeightsError(ValueError):
    """Weights that cannot be used; the message says what was expected and what was found."""


def save_bundle(
    folder: Path,
    config: dict,
    state: Mapping[str, Tensor],
    base: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a bundle whole or not at all, floating-point weights in half precision.

    Args:
        folder: where to; made if need be.
        config: what the weights are and what they fit, JSON-serialisable.
        state: tensors by name.
        base: what they were tuned from; matrices among them are stored as differences in 4 bits,
            and the bundle then needs the same base to be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stored: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if base is not None and name in base and tensor.ndim > 1:
            codes, scales = pack(tensor.cpu() - base[name].cpu())
            stored[name + CODES], stored[name + SCALES] = codes, scales
        else:
            kept = tensor.half() if tensor.is_floating_point() else tensor
            stored[name] = kept.contiguous().cpu()
    partial = folder / f"{WEIGHTS}.partial"
    save_file(stored, partial)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    partial.replace(folder / WEIGHTS)


def load_bundle(
    folder: Path, base: Mapping[str, Tensor] | None = None
) -> tuple[dict, dict[str, Tensor]]:
    """Read a bundle: its config, and its tensors in float32.

    Args:
        folder: the bundle.
        base: what its weights were tuned from, see :func:`save_bundle`.

    Raises:
        WeightsError: a file is missing or damaged, or it was tuned from another base.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise WeightsError(f"{folder} is no bundle: it has no {name}")
    try:
        config = json.loads((folder / CONFIG).read_text())
        stored = load_file(folder / WEIGHTS)
    except (json.JSONDecodeError, SafetensorError) as error:
        raise WeightsError(f"{folder} is damaged: {error}") from None
    state = {}
    for key, tensor in stored.items():
        if key.endswith(CODES):
            name = key.removesuffix(CODES)
            try:
                origin = (base or {})[name].float().cpu()
                state[name] = origin + unpack(tensor, stored[name + SCALES], origin.shape)
            except (KeyError, ValueError):
                raise WeightsError(
                    f"{folder} stores {name} as a difference from weights that are not these"
                ) from None
        elif not key.endswith(SCALES):
            state[key] = tensor.float() if tensor.dtype == torch.float16 else tensor
    return config, state


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
