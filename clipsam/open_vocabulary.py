"""Evaluation with every class of a benchmark queried in every image."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from .data.readers import DataError, open_data
from .data.readers.registry import readers
from .data.samples import SegmentationData
from .data.splits import some_images
from .encoded_image import EncodedImage
from .errors import PromptError
from .evaluation.label_map_protocols import (
    OpenVocabularyResult,
    Protocol,
    evaluate_open_vocabulary,
    load_protocol,
)
from .evaluation.runner import MANUAL
from .measure import hardware
from .method_args import load_methods_from_args
from .names import fold_name
from .predictor import MethodInfo, PredictOptions
from .registry import SLIDING
from .types import Concept, Prompt
from .writing import check_folder, replacing, write_json

SUMMARY = "summary.json"
"""File of the figures, in the folder of an evaluation."""


@dataclass(frozen=True)
class OpenVocabulary:
    """What is measured.

    Attributes:
        data: ``KIND:PATH``; the kind may be left out if it is the benchmark's.
        method: ``ID[:MODE][@BUNDLE]``; without a mode, the first of its modes.
        benchmark: one of :data:`clipsam.evaluation.label_map_protocols.PROTOCOLS`; ``None`` asks
            for the class names of the data set.
        part: of the data set.
        preset: of the backbones.
        limit: number of images, drawn at random; ``None`` for all.
    """

    data: str
    method: str
    benchmark: str | None = None
    part: str = "val"
    preset: str = "tiny"
    limit: int | None = None


def open_vocabulary(asked: OpenVocabulary, out: Path | None) -> dict[str, Any]:
    """Evaluate a method.

    Args:
        asked: what is measured.
        out: folder for the scores of every class; ``None`` writes nothing.

    Returns:
        The figures and what they are of, as in the file :data:`SUMMARY`.

    Raises:
        ClipsamError: a method, preset, data set or folder that cannot be used.
    """
    data, protocol = _open(asked)
    if out is not None:
        check_folder(out)
    (choice,) = load_methods_from_args([asked.method], asked.preset)
    predictor = choice.predictor
    mode = _words_alone(choice.mode, predictor.info)
    prompt, places = _ask_once(protocol.prompts)
    # CAT-Seg and what builds on it resize probabilities; SAM's masks are resized as logits.
    follows_cat_seg = SLIDING in predictor.info.modes
    options = PredictOptions(mode=mode, protocol="cat-seg" if follows_cat_seg else None)
    seconds = []

    def label_map_of(image: np.ndarray, _names: tuple[str, ...]) -> np.ndarray:
        start = time.perf_counter()
        prediction = predictor.predict(EncodedImage(image), prompt, options)
        labels = prediction.label_map()
        seconds.append(time.perf_counter() - start)
        return places[labels]

    with tqdm(total=len(data), desc=protocol.name, unit="image", mininterval=1.0) as bar:
        result = evaluate_open_vocabulary(
            data, label_map_of, protocol, lambda done, _: bar.update(done - bar.n)
        )
    summary = {
        "benchmark": asked.benchmark,
        "data": asked.data,
        "part": asked.part,
        "protocol": protocol.name,
        "images": result.images,
        "classes": len(protocol.scored),
        "classes_present": int(result.confusion.present.sum()),
        "prompts": len(prompt.concepts),
        "method": predictor.info.id,
        "mode": mode,
        "bundle": None if choice.bundle is None else str(choice.bundle),
        "preset": asked.preset,
        "score_space": options.followed.score_space,
        "miou": None if math.isnan(result.mean_iou) else result.mean_iou,
        "seconds_per_image": sum(seconds) / len(seconds),
        "hardware": hardware(predictor.backbones.device),
    }
    if out is not None:
        _write(out, summary, result)
    return summary


def _open(asked: OpenVocabulary) -> tuple[SegmentationData, Protocol]:
    """Open the images and the protocol."""
    if asked.limit is not None and asked.limit < 1:
        raise PromptError(f"--limit {asked.limit}: expected at least 1.")
    spec, protocol = asked.data, None
    if asked.benchmark is not None:
        protocol = load_protocol(asked.benchmark)
        kind, colon, _ = spec.partition(":")
        if not colon or kind not in readers():
            spec = f"{protocol.kind}:{spec}"
    data = open_data(spec, asked.part)
    if not len(data):
        raise DataError(f"{spec} has no image in its part “{asked.part}”.")
    if protocol is None:
        firsts = tuple(names.split(", ")[0] for names in data.names)
        protocol = Protocol(spec, spec.partition(":")[0], data.names, firsts)
    if asked.limit is not None:
        data = some_images(data, min(asked.limit, len(data)))
    return data, protocol


def _words_alone(mode: str | None, info: MethodInfo) -> str:
    """Return the mode to run.

    Raises:
        PromptError: the mode needs points.
    """
    mode = mode or info.modes[0]
    if mode == MANUAL:
        others = [other for other in info.modes if other != MANUAL]
        instead = f"its mode {' or '.join(others)}" if others else "another method"
        raise PromptError(
            f"{info.name} ({mode}) needs points, but classes are queried by name alone. Choose "
            f"{instead}."
        )
    return mode


def _ask_once(names: Sequence[str]) -> tuple[Prompt, np.ndarray]:
    """Build a prompt of distinct names, since classes may share one, as nine pairs of A-847 do.

    Returns:
        A prompt of the distinct names, and the first index of each in ``names``, int64.
    """
    places: dict[str, int] = {}
    for place, name in enumerate(names):
        places.setdefault(fold_name(name), place)
    concepts = tuple(Concept((names[place],)) for place in places.values())
    return Prompt(concepts), np.array(list(places.values()), np.int64)


def _write(out: Path, summary: dict, result: OpenVocabularyResult) -> None:
    names, confusion = result.protocol.scored, result.confusion
    pixels = confusion.counts.sum(1)
    with (
        replacing(out / "per_class.csv") as partial,
        partial.open("w", newline="", encoding="utf-8") as file,
    ):
        lines = csv.writer(file)
        lines.writerow(("class", "iou", "pixels"))
        for name, iou, count in zip(names, confusion.iou_per_class(), pixels, strict=True):
            lines.writerow((name, "" if math.isnan(iou) else f"{iou:.6f}", count))
    with replacing(out / "confusion.npz") as partial:
        np.savez_compressed(partial, counts=confusion.counts, classes=np.array(names))
    write_json(out / SUMMARY, summary)  # The last: with it, all is there.
