"""Scores against a ground truth and costs, as tables and bars."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from ...drawing import display_size, nearest
from ...evaluation.map_scores import MapScore
from ...evaluation.metric_table import MaskComparison, shown_in_compare
from ...evaluation.metrics import iou
from ...evaluation.truth import Truth
from ...types import Overlap, Prediction

MEAN = "mean over the classes"

COSTS = ("Seconds", "Peak MB", "Parameters", "Trained")
"""Headings of a method's costs."""

CHARTED = ("IoU", "Seconds", "Peak MB")
"""Columns of the methods' table that are drawn as bars."""

Cell = str | float | None


def headers() -> list[str]:
    """Return the headings of :func:`score_table`."""
    titles = [metric.title for metric in shown_in_compare("mask").values()]
    return ["Method", "Class", *titles, "Presence", "Area %"]


def method_headers() -> list[str]:
    """Return the headings of :func:`method_table`."""
    metrics = shown_in_compare("mask") | shown_in_compare("map")
    return ["Method", *(metric.title for metric in metrics.values()), *COSTS]


def score_table(
    predictions: Mapping[str, Prediction],
    titles: Mapping[str, str],
    truth: Truth,
    threshold: float,
    overlap: Overlap = "independent",
) -> list[list[Cell]]:
    """Return rows under :func:`headers`: each method and class, then the method's mean.

    Args:
        predictions: by key of the choice.
        titles: title by key.
        truth: matched to the predictions' classes; classes not in it have no row.
        threshold: logits above it belong to the mask.
        overlap: assignment of pixels claimed by several classes.
    """
    rows: list[list[Cell]] = []
    metrics = list(shown_in_compare("mask").values())
    for key, prediction in predictions.items():
        ious = []
        for index, text, compared in _compared(prediction, truth, threshold, overlap):
            ious.append(iou(compared.counts))
            area = 100 * compared.counts.predicted / max(1, int(truth.valid.sum()))
            presence = prediction.results[index].presence
            numbers = (*(metric.of_sample(compared) for metric in metrics), presence, area)
            rows.append([titles[key], text, *map(_rounded, numbers)])
        rest = [None] * (len(headers()) - 3)
        rows.append([titles[key], MEAN, _rounded(_mean(ious)), *rest])
    return rows


def method_table(
    predictions: Mapping[str, Prediction],
    titles: Mapping[str, str],
    parameters: Mapping[str, Mapping[str, int]],
    truth: Truth | None = None,
    threshold: float = 0.0,
    maps: Mapping[str, Mapping[str, MapScore]] | None = None,
    overlap: Overlap = "independent",
) -> list[list[Cell]]:
    """Return rows under :func:`method_headers`: scores and costs of each method.

    Args:
        predictions: by key of the choice.
        titles: title by key.
        parameters: ``total`` and ``trainable`` by key, as far as known.
        truth: matched to the predictions' classes; without it there are no scores.
        threshold: logits above it belong to the mask.
        maps: :func:`score_maps` by key, as far as done.
        overlap: assignment of pixels claimed by several classes.
    """
    metrics = shown_in_compare("mask")
    rows: list[list[Cell]] = []
    for key, prediction in predictions.items():
        values: dict[str, list[float]] = {name: [] for name in metrics}
        if truth is not None:
            for _, _, compared in _compared(prediction, truth, threshold, overlap):
                for name, metric in metrics.items():
                    values[name].append(metric.of_sample(compared))
        scores = (maps or {}).get(key, {}).values()
        known = parameters.get(key, {})
        rows.append(
            [
                titles[key],
                *(_rounded(_mean(measured)) for measured in values.values()),
                *(
                    _rounded(_mean([score[name] for score in scores if name in score]))
                    for name in shown_in_compare("map")
                ),
                prediction.total_seconds,
                prediction.peak_memory_mb,
                known.get("total"),
                known.get("trainable"),
            ]
        )
    return rows


def method_table_html(rows: Sequence[Sequence[Cell]]) -> str:
    """Format rows of :func:`method_table` as a table, leaving out empty columns."""
    if not rows:
        return ""
    heads = method_headers()
    shown = [index for index in range(len(heads)) if any(row[index] is not None for row in rows)]
    head = "".join(f"<th scope='col'>{heads[index]}</th>" for index in shown)
    body = "".join(
        f"<tr><th scope='row'>{escape(str(row[0]))}</th>"
        + "".join(
            f"<td class='number'>{_written(heads[index], row[index])}</td>" for index in shown[1:]
        )
        + "</tr>"
        for row in rows
    )
    return (
        "<table><caption>Scores per method, averaged over the classes in the ground "
        f"truth</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def bar_charts(rows: Sequence[Sequence[Cell]]) -> str:
    """Format the :data:`CHARTED` columns of :func:`method_table` as one bar chart each.

    Bars are cells of a table: they wrap long names, and are read out. IoU goes from 0 to 1, all
    else from 0 to the highest. Colours are the page's, in light and dark.
    """
    charts = []
    for header in CHARTED:
        index = method_headers().index(header)
        values = [(str(row[0]), float(value)) for row in rows if (value := row[index]) is not None]
        if values:
            most = 1.0 if header == "IoU" else max(value for _, value in values)
            bars = "".join(_bar(header, title, value, most) for title, value in values)
            charts.append(
                f"<table class='bars' style='width:100%'><caption style='text-align:left'>{header}"
                f"</caption><tbody>{bars}</tbody></table>"
            )
    return "".join(charts)


def _bar(header: str, title: str, value: float, most: float) -> str:
    share = 100 * value / most if most else 0.0
    return (
        f"<tr><th scope='row' style='width:40%;text-align:left;font-weight:400'>{escape(title)}"
        "</th><td style='width:60%'><div style='display:flex;align-items:center;gap:0.4em'>"
        "<div style='flex:1'><div style='height:0.8em;border-radius:2px;"
        f"background:var(--color-accent,#4f6df5);width:{share:.1f}%'></div></div>"
        f"<span class='number'>{_written(header, value)}</span></div></td></tr>"
    )


def _written(header: str, value: Cell) -> str:
    """Format a number of the methods' table."""
    if value is None:
        return ""
    number = float(value)
    match header:
        case "Seconds":
            return f"{number:.2f}"
        case "Peak MB":
            return f"{number:.0f}"
        case "Parameters" | "Trained":
            return f"{number / 1e6:.2f} M"
        case _:
            return f"{number:.4f}"


def shown_iou(
    prediction: Prediction, truth: Truth, threshold: float, overlap: Overlap
) -> float | None:
    """Return the mean IoU at the size at which an image is displayed, fast enough for a slider.

    For arguments see :func:`score_table`.

    Returns:
        the mean over the classes in the truth; ``None`` if none is present or predicted.
    """
    size = display_size(prediction.transform.image_size)
    masks = {text: nearest(mask, size) for text, mask in truth.masks.items()}
    shown = Truth(masks, nearest(truth.valid, size))
    compared = _compared(prediction, shown, threshold, overlap, size)
    return _rounded(_mean([iou(one.counts) for _, _, one in compared]))


def _compared(
    prediction: Prediction,
    truth: Truth,
    threshold: float,
    overlap: Overlap,
    size: tuple[int, int] | None = None,
) -> Iterator[tuple[int, str, MaskComparison]]:
    """Yield index, name and comparison of each class in the ground truth.

    ``size`` is the (height, width) of the truth, if not that of the image.
    """
    known = [index for index, text in enumerate(prediction.texts) if text in truth.masks]
    masks = prediction.each_mask(threshold, size, overlap, known)
    for index, mask in zip(known, masks, strict=True):
        text = prediction.texts[index]
        compared = truth.compare(text, mask)
        if compared is not None:
            yield index, text, compared


def table_html(rows: Sequence[Sequence[Cell]]) -> str:
    """Format rows of :func:`score_table` as a table; empty without rows.

    Not a ``gr.Dataframe``, which draws only the rows that it considers visible, and loads its code
    when first shown.
    """
    if not rows:
        return ""
    head = "".join(f"<th scope='col'>{escape(header)}</th>" for header in headers())
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return (
        "<table><caption>At the threshold "
        f"above</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _cell(value: Cell) -> str:
    if isinstance(value, str):
        return f"<td>{escape(value)}</td>"
    return f"<td class='number'>{'' if value is None else f'{value:.4f}'}</td>"


def _mean(values: Sequence[float]) -> float:
    """Average the numbers among ``values``; classes neither present nor predicted have none."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else float("nan")


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)
