"""A reproduced table as Markdown and CSV: quoted, measured, difference."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

from ..writing import write_text
from .scope import Scope
from .tables import Metric, Row, Table

UNITS: dict[Metric, tuple[str, float, int]] = {
    "miou": ("mIoU, %", 100.0, 1),
    "label-map-miou": ("mIoU of all classes, %", 100.0, 1),
    "mae": ("MAE", 1.0, 3),
}
"""Heading of a metric, its unit as the papers', and the decimal places that they give."""


def write_report(table: Table, scope: Scope, out: Path, figures: Sequence[float | None]) -> None:
    """Write ``TABLE.md`` and ``TABLE.csv``; the same figures give the same files.

    Args:
        table: with its rows as they were run.
        scope: how it is reproduced.
        out: the folder.
        figures: measured fractions of the rows, ``None`` where not measured.
    """
    rows = list(zip(table.rows, figures, strict=True))
    for name, text in (
        (f"{table.name}.md", _markdown(table, scope, rows)),
        (f"{table.name}.csv", _csv(rows)),
    ):
        write_text(out / name, text, os.getpid())


def _markdown(table: Table, scope: Scope, rows: Sequence[tuple[Row, float | None]]) -> str:
    lines = [
        "| row | data | figure | quoted | measured | difference |",
        "|---|---|---|---|---|---|",
    ]
    for row, figure in rows:
        heading, _, places = UNITS[row.measurement.metric]
        measured, difference = _compared(row, figure)
        cells = (
            row.label,
            row.on,
            heading,
            _number(row.quoted, f".{places}f"),
            _number(measured, f".{places}f"),
            _number(difference, f"+.{places}f"),
        )
        lines.append(f"| {' | '.join(cells)} |")
    parts = [f"# {table.title}", f"Quoted: {table.source}. {how(scope)}", "\n".join(lines)]
    if table.remark:
        parts.append(table.remark)
    return "\n\n".join(parts) + "\n"


def how(scope: Scope) -> str:
    """Say in one or two sentences on what the rows are measured."""
    if scope == Scope(scope.root):
        return "With the paper's networks, data and training length."
    changes = [
        f"{name}: {value}"
        for name, value in (
            ("preset", scope.preset),
            ("data", scope.data),
            ("steps per training", scope.steps),
            ("images per measurement", scope.limit),
        )
        if value is not None
    ]
    return (
        f"With {', '.join(changes)} in every row, unlike the paper: compare the order of the rows, "
        "not their values."
    )


def _csv(rows: Sequence[tuple[Row, float | None]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("row", "data", "method", "mode", "metric", "quoted", "measured", "difference"))
    for row, figure in rows:
        measurement = row.measurement
        measured, difference = _compared(row, figure)
        writer.writerow(
            (
                row.label,
                row.on,
                measurement.method,
                measurement.mode,
                measurement.metric,
                "" if row.quoted is None else row.quoted,
                "" if measured is None else f"{measured:.6f}",
                "" if difference is None else f"{difference:.6f}",
            )
        )
    return stream.getvalue()


def _compared(row: Row, figure: float | None) -> tuple[float | None, float | None]:
    """Return a measured figure in the paper's unit, and the figure less the quoted value."""
    if figure is None:
        return None, None
    measured = UNITS[row.measurement.metric][1] * figure
    return measured, None if row.quoted is None else measured - row.quoted


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form).replace("-", "−")
