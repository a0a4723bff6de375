"""``segment``: one image with several methods, or a whole collection with one; results as files.

A collection is read and written by :mod:`..segment_many`, which is imported only for one.
"""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ..data.images import open_image, open_mask
from ..data.readers.common import DataError, read_json
from ..data.sources import SOURCES, is_source, open_source
from ..encoded_image import EncodedImage
from ..encoded_masks import (
    CocoIds,
    ImageMasks,
    Images,
    encode_masks,
    write_coco,
    write_maps,
    write_yolo,
)
from ..errors import PromptError
from ..evaluation.truth import TruthError, match_truth
from ..export import write_prediction, write_results
from ..marks import MARKS, find_class, prompt_with_marks
from ..method_args import (
    METHOD_ARG,
    METHOD_ARG_HELP,
    PRECISION_HELP,
    PRECISIONS,
    LoadedMethod,
    declare_prompt_settings,
    declare_tiling,
    load_methods_from_args,
    prompt_settings_of,
    tiling_of,
)
from ..predictor import PredictOptions
from ..tiling import Tiling
from ..types import OVERLAPS, Prompt, parse_classes
from ..writing import check_folder, printable

logger = logging.getLogger(__name__)


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="an image file, a folder of images, or one of "
        f"{', '.join(f'{kind}:PATH' for kind in SOURCES)}; a folder or data set takes "
        "one method, and goes on where it stopped",
    )
    parser.add_argument(
        "--text", required=True, help='class names: "," between classes, ";" between synonyms'
    )
    parser.add_argument(
        "--method", action="append", required=True, metavar=METHOD_ARG, help=METHOD_ARG_HELP
    )
    for kind in MARKS:
        parser.add_argument(
            f"--{kind.kind}",
            action="append",
            default=[],
            metavar=f"CLASS:{','.join(kind.fields())}",
            help=kind.help,
        )
    parser.add_argument("--preset", default="tiny", help="SAM and CLIP weights")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help=PRECISION_HELP)
    parser.add_argument("--threshold", type=float, default=0.0, help="mask threshold on logits")
    parser.add_argument(
        "--seed", type=int, default=0, help="random seed of the points sampled from similarity maps"
    )
    declare_prompt_settings(parser)
    declare_tiling(parser)
    parser.add_argument(
        "--overlap",
        choices=OVERLAPS,
        default=OVERLAPS[0],
        help="which class a pixel claimed by several classes is assigned to",
    )
    parser.add_argument(
        "--candidate",
        action="append",
        default=[],
        metavar="NAME:CLASS:1|2|3",
        help="use one of SAM's candidate masks as the result; NAME is the method's output folder",
    )
    parser.add_argument(
        "--truth", type=Path, help="binary mask, or PNG with the class id of each pixel"
    )
    parser.add_argument("--truth-classes", type=Path, help="JSON list of class names by id")
    files = parser.add_argument_group("further files, one mask for each object")
    files.add_argument(
        "--regions",
        action="store_true",
        help="divide masks of methods that tell no objects apart into connected regions",
    )
    files.add_argument("--coco", action="store_true", help="coco.json, one annotation per object")
    files.add_argument("--yolo", action="store_true", help="yolo/, labels for ultralytics")
    files.add_argument(
        "--png", action="store_true", help="label-maps/ and instance-maps/, index PNGs"
    )
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Segment the image with each method, or the collection, and write the results."""
    if not math.isfinite(args.threshold):
        raise PromptError(f"--threshold {args.threshold}: expected a finite number.")
    tiling = tiling_of(args)
    if is_source(args.source):
        _segment_source(args, tiling)
        return
    path = Path(args.source)
    image = open_image(path)
    marks = [mark for kind in MARKS for mark in map(kind.from_text, getattr(args, kind.kind))]
    prompt = prompt_with_marks(parse_classes(args.text), marks)
    truth = None
    if args.truth is not None:
        names = None if args.truth_classes is None else _read_names(args.truth_classes)
        truth = match_truth(open_mask(args.truth), image.shape[:2], prompt, names)
        if truth.note:
            logger.warning(truth.note)
    check_folder(args.out)
    encoded = EncodedImage(image)
    choices = _load(args)
    candidates = _candidates(args, [choice.name for choice in choices], prompt)
    report = []
    for choice in choices:
        prediction = choice.predictor.predict(encoded, prompt, _options(args, choice, tiling))
        for index, candidate in candidates[choice.name]:
            prediction = prediction.with_candidate(index, candidate)
        report.append(
            write_prediction(
                prediction,
                args.out / choice.name,
                args.threshold,
                truth,
                args.overlap,
                printable(path.name),
            )
        )
        if args.coco or args.yolo or args.png:
            masks = encode_masks(prediction, args.threshold, args.regions)
            found = ImageMasks(path.name, printable(path.name), image.shape[:2], masks)
            ids = CocoIds(range(1, len(prompt.texts) + 1))
            _write_files(args, args.out / choice.name, partial(list, (found,)), prompt, ids)
        # After each, so that a run that ends early leaves what it has done.
        write_results(args.out, printable(path), prompt, report)
        logger.info("%s: %.2f s", choice.name, prediction.total_seconds)


def _segment_source(args: argparse.Namespace, tiling: Tiling | None) -> None:
    """Segment a folder or a data set."""
    for option in (*(kind.kind for kind in MARKS), "candidate", "truth", "truth_classes"):
        if getattr(args, option):
            raise PromptError(
                f"--{option.replace('_', '-')} is for a single image, but {args.source} is a "
                "folder or a data set."
            )
    if len(args.method) > 1 or args.overlap != OVERLAPS[0]:
        raise PromptError(
            "A folder or a data set takes one --method and no --overlap. Run the command once for "
            "each method, with an --out of its own."
        )
    from ..segment_many import ManySettings, coco_ids, segment_many

    prompt = prompt_with_marks(parse_classes(args.text), [])
    check_folder(args.out)
    source = open_source(args.source, args.out)
    (choice,) = _load(args)
    settings = ManySettings(
        source=args.source,
        classes=tuple(concept.synonyms for concept in prompt.concepts),
        method=args.method[0],
        preset=args.preset,
        precision=args.precision,
        threshold=args.threshold,
        regions=args.regions,
        options=_options(args, choice, tiling),
    )
    table = segment_many(source, choice.predictor, prompt, settings, args.out)
    _write_files(args, args.out, table.images, prompt, coco_ids(source, prompt.texts))
    images, errors = table.count()
    logger.info("%d images, %d of them with an error.", images, errors)


def _load(args: argparse.Namespace) -> list[LoadedMethod]:
    """Load the methods, with images prepared as the protocol says."""
    return load_methods_from_args(args.method, args.preset, args.precision, protocol=args.protocol)


def _options(
    args: argparse.Namespace, choice: LoadedMethod, tiling: Tiling | None
) -> PredictOptions:
    """Return the options of a method's predictions."""
    return PredictOptions(choice.mode, args.seed, tiling=tiling, **prompt_settings_of(args))


def _write_files(
    args: argparse.Namespace, folder: Path, images: Images, prompt: Prompt, ids: CocoIds
) -> None:
    """Write the further files that are asked for."""
    if args.coco:
        write_coco(folder / "coco.json", images, prompt.texts, ids)
    if args.yolo:
        write_yolo(folder / "yolo", images, prompt.texts)
    if args.png:
        write_maps(folder, images, prompt.texts)


def _candidates(
    args: argparse.Namespace, names: Sequence[str], prompt: Prompt
) -> dict[str, list[tuple[int, int]]]:
    """Return class and candidate, both from 0, to be used for each method."""
    classes = [concept.synonyms for concept in prompt.concepts]
    chosen: dict[str, list[tuple[int, int]]] = {name: [] for name in names}
    for text in args.candidate:
        method, _, rest = text.partition(":")
        name, _, number = rest.rpartition(":")
        index = find_class(name, classes)
        if method not in chosen or index is None or not number.isdecimal():
            raise PromptError(
                f"--candidate {text}: expected one of {', '.join(names)}, a colon, a class in "
                "--text, a colon and a number of at least 1."
            )
        chosen[method].append((index, int(number) - 1))
    return chosen


def _read_names(path: Path) -> list[str]:
    try:
        names = read_json(path)
    except DataError as error:
        raise TruthError(f"{error}. Give a JSON list of class names.") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TruthError(f"{path} must be a JSON list of class names by id.")
    return names
