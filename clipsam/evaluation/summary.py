"""Summary of scores per run, and the tables that contain it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from .metric_table import COSTS, METRICS, sampled
from .metrics import Counts, SampleScore, class_wise_miou, pooled_iou, roc_auc
from .rows import Row

Figures = dict[str, float]


def present_figures(scores: Sequence[SampleScore]) -> Figures:
    """Summarise one method and seed with present classes only.

    Returns:
        Each metric of :data:`METRICS` and :data:`COSTS` by its id, those of single objects and of
        objects told apart where they were measured; ``images`` counts images with a class. NaN
        without any sample.
    """
    scores = [score for score in scores if score.present]
    single = any(name in score.values for name in sampled(single_object=True) for score in scores)
    objects = any(score.objects is not None for score in scores)
    figures = {
        id: metric.reduce(scores)
        for id, metric in (METRICS | COSTS).items()
        if (single or not metric.single_object) and (objects or not metric.of_objects)
    }
    return {**figures, "images": len({score.image for score in scores})}


def absent_figures(scores: Sequence[SampleScore]) -> Figures | None:
    """Summarise one method and seed with absent classes; ``None`` if none were queried.

    Returns:
        ``miou`` over the same classes as with the presence oracle, but pixels predicted for an
        absent class count in its union; ``miou_by_presence`` the same with every mask emptied
        whose presence is below one half; ``presence_auc`` the AUC of presence
        (both NaN if it is unknown); ``false_alarms``, the share of absent classes
        with a non-empty mask; ``asked``, their number.
    """
    absent = [score for score in scores if not score.present]
    if not absent:
        return None
    presence = np.array([score.presence for score in scores])
    present = np.array([score.present for score in scores])
    known = not np.isnan(presence).any()
    return {
        "miou": _pooled_over_present(scores),
        "miou_by_presence": _pooled_over_present(map(_emptied, scores)) if known else math.nan,
        "presence_auc": roc_auc(presence, present) if known else math.nan,
        "false_alarms": _mean(float(score.counts.predicted > 0) for score in absent),
        "asked": len(absent),
    }


def _pooled_over_present(scores: Iterable[SampleScore]) -> float:
    """Compute class-wise mIoU over the classes that some image contains.

    Otherwise, with many classes, limits and shards would be scored by the number of classes they do
    not contain.
    """
    scores = list(scores)
    shown = {score.name for score in scores if score.present}
    return class_wise_miou(score for score in scores if score.name in shown)


def _emptied(score: SampleScore) -> SampleScore:
    if score.presence >= 0.5:
        return score
    return replace(score, counts=Counts(truth=score.counts.truth))


def summarize(rows: Iterable[Row], preset: str) -> list[dict]:
    """Summarise every method, in the order of the rows.

    Returns:
        Per method ``method``, ``mode``, ``preset``; ``seeds``, a list of ``seed``, ``present``
        (see :func:`present_figures`), ``classes`` (pooled IoU of each) and ``with_absent`` (see
        :func:`absent_figures`); ``mean`` and ``std`` over seeds of ``present``.
    """
    by_method: dict[tuple[str, str], dict[int, list[SampleScore]]] = {}
    for row in rows:
        by_seed = by_method.setdefault((row.method, row.mode), {})
        by_seed.setdefault(row.seed, []).append(row.score)
    methods = []
    for (method, mode), by_seed in by_method.items():
        seeds = [
            {
                "seed": seed,
                "present": present_figures(scores),
                "classes": pooled_iou(score for score in scores if score.present),
                "with_absent": absent_figures(scores),
            }
            for seed, scores in sorted(by_seed.items())
        ]
        figures = [present_figures(scores) for _, scores in sorted(by_seed.items())]
        methods.append(
            {
                "method": method,
                "mode": mode,
                "preset": preset,
                "mean": {k: _mean(f[k] for f in figures) for k in figures[0]},
                "std": {k: float(np.std([f[k] for f in figures])) for k in figures[0]},
                "seeds": seeds,
            }
        )
    return methods


def results_csv(methods: Sequence[Mapping]) -> str:
    """Format one line per method and seed, with the presence oracle."""
    measured = {id for method in methods for id in method["mean"]}
    metrics = [
        id
        for id, metric in METRICS.items()
        if not metric.single_object and (id in measured or not metric.of_objects)
    ]
    columns = ["method", "preset", "mode", "seed", *metrics, "images", *COSTS]
    lines = []
    for method in methods:
        for seed in method["seeds"]:
            values = {**method, **seed, **seed["present"]}
            lines.append([_cell(values[column]) for column in columns])
    return _csv(columns, lines)


def samples_csv(rows: Sequence[Row]) -> str:
    """Format one line per method, seed, image and class."""
    every, single = sampled(), sampled(single_object=True)
    if not any(name in row.score.values for name in single for row in rows):
        single = {}
    columns = [
        *("method", "mode", "seed", "image", "class", "present"),
        *every,
        *("intersection", "predicted", "truth", "presence", "seconds"),
        *single,
    ]
    lines = []
    for row in rows:
        score = row.score
        values = [
            *(row.method, row.mode, row.seed, score.image, score.name, int(score.present)),
            *(score.values.get(name, math.nan) for name in every),
            *(score.counts.intersection, score.counts.predicted, score.counts.truth),
            *(score.presence, score.seconds),
            *(score.values.get(name, math.nan) for name in single),
        ]
        lines.append([_cell(value) for value in values])
    return _csv(columns, lines)


def _csv(columns: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(lines)
    return stream.getvalue()


def _cell(value: object) -> object:
    """Format a number with six decimal places; unknown values are empty."""
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.6f}"


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return float(np.mean(listed)) if listed else math.nan
