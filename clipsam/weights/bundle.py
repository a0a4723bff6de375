"""Bundles: a folder with ``config.json`` and ``model.safetensors``, saved and loaded safely."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import ClipsamError
from ..writing import check_folder, replacing, write_json
from .quantize import dequantize, quantize

CONFIG, WEIGHTS = "config.json", "model.safetensors"
DELTA, OWN = ".delta", ".own"
CODES, SCALES, SHAPE = "_codes", "_scales", "_shape"
"""Suffixes of tensors stored as a difference or as quantized weights, see :mod:`.quantize`."""


class WeightsError(ClipsamError):
    """Weights that cannot be used."""


def save_bundle(
    folder: Path,
    config: dict,
    state: Mapping[str, Tensor],
    base: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a bundle atomically, with floating-point weights in half precision.

    Args:
        folder: output folder, created if needed.
        config: description of the weights, JSON-serialisable.
        state: tensors by name.
        base: base weights of some tensors; their matrices are stored as differences in 4 bits,
            other matrices in 8, and reading the bundle needs the same base.
    """
    check_folder(folder)
    stored: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if base is not None and tensor.ndim > 1:
            if name in base:
                ending, packed = DELTA, quantize(tensor.cpu() - base[name].cpu(), bits=4)
            else:
                ending, packed = OWN, quantize(tensor.cpu(), bits=8)
                stored[name + ending + SHAPE] = torch.tensor(tensor.shape)
            stored[name + ending + CODES], stored[name + ending + SCALES] = packed
        else:
            kept = tensor.half() if tensor.is_floating_point() else tensor
            stored[name] = kept.contiguous().cpu()
    # A folder is a bundle as long as it has a config, which therefore goes first and comes last.
    (folder / CONFIG).unlink(missing_ok=True)
    with replacing(folder / WEIGHTS) as partial:
        try:
            save_file(stored, partial)
        except SafetensorError as error:
            raise OSError(str(error)) from None
    write_json(folder / CONFIG, config)


def read_config(folder: Path) -> dict:
    """Read the ``config.json`` of a bundle.

    Raises:
        WeightsError: a file of the bundle is missing, or this one is damaged.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise WeightsError(f"{folder} is not a bundle: it has no {name}")
    try:
        return json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise WeightsError(f"{folder} is damaged: {error}") from None


def load_bundle(
    folder: Path, base: Mapping[str, Tensor] | None = None
) -> tuple[dict, dict[str, Tensor]]:
    """Read a bundle: its config, and its tensors in float32.

    Args:
        folder: the bundle.
        base: base weights, see :func:`save_bundle`.

    Raises:
        WeightsError: a file is missing or damaged, or the base differs.
    """
    config = read_config(folder)
    try:
        stored = load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise WeightsError(f"{folder} is damaged: {error}") from None
    state = {}
    for key, tensor in stored.items():
        if key.endswith(DELTA + CODES):
            name = key.removesuffix(DELTA + CODES)
            try:
                origin = (base or {})[name].float().cpu()
                scales = stored[name + DELTA + SCALES]
                state[name] = origin + dequantize(tensor, scales, origin.shape)
            except (KeyError, ValueError):
                raise WeightsError(
                    f"{folder} stores {name} as a difference from other base weights"
                ) from None
        elif key.endswith(OWN + CODES):
            name = key.removesuffix(OWN + CODES)
            shape = torch.Size(stored[name + OWN + SHAPE].tolist())
            state[name] = dequantize(tensor, stored[name + OWN + SCALES], shape)
        elif not key.endswith((SCALES, OWN + SHAPE)):
            state[key] = tensor.float() if tensor.dtype == torch.float16 else tensor
    return config, state


def load_into(
    module: torch.nn.Module, state: dict[str, Tensor], source: str, whole: bool = False
) -> None:
    """Load every tensor of ``state`` into ``module``; other parameters keep their values.

    Args:
        module: the module.
        state: tensors by the module's names.
        source: their origin, for messages.
        whole: require a value for every parameter.

    Raises:
        WeightsError: see :func:`check_fit`.
    """
    check_fit(module, state, source, whole)
    module.load_state_dict(state, strict=False)


def check_fit(
    module: torch.nn.Module, state: Mapping[str, Tensor], source: str, whole: bool = False
) -> None:
    """Compare names and shapes with those of a module, which may be on the meta device.

    Raises:
        WeightsError: a name that the module lacks, another shape or, if they should be the
            ``whole`` of it, a name that is missing.
    """
    own = module.state_dict()
    unknown = sorted(set(state) - set(own))
    if unknown:
        raise WeightsError(
            f"{source} contains {unknown[0]} (of {len(unknown)}), which does not fit"
        )
    missing = sorted(set(own) - set(state))
    if whole and missing:
        raise WeightsError(f"{source} lacks {missing[0]} (of {len(missing)})")
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            raise WeightsError(
                f"{source}: expected {name} of shape {tuple(own[name].shape)}, got "
                f"{tuple(tensor.shape)}"
            )
