"""``segment``: one image, several methods, results as files."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..data.images import open_image, open_mask
from ..errors import PromptError
from ..evaluation.truth import TruthError, match_truth
from ..export import write_prediction, write_results
from ..predictor import Options
from ..scene import Scene
from ..types import OVERLAPS, Concept, Prompt, parse_classes
from .choosing import CHOICE, CHOICE_HELP, PRECISION_HELP, PRECISIONS, load_choices

logger = logging.getLogger(__name__)


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("image", type=Path)
    parser.add_argument(
        "--text", required=True, help='classes: "," between classes, ";" between synonyms'
    )
    parser.add_argument(
        "--method", action="append", required=True, metavar=CHOICE, help=CHOICE_HELP
    )
    parser.add_argument(
        "--point", action="append", default=[], metavar="CLASS:x,y,label", help="label 1 or 0"
    )
    parser.add_argument("--box", action="append", default=[], metavar="CLASS:x0,y0,x1,y1")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help=PRECISION_HELP)
    parser.add_argument("--threshold", type=float, default=0.0, help="of the mask, on logits")
    parser.add_argument("--seed", type=int, default=0, help="of the points drawn from maps")
    parser.add_argument(
        "--overlap",
        choices=OVERLAPS,
        default=OVERLAPS[0],
        help="who gets a pixel that several classes claim",
    )
    parser.add_argument(
        "--candidate",
        action="append",
        default=[],
        metavar="NAME:CLASS:1|2|3",
        help="take SAM's candidate in place of the answer; NAME is the method's folder",
    )
    parser.add_argument("--truth", type=Path, help="index PNG: id of the class of each pixel")
    parser.add_argument("--truth-classes", type=Path, help="JSON list of names, index = id")
    parser.add_argument("--out", type=Path, required=True)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    image = open_image(args.image)
    prompt = _prompt(args)
    truth = None
    if args.truth is not None:
        names = None if args.truth_classes is None else _read_names(args.truth_classes)
        truth = match_truth(open_mask(args.truth), image.shape[:2], prompt, names)
    scene = Scene(image)
    choices = load_choices(args.method, args.preset, args.precision)
    candidates = _candidates(args, [choice.name for choice in choices], prompt)
    report = []
    for choice in choices:
        options = Options(mode=choice.mode, seed=args.seed)
        prediction = choice.predictor.predict(scene, prompt, options)
        for index, candidate in candidates[choice.name]:
            prediction = prediction.with_candidate(index, candidate)
        report.append(
            write_prediction(
                prediction,
                args.out / choice.name,
                args.threshold,
                truth,
                args.overlap,
                args.image.name,
            )
        )
        logger.info("%s: %.2f s", choice.name, prediction.total_seconds)
    write_results(args.out, str(args.image), prompt, report)


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
        index = _find(name, classes)
        if index is None:
            raise PromptError(f"--{option} {text}: “{name}” is none of the classes in --text.")
        return index, values

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


def _find(name: str, classes: Sequence[Sequence[str]]) -> int | None:
    """The class of that name, else the first with such a synonym; whatever the case."""
    wanted = name.strip().lower()
    for names in ([one[0]] for one in classes), classes:
        for index, synonyms in enumerate(names):
            if wanted in (synonym.lower() for synonym in synonyms):
                return index
    return None


def _candidates(
    args: argparse.Namespace, names: Sequence[str], prompt: Prompt
) -> dict[str, list[tuple[int, int]]]:
    """Class and candidate, both from 0, that are to be taken for each method."""
    classes = [concept.synonyms for concept in prompt.concepts]
    chosen: dict[str, list[tuple[int, int]]] = {name: [] for name in names}
    for text in args.candidate:
        method, _, rest = text.partition(":")
        name, _, number = rest.rpartition(":")
        index = _find(name, classes)
        if method not in chosen or index is None or not number.isdecimal():
            raise PromptError(
                f"--candidate {text}: give one of {', '.join(names)}, a colon, a class in --text, "
                "a colon and a number from 1."
            )
        chosen[method].append((index, int(number) - 1))
    return chosen


def _read_names(path: Path) -> list[str]:
    try:
        names = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise TruthError(f"{path} is no JSON list of class names: {error}.") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TruthError(f"{path} must be a JSON list of class names, index = id.")
    return names
