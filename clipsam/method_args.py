"""Methods as command-line arguments: ``ID[:MODE][@BUNDLE]``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

import torch

from .errors import PromptError
from .predictor import Predictor
from .prompting import PointSampling, PromptSettings
from .protocols import PROTOCOLS, find_protocol
from .registry import find_method
from .tiling import Blend, Tiling
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


def declare_prompt_settings(parser: argparse.ArgumentParser) -> None:
    """Add protocol and settings of prompts made from maps, fields of :class:`PredictOptions`."""
    parser.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        help="prepare images, prompt and score as a paper does; options given besides go first",
    )
    group = parser.add_argument_group(
        "prompts from similarity maps", "by default as the method was trained or calibrated"
    )
    group.add_argument("--num-points", type=int, metavar="K", help="points per class")
    group.add_argument(
        "--sampling",
        choices=get_args(PointSampling),
        help="spread: over all regions of the map; reference: uniform, as in the authors' code",
    )
    group.add_argument(
        "--point-threshold", type=float, metavar="0..1", help="on the map scaled to 0..1"
    )
    group.add_argument(
        "--dense-logit",
        type=float,
        metavar="LOGIT",
        help="strength of the map as dense prompt; 255 in the authors' code",
    )


def declare_tiling(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :class:`~clipsam.tiling.Tiling`."""
    group = parser.add_argument_group("tiles", "for images much larger than the networks see")
    group.add_argument(
        "--tile",
        type=int,
        metavar="PIXELS",
        help="side of a tile; by default every image is predicted whole",
    )
    group.add_argument(
        "--tile-overlap", type=float, default=0.25, metavar="0..0.5", help="share of a tile's side"
    )
    group.add_argument(
        "--tile-blend",
        choices=get_args(Blend),
        default="linear",
        help="weights of logits where tiles overlap: falling towards the edge, or equal",
    )


def tiling_of(args: argparse.Namespace) -> Tiling | None:
    """Return what the arguments of :func:`declare_tiling` say.

    Raises:
        PromptError: a size or an overlap that no tile can have.
    """
    if args.tile is None:
        return None
    return Tiling(args.tile, args.tile_overlap, args.tile_blend)


def prompt_settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of :func:`declare_prompt_settings` as fields of their names."""
    names = ["protocol", *(field.name for field in fields(PromptSettings))]
    return {name: getattr(args, name) for name in names}


def load_methods_from_args(
    texts: Sequence[str],
    preset: str,
    precision: Precision = "auto",
    compiled: bool = False,
    protocol: str | None = None,
) -> list[LoadedMethod]:
    """Load methods from their arguments, all on one pair of backbones.

    A method is named by its id; if an id is given several times, also by its mode and
    its bundle's folder. The protocol decides how images are prepared for them.

    Raises:
        PromptError: no such method, mode, preset or protocol, a duplicate, or ``compiled`` without
            a GPU.
        WeightsError: weights that are missing or do not fit.
    """
    requests = []
    for text in texts:
        choice, _, folder = text.partition("@")
        method, _, mode = choice.partition(":")
        find_method(method)
        requests.append((method, mode, Path(folder) if folder else None))
    chosen = find_protocol(protocol).prepare(find_preset(preset))
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
