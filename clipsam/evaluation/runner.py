"""Run methods over a labelled data set and score every class of every image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..data.samples import VOID, LabelledImage, SegmentationData
from ..predictor import Options, Predictor
from ..prompting import points_in_mask, stable_seed
from ..scene import Scene
from ..types import Concept, Prompt
from .metrics import ClassScore, count, mean_absolute_error


@dataclass(frozen=True)
class Run:
    """A method in one mode.

    Attributes:
        method: key of the predictor, usually its id.
        mode: one of its modes.
        clicks: points per class, drawn from the truth, that stand for the user's; 0 for none.
    """

    method: str
    mode: str
    clicks: int = 0


@dataclass(frozen=True)
class SampleScore(ClassScore):
    """Score of one class in one image.

    Attributes:
        image: key of the image.
        mae: mean |sigmoid(logits) − truth|.
        seconds: share of the prediction's time.
    """

    image: str
    mae: float
    seconds: float


def evaluate(
    data: SegmentationData,
    predictors: Mapping[str, Predictor],
    runs: Sequence[Run],
    seeds: Sequence[int],
    progress: Callable[[int, int], None] | None = None,
) -> dict[tuple[Run, int], list[SampleScore]]:
    """Score every run with every seed on a data set.

    Only classes that are present in an image are asked (the papers' presence oracle). Images are
    scored at their own resolution; void pixels are not scored.

    Args:
        data: the images.
        predictors: methods by the keys that ``runs`` use.
        runs: what to run.
        seeds: of the points, drawn from maps or from the truth.
        progress: called with (images done, images in all).
    """
    scores: dict[tuple[Run, int], list[SampleScore]] = {(r, s): [] for r in runs for s in seeds}
    for done in range(len(data)):
        sample = data[done]
        scene = Scene(sample.image)
        truths = [(sample.names[value], sample.classes == value) for value in sample.present()]
        valid = sample.classes != VOID
        for run, seed in scores if truths else ():
            prompt = prompt_of(sample, run.clicks, seed)
            options = Options(mode=run.mode, seed=seed)
            prediction = predictors[run.method].predict(scene, prompt, options)
            for index, (name, truth) in enumerate(truths):
                logits = prediction.class_logits(index)
                scores[run, seed].append(
                    SampleScore(
                        name,
                        count(logits > 0, truth, valid),
                        sample.key,
                        mean_absolute_error(logits, truth, valid),
                        prediction.total_seconds / len(prediction.results),
                    )
                )
        if progress is not None:
            progress(done + 1, len(data))
    return scores


def prompt_of(sample: LabelledImage, clicks: int, seed: int) -> Prompt:
    """Ask for the classes that are present, with ``clicks`` points inside each one's truth."""
    concepts = []
    for value in sample.present():
        name = sample.names[value]
        if not clicks:
            concepts.append(Concept((name,)))
            continue
        rng = np.random.default_rng(stable_seed(f"{sample.key}/{name}", seed))
        points = points_in_mask(sample.classes == value, clicks, rng)
        concepts.append(Concept((name,), points, np.ones(clicks, np.int64)))
    return Prompt(tuple(concepts))
