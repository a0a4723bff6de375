"""HTML of the results: leaderboard, scores per class, and cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import gradio as gr

from ... import drawing
from ...evaluation.metric_table import ABSENT_COLUMNS, MASK_AP_NOTE, columns
from ..choices import MethodChoice
from .measuring import Case, Measuring, sample_iou

SORT = """
const table = () => element.querySelector("table");
let chosen = null; // [column, ascending] of the reader's own order

function sort() {
  if (!chosen || !table()) return;
  const [column, ascending] = chosen;
  const value = (row) => {
    const { value } = row.cells[column].dataset;
    return value === undefined ? row.cells[column].textContent : Number(value);
  };
  const known = (x) => typeof x === "string" || Number.isFinite(x);
  const rows = [...table().tBodies[0].rows].sort((one, other) => {
    const [a, b] = [value(one), value(other)];
    if (!known(a) || !known(b)) return known(b) - known(a); // Unknown ones last
    const order = typeof a === "string" ? a.localeCompare(b) : a - b;
    return ascending ? order : -order;
  });
  table().tBodies[0].append(...rows);
  [...table().tHead.rows[0].cells].forEach((head, index) => {
    head.ariaSort = index !== column ? null : ascending ? "ascending" : "descending";
  });
}

element.onclick = (event) => {
  const head = event.target.closest("th");
  if (!head?.querySelector("button")) return;
  const column = head.cellIndex;
  const first = head.dataset.first === "ascending";
  chosen = [column, chosen?.[0] === column ? !chosen[1] : first];
  sort();
};
watch("value", sort); // The figures run on in the order chosen.
"""

_ABSENT = {key: ABSENT_COLUMNS[key] for key in ("miou", "presence_auc", "false_alarms")}

_NUMBER = " class='number'"

Cell = str | tuple[float, str]
"""Text, or a number and its formatted text."""


def table(elem_id: str) -> gr.HTML:
    """Build an empty table, sortable by a click on a heading."""
    return gr.HTML(
        js_on_load=SORT, apply_default_css=False, elem_id=elem_id, elem_classes="figures"
    )


def leaderboard(measuring: Measuring) -> str:
    """Format one row per method, highest mIoU first; empty before the first image."""
    figures = measuring.summary()
    if not figures:
        return ""
    metrics = columns(next(iter(figures.values()))["mean"])
    best = {}
    for key, metric in metrics.items():
        values = [one["mean"][key] for one in figures.values() if not math.isnan(one["mean"][key])]
        best[key] = (min if metric.lower_is_better else max)(values, default=None)
    heads = ["Method", "Mode", *(metric.heading for metric in metrics.values()), "Images"]
    absent = _ABSENT if measuring.request.every_class else {}
    rows: list[list[Cell]] = []
    for choice, one in sorted(figures.items(), key=lambda item: -_known(item[1]["mean"]["miou"])):
        name, mode = choice.title.split(" · ")
        row: list[Cell] = [f"{_colour(measuring, choice)}{escape(name)}", escape(mode)]
        for key, metric in metrics.items():
            mean = one["mean"][key]
            number, text = _number(metric.factor * mean, metric.digits)
            leads = mean == best[key] and len(figures) > 1
            row.append((number, f"<b>{text}</b>" if leads else text))
        row.append(_number(one["mean"]["images"], 0))
        with_absent = one["seeds"][0]["with_absent"] or {}
        row += [_number(100 * with_absent.get(key, math.nan), 1) for key in absent]
        rows.append(row)
    rising = {"Method", "Mode"}
    rising |= {metric.heading for metric in metrics.values() if metric.lower_is_better}
    rising.add(ABSENT_COLUMNS["false_alarms"])
    note = _explained(measuring.request.every_class, "mask_ap" in metrics)
    return _table("Leaderboard", [*heads, *absent.values()], rows, rising, note)


def per_class(measuring: Measuring) -> str:
    """Format one row per class and one column per method; empty before any class."""
    figures, images = measuring.summary(), measuring.shown_in()
    if not images:
        return ""
    heads = ["Class", "Images", *(escape(choice.title) for choice in figures)]
    rows: list[list[Cell]] = [
        [
            escape(name),
            _number(count, 0),
            *(
                _number(100 * one["seeds"][0]["classes"].get(name, math.nan), 1)
                for one in figures.values()
            ),
        ]
        for name, count in images.items()
    ]
    note = "IoU in %, with the pixels of each class pooled over the images."
    return _table("Classes", heads, rows, {"Class"}, note)


def cases_html(worst: Sequence[Case], best: Sequence[Case]) -> str:
    """Format thumbnails to click; each button's ``data-index`` is the case's number."""
    rows = "".join(
        f"<h4>{title}</h4><div class='row'>{''.join(map(_case, cases))}</div>"
        for title, cases in (("Worst", worst), ("Best", best))
        if cases
    )
    if not rows:
        return ""
    return f"{rows}<p class='note'>Colour: prediction. White line: ground truth.</p>"


def cases_strip() -> gr.HTML:
    """Build an empty strip of cases; its ``click`` event carries ``index``, the case's number."""
    return gr.HTML(
        js_on_load="""
            element.onclick = (event) => {
              const button = event.target.closest("button");
              if (button) trigger("click", { index: Number(button.dataset.index) });
            };
        """,
        apply_default_css=False,
        elem_id="cases",
    )


def _case(case: Case) -> str:
    name, image = escape(case.score.name), escape(case.score.image)
    return (
        f"<button type='button' data-index='{case.number}' title='{name} in {image}'>"
        f"<img src='{case.picture}' alt=''><b>IoU {100 * sample_iou(case.score):.1f} %</b>"
        f"<span>{name}</span><small>{image}</small></button>"
    )


def _explained(every_class: bool, of_objects: bool) -> str:
    absent = (
        " Columns with absent classes: pixels predicted for an absent class count in its union. "
        "False alarms: the share of absent classes with a non-empty mask. A dash: unknown."
        if every_class
        else ""
    )
    objects = f" {MASK_AP_NOTE}" if of_objects else ""
    return (
        "mIoU pools the pixels of each class over the images and averages over classes; mean IoU, "
        f"Dice, MAE and boundary F are averages over samples (a class in an image).{objects} Only "
        "classes present in an image count, unless a heading says otherwise. Seconds are for "
        f"prediction alone; later methods reuse features already computed.{absent}"
    )


def _table(
    caption: str, heads: Sequence[str], rows: Sequence[Sequence[Cell]], rising: set[str], note: str
) -> str:
    """Format a table of at least one row; headings in ``rising`` sort in ascending order first."""
    head = "".join(
        f"<th scope='col'{'' if isinstance(cell, str) else _NUMBER} "
        f"data-first='{'ascending' if text in rising else 'descending'}'>"
        f"<button type='button'>{text}</button></th>"
        for text, cell in zip(heads, rows[0], strict=True)
    )
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return (
        f"<h3>{caption}</h3><div class='wide'><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div><p class='note'>{note}</p>"
    )


def _cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return f"<td>{cell}</td>"
    return f"<td{_NUMBER} data-value='{cell[0]}'>{cell[1]}</td>"


def _number(value: float, digits: int) -> tuple[float, str]:
    return value, "–" if math.isnan(value) else f"{value:.{digits}f}"


def _colour(measuring: Measuring, choice: MethodChoice) -> str:
    """Format the key to the colour of a method's cases."""
    colour = drawing.class_colour(measuring.request.choices.index(choice))
    return f"<i class='key' style='background:{colour}'></i>"


def _known(value: float) -> float:
    """Replace NaN, which has no order, by the lowest value."""
    return -1.0 if math.isnan(value) else value
