"""Evaluation of methods on a labelled data set, per class and image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..data.samples import VOID, LabelledImage, SegmentationData
from ..data.synonyms import with_synonyms
from ..encoded_image import EncodedImage
from ..names import fold_name
from ..predictor import PredictOptions, Predictor
from ..prompting import points_in_mask, stable_seed
from ..types import Concept, Prediction, Prompt
from .mask_ap import ObjectMatches, match_objects
from .metric_table import MaskComparison, measure
from .metrics import SampleScore

MANUAL = "manual"
"""The mode that needs points, here sampled from the truth."""


@dataclass(frozen=True)
class MethodRun:
    """A method in one mode.

    Attributes:
        method: key of the predictor, usually its id.
        mode: one of its modes.
        clicks: points per class, sampled from the truth to simulate a user; 0 for none.
        options: of its predictions, but for mode and seed.
    """

    method: str
    mode: str
    clicks: int = 0
    options: PredictOptions = field(default_factory=PredictOptions)

    @property
    def synonyms(self) -> bool:
        """Whether a class is asked by all its names."""
        return self.options.followed.synonyms


def evaluate(
    data: SegmentationData,
    predictors: Mapping[str, Predictor],
    runs: Sequence[MethodRun],
    seeds: Sequence[int],
    progress: Callable[[int, int], object] | None = None,
    *,
    all_classes: bool = False,
) -> dict[tuple[MethodRun, int], list[SampleScore]]:
    """Score every run with every seed on a data set.

    Images are scored at their own resolution; void pixels are not scored.

    Args:
        data: the images.
        predictors: methods by the keys in ``runs``.
        runs: the runs.
        seeds: random seeds of the points, sampled from maps or from the truth.
        progress: called with (images done, total).
        all_classes: query every class in every image, as in open-vocabulary segmentation; otherwise
            those present (the presence oracle of the other papers).
    """
    scores: dict[tuple[MethodRun, int], list[SampleScore]] = {
        (r, s): [] for r in runs for s in seeds
    }
    for done in range(len(data)):
        sample = data[done]
        encoded = EncodedImage(sample.image)
        absent = absent_classes(sample) if all_classes else ()
        for run, seed in scores:
            predictor = predictors[run.method]
            scores[run, seed] += score_image(sample, encoded, predictor, run, seed, absent)
        if progress is not None:
            progress(done + 1, len(data))
    return scores


def score_image(
    sample: LabelledImage,
    encoded: EncodedImage,
    predictor: Predictor,
    run: MethodRun,
    seed: int,
    absent: Sequence[str] = (),
    single_object: bool = False,
    seen: Callable[[SampleScore, np.ndarray, np.ndarray], None] | None = None,
) -> list[SampleScore]:
    """Score one run with one seed on one image.

    Args:
        sample: the image and its truth.
        encoded: the image, shared by all runs.
        predictor: the method of the run.
        run: the run.
        seed: of the points.
        absent: classes to query besides the present ones, but not if a user would have to click
            on them. If classes compete, all are queried together.
        single_object: whether to add the camouflage papers' figures to present classes.
        seen: called with each score, its mask and the truth, both bool (H, W).

    Returns:
        Scores of the present classes, then of the absent ones.
    """
    valid = sample.classes != VOID
    options = replace(run.options, mode=run.mode, seed=seed)
    queries: list[tuple[Prompt, list[np.ndarray]]] = []
    if sample.present():
        truths = [sample.classes == value for value in sample.present()]
        queries.append((prompt_of(sample, run.clicks, seed, run.synonyms), truths))
    if absent and run.mode != MANUAL and valid.any():
        prompt = Prompt(tuple(Concept(_names(name, run.synonyms)) for name in absent))
        truths = [np.zeros_like(valid)] * len(absent)
        if predictor.joint and queries:
            first, masks = queries.pop()
            prompt, truths = Prompt(first.concepts + prompt.concepts), masks + truths
        queries.append((prompt, truths))
    scores = []
    for prompt, truths in queries:
        prediction = predictor.predict(encoded, prompt, options)
        for index, truth in enumerate(truths):
            logits = prediction.class_logits(index)
            present = bool(truth.any())
            compared = MaskComparison(logits > 0, truth, valid, logits)
            score = SampleScore(
                name=prediction.texts[index],
                counts=compared.counts,
                image=sample.key,
                values=measure(compared, single_object and present),
                seconds=prediction.total_seconds / len(truths),
                present=present,
                presence=float(prediction.results[index].presence),
                objects=_match_objects(sample, prediction, index, truth),
            )
            scores.append(score)
            if seen is not None:
                seen(score, compared.mask, truth)
    return scores


def _match_objects(
    sample: LabelledImage, prediction: Prediction, index: int, truth: np.ndarray
) -> ObjectMatches | None:
    """Match the objects of one class, whose truth is bool (H, W), if the data set has any."""
    if not sample.tells_objects:
        return None
    numbers = np.unique(sample.segments[truth])
    truths = [truth & (sample.segments == number) for number in numbers if number]
    found = ((one.score, one.mask) for one in prediction.each_instance(index))
    return match_objects(found, truths, sample.classes == VOID)


def prompt_of(sample: LabelledImage, clicks: int, seed: int, synonyms: bool = False) -> Prompt:
    """Build a prompt of the classes present, with ``clicks`` points inside each one's truth.

    With ``synonyms`` a class is asked by all its names, see :mod:`clipsam.data.synonyms`.
    """
    concepts = []
    for value in sample.present():
        name = sample.names[value]
        if not clicks:
            concepts.append(Concept(_names(name, synonyms)))
            continue
        rng = np.random.default_rng(stable_seed(f"{sample.key}/{fold_name(name)}", seed))
        points = points_in_mask(sample.classes == value, clicks, rng)
        marks = points, np.ones(clicks, np.int64)
        concepts.append(Concept(_names(name, synonyms), *marks))
    return Prompt(tuple(concepts))


def _names(name: str, synonyms: bool) -> tuple[str, ...]:
    return with_synonyms(name) if synonyms else (name,)


def absent_classes(sample: LabelledImage, limit: int | None = None) -> tuple[str, ...]:
    """Return the names of absent classes: all, or up to ``limit`` chosen by the image's key."""
    present = {sample.names[value] for value in sample.present()}
    absent = [name for name in dict.fromkeys(sample.names) if name not in present]
    if limit is None or limit >= len(absent):
        return tuple(absent)
    rng = np.random.default_rng(stable_seed(f"{sample.key}/absent", 0))
    chosen = rng.choice(len(absent), limit, replace=False)
    return tuple(absent[index] for index in sorted(chosen))
