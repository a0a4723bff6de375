"""The table of scores against a ground truth, and reading what comes with one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape

from ..evaluation.metrics import dice, iou
from ..evaluation.truth import Truth, TruthError
from ..types import Prediction

HEADERS = ("Method", "Class", "IoU", "Dice", "Presence", "Area %")

MEAN = "mean over these classes of this image's IoU"

Cell = str | float | None


def read_names(text: str) -> tuple[str, ...] | None:
    """A list of class names, index = id, as typed; ``None`` if nothing is typed.

    Accepts names with commas between them, a JSON list, or a JSON object of ids to names.

    Raises:
        TruthError: JSON that is neither.
    """
    text = text.strip()
    if not text:
        return None
    if text[0] not in "[{":
        return tuple(name.strip() for name in text.split(","))
    try:
        names = json.loads(text)
        if isinstance(names, dict):
            by_id = {int(key): str(name) for key, name in names.items()}
            if min(by_id, default=0) < 0 or max(by_id, default=0) > 65535:
                raise ValueError("an id is not in 0 … 65535")
            names = [by_id.get(index, "") for index in range(max(by_id, default=-1) + 1)]
    except ValueError as error:
        raise TruthError(f"The list of class names is not valid JSON: {error}.") from None
    return tuple(str(name) for name in names)


def score_table(
    predictions: Mapping[str, Prediction], titles: Mapping[str, str], truth: Truth, threshold: float
) -> list[list[Cell]]:
    """Rows under :data:`HEADERS`: each method and class, then the method's mean.

    Args:
        predictions: by key of the choice.
        titles: what to call each key.
        truth: matched to the predictions' classes; classes that it does not know have no row.
        threshold: logits above it are mask.
    """
    rows: list[list[Cell]] = []
    for key, prediction in predictions.items():
        ious = []
        for index, text in enumerate(prediction.texts):
            counts = truth.score(prediction, index, threshold)
            if counts is None:
                continue
            ious.append(iou(counts))
            area = 100 * counts.predicted / max(1, int(truth.valid.sum()))
            presence = prediction.results[index].presence
            numbers = (ious[-1], dice(counts), presence, area)
            rows.append([titles[key], text, *map(_rounded, numbers)])
        rows.append([titles[key], MEAN, _rounded(_mean(ious)), None, None, None])
    return rows


def table_html(rows: Sequence[Sequence[Cell]]) -> str:
    """Rows of :func:`score_table` as a table; nothing without rows.

    Not a ``gr.Dataframe``: that draws only the rows which it believes to be in view, and loads its
    code when first shown.
    """
    if not rows:
        return ""
    head = "".join(f"<th scope='col'>{escape(header)}</th>" for header in HEADERS)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return (
        "<table><caption>At the threshold above</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _cell(value: Cell) -> str:
    if isinstance(value, str):
        return f"<td>{escape(value)}</td>"
    return f"<td class='number'>{'' if value is None else f'{value:.4f}'}</td>"


def _mean(values: Sequence[float]) -> float:
    """Mean of the numbers among ``values``; a class that is neither there nor found has none."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else float("nan")


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)
