"""``python -m clipsam``: the workbench without a browser."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import baselines as _baselines  # noqa: F401 (registers its pipelines)

from . import methods as _methods  # noqa: F401 (registers the papers' methods)
from .data.images import ImageError, open_image, open_mask
from .data.readers import DataError
from .evaluation.truth import TruthError, match_truth
from .export import listed_points, write_prediction
from .predictor import (
    Options,
    Predictor,
    describe_methods,
    find_method,
    find_preset,
    load_predictor,
)
from .scene import Scene
from .training.tiny import TinyRecipe, TinyTraining
from .types import Concept, Prompt, PromptError, parse_classes
from .weights.backbones import load_backbones
from .weights.bundle import WeightsError

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The process's exit code: 0, or 2 with one sentence on standard error.
    """
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)

    try:
        args.run(args)
    except (ImageError, DataError, PromptError, TruthError, WeightsError) as error:
        sys.stderr.write(f"clipsam: {error}\n")
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m clipsam", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    listing = commands.add_parser("methods", help="list the methods, and what is ready")
    listing.add_argument("--json", action="store_true", help="as JSON")
    listing.add_argument("--preset", default="tiny", help="whose parameters are counted")
    listing.set_defaults(run=_list_methods)

    segment = commands.add_parser("segment", help="segment one image")
    segment.add_argument("image", type=Path)
    segment.add_argument(
        "--text", required=True, help='classes: "," between classes, ";" between synonyms'
    )
    segment.add_argument(
        "--method", action="append", required=True, metavar="ID[:MODE]", help="repeatable"
    )
    segment.add_argument(
        "--point", action="append", default=[], metavar="CLASS:x,y,label", help="label 1 or 0"
    )
    segment.add_argument("--box", action="append", default=[], metavar="CLASS:x0,y0,x1,y1")
    segment.add_argument("--preset", default="tiny")
    segment.add_argument("--threshold", type=float, default=0.0, help="of the mask, on logits")
    segment.add_argument("--seed", type=int, default=0, help="of the points drawn from maps")
    segment.add_argument("--truth", type=Path, help="index PNG: id of the class of each pixel")
    segment.add_argument("--truth-classes", type=Path, help="JSON list of names, index = id")
    segment.add_argument("--out", type=Path, required=True)
    segment.set_defaults(run=_segment)

    tiny = commands.add_parser("train-tiny", help="train the bundled tiny models (resumable)")
    tiny.add_argument("--photographs", type=Path, help="folder with camvid/, ccp/ and coco100/")
    tiny.add_argument("--out", type=Path, default=Path("checkpoints/tiny"))
    tiny.add_argument("--work", type=Path, default=Path("runs/tiny"), help="checkpoints and logs")
    tiny.add_argument(
        "--stage",
        help="only this stage: clip, sam, clip-guided-sam, clip-guided-sam-reference or card",
    )
    tiny.set_defaults(run=_train_tiny)
    return parser


def _list_methods(args: argparse.Namespace) -> None:

    described = describe_methods(find_preset(args.preset))
    if args.json:
        sys.stdout.write(json.dumps(described, indent=2) + "\n")
        return
    for method in described:
        ready = [name for name, status in method["presets"].items() if status == "ready"]
        sys.stdout.write(
            f"{method['id']:18} {method['name']:20} {method['paper']:18} "
            f"{method['parameters']['total'] / 1e6:8.2f} M  ready for: {', '.join(ready) or '–'}\n"
        )


def _train_tiny(args: argparse.Namespace) -> None:

    training = TinyTraining(TinyRecipe(), args.photographs, args.out, args.work)
    training.run(args.stage)


def _segment(args: argparse.Namespace) -> None:

    image = open_image(args.image)
    prompt = _prompt(args)
    truth = None
    if args.truth is not None:
        names = None if args.truth_classes is None else _read_names(args.truth_classes)
        truth = match_truth(open_mask(args.truth), image.shape[:2], prompt, names)
    scene = Scene(image)
    report = []
    for folder, predictor, mode in _predictors(args):
        prediction = predictor.predict(scene, prompt, Options(mode=mode, seed=args.seed))
        report.append(write_prediction(prediction, args.out / folder, args.threshold, truth))
        logger.info("%s: %.2f s", folder, prediction.total_seconds)
    concepts = [
        {
            "synonyms": list(concept.synonyms),
            "points": listed_points(concept.points, concept.labels),
            "box": None if concept.box is None else concept.box.tolist(),
        }
        for concept in prompt.concepts
    ]
    results = {"image": str(args.image), "prompt": concepts, "methods": report}
    (args.out / "results.json").write_text(json.dumps(results, indent=2, ensure_ascii=False))


def _predictors(args: argparse.Namespace) -> list[tuple[str, Predictor, str | None]]:
    """(folder, predictor, mode) of each method asked; folders are told apart by mode if need be."""

    preset = find_preset(args.preset)
    asked = [method.partition(":") for method in args.method]
    for method, _, _ in asked:
        find_method(method)
    backbones = load_backbones(preset)
    once = [method for method, _, _ in asked]
    return [
        (
            method if once.count(method) == 1 else f"{method}-{mode or 'default'}",
            load_predictor(method, backbones),
            mode or None,
        )
        for method, _, mode in asked
    ]


def _prompt(args: argparse.Namespace) -> Prompt:

    classes = parse_classes(args.text)
    points: dict[int, list[list[float]]] = {}
    boxes: dict[int, list[float]] = {}

    def owner(text: str, option: str, count: int) -> tuple[int, list[float]]:
        name, _, numbers = text.rpartition(":")
        try:
            values = [float(number) for number in numbers.split(",")]
        except ValueError:
            values = []
        if len(values) != count:
            raise PromptError(f"--{option} {text}: give a class, a colon and {count} numbers.")
        for index, synonyms in enumerate(classes):
            if name.strip().lower() in (synonym.lower() for synonym in synonyms):
                return index, values
        raise PromptError(f"--{option} {text}: “{name}” is none of the classes in --text.")

    for text in args.point:
        index, values = owner(text, "point", 3)
        points.setdefault(index, []).append(values)
    for text in args.box:
        index, values = owner(text, "box", 4)
        boxes[index] = values
    concepts = []
    for index, synonyms in enumerate(classes):
        given = np.array(points.get(index, []), np.float32).reshape(-1, 3)
        box = np.array(boxes[index]) if index in boxes else None
        concepts.append(Concept(synonyms, given[:, :2], given[:, 2].astype(np.int64), box))
    return Prompt(tuple(concepts))


def _read_names(path: Path) -> list[str]:

    try:
        names = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise TruthError(f"{path} is no JSON list of class names: {error}.") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TruthError(f"{path} must be a JSON list of class names, index = id.")
    return names
