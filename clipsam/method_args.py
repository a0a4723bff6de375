"""Methods as command-line arguments: ``ID[:MODE][@BUNDLE]``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch

from .errors import PromptError
from .predictor import Predictor
from .registry import find_method
from .weights.backbones import Precision, load_backbones
from .weights.presets import find_preset

METHOD_ARG = "ID[:MODE][@BUNDLE]"
METHOD_ARG_HELP = (
    "repeatable; without a mode, classes with a point or a box are manual; a bundle is a folder "
    "written by `train` that replaces the project's own weights"
)


@dataclass(frozen=True)
class LoadedMethod:
    """A loaded method with its mode.

    Attributes:
        name: unique name, valid as a folder name.
        mode: one of its modes; ``None`` leaves it to the prompt.
        bundle: folder of its weights; ``None`` for the project's.
        predictor: the loaded method.
    """

    name: str
    mode: str | None
    bundle: Path | None
    predictor: Predictor


PRECISIONS: tuple[Precision, ...] = get_args(Precision)
PRECISION_HELP = (
    "precision of SAM's encoder; auto is bfloat16 for published sizes on supporting hardware"
)


def load_methods_from_args(
    texts: Sequence[str], preset: str, precision: Precision = "auto", compiled: bool = False
) -> list[LoadedMethod]:
    """Load methods from their arguments, all on one pair of backbones.

    A method is named by its id; if an id is given several times, also by its mode and
    its bundle's folder.

    Raises:
        PromptError: no such method, mode or preset, a duplicate, or ``compiled`` without
            a GPU.
        WeightsError: weights that are missing or do not fit.
    """
    requests = []
    for text in texts:
        choice, _, folder = text.partition("@")
        method, _, mode = choice.partition(":")
        find_method(method)
        requests.append((method, mode, Path(folder) if folder else None))
    chosen = find_preset(preset)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if compiled and device == "cpu":
        raise PromptError("--compile needs a GPU.")
    backbones = load_backbones(chosen, device, precision=precision, compiled=compiled)
    ids = [method for method, _, _ in requests]
    choices: dict[str, LoadedMethod] = {}
    for method, mode, bundle in requests:
        name = method
        if ids.count(method) > 1:
            name = f"{method}-{mode or 'default'}" + (f"-{bundle.name}" if bundle else "")
        if name in choices:
            raise PromptError(f"The method “{name}” is given twice.")
        predictor = find_method(method).load(backbones, bundle)
        predictor.check_mode(mode or None)
        choices[name] = LoadedMethod(name, mode or None, bundle, predictor)
    return list(choices.values())
