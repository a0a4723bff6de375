"""The report: tables next to the papers' figures, plots, and agreement of the rankings."""

from __future__ import annotations

import itertools
import json
import platform
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from .run import result_file
from .trials import SEEDS, TABLES, Row, Setup, Table, Trial, all_trials

Results = Mapping[tuple[Trial, int], dict]


LISTED = 6
"""Limit of pairs listed by name; more are only counted."""


def write_report(work: Path, out: Path) -> None:
    """Write ``README.md``, ``figures.json`` and a plot per table from the results in ``work``."""
    results = {
        (trial, seed): json.loads(file.read_text())
        for trial in all_trials()
        for seed in SEEDS
        if (file := result_file(work, trial, seed)).is_file()
    }
    out.mkdir(parents=True, exist_ok=True)
    figures = {f"{trial.name}, seed {seed}": result for (trial, seed), result in results.items()}
    (out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    sections = [_introduction(results)]
    for number, table in enumerate(TABLES, start=1):
        plot = f"{number}.png"
        _draw(table, results, out / plot)
        sections.append(_section(table, results, plot))
    (out / "README.md").write_text("\n\n".join(sections) + "\n")


def _introduction(results: Results) -> str:
    total = len(all_trials()) * len(SEEDS)
    hours = sum(result["seconds"] for result in results.values()) / 3600
    setups = "\n".join(map(_setup, dict.fromkeys(table.setup for table in TABLES)))
    missing = "" if len(results) == total else f" **{total - len(results)} runs are missing.**"
    return f"""# The papers' comparisons at small scale

Made by `make benchmark-tiny`: {len(results)} of {total} runs, {hours:.1f} hours of one
{platform.machine()} CPU core in all, torch {torch.__version__}.{missing}

Every training starts from the tiny preset's SAM and CLIP; how long it is, on what, and what is
measured, depends on the table:

{setups}

Figures are class-wise mIoU in percent, mean ± standard deviation over {len(SEEDS)} seeds (other
training images, weights, order and points with each); “all” is the mean of the sets.

The papers' figures are quoted; they were measured with models a hundred times larger on other data,
so only the order can be compared. An order counts as settled here when the difference of two rows,
seed by seed, is larger than twice its standard error."""


def _setup(setup: Setup) -> str:
    recipe = setup.recipe
    titles = ", ".join(f"“{table.title}”" for table in TABLES if table.setup is setup)
    labelled = ", ".join(f"{count} of {name}" for name, count in setup.labelled.items())
    measured = ", ".join(f"{count} of {name}" for name, count in setup.measured.items())
    return (
        f"- {titles}: {setup.title} {recipe.steps} steps of {recipe.batch_size} images with "
        f"{recipe.classes_per_image} classes each, learning rate {recipe.lr:g}. Training images: "
        f"{labelled}. Held-back images: {measured}."
    )


def _per_seed(row: Row, results: Results, key: str = "miou") -> dict[str, np.ndarray]:
    """Return the figures of a row by set, one per seed, in percent; empty if nothing was run."""
    runs = [results[row.trial, seed] for seed in SEEDS if (row.trial, seed) in results]
    if not runs:
        return {}
    values = {
        name: np.array([100 * run["figures"][row.mode][name][key] for run in runs])
        for name in row.trial.setup.measured
    }
    return {**values, "all": np.mean(list(values.values()), axis=0)}


def _spread(values: np.ndarray) -> str:
    spread = f"{values.mean():.1f} ± {values.std():.1f}"
    return spread if len(values) == len(SEEDS) else f"{spread} ({len(values)} of {len(SEEDS)})"


def _section(table: Table, results: Results, plot: str) -> str:
    names = (*table.setup.measured, "all")
    lines = [f"| | {' | '.join(names)} | paper |", "|---" * (len(names) + 2) + "|"]
    for row in table.rows:
        figures = _per_seed(row, results)
        cells = [_spread(figures[name]) if figures else "–" for name in names]
        paper = "–" if row.paper is None else f"{row.paper:g}"
        lines.append(f"| {row.label} | {' | '.join(cells)} | {paper} |")
    return f"""## {table.title}

Paper: {table.paper}.

{chr(10).join(lines)}

![{table.title}]({plot})

{_orders(table, results)}"""


def _orders(table: Table, results: Results) -> str:
    """Describe which of the paper's rankings hold here, which do not, and which are undecided."""
    agree, differ, open_ = [], [], []
    known = [
        row
        for row in table.rows
        if row.paper is not None and all((row.trial, seed) in results for seed in SEEDS)
    ]
    for one, other in itertools.combinations(known, 2):
        if one.paper == other.paper:
            continue
        better, worse = sorted(
            (one, other), key=lambda row: row.paper, reverse=not table.lower_is_better
        )
        margin = _per_seed(better, results)["all"] - _per_seed(worse, results)["all"]
        words = f"{better.label} over {worse.label} ({margin.mean():+.1f})"
        error = margin.std(ddof=1) / len(margin) ** 0.5
        if abs(margin.mean()) <= 2 * error:
            open_.append(words)
        else:
            (agree if margin.mean() > 0 else differ).append(words)
    if not (agree or differ or open_):
        return "The paper has no order to compare with."
    pairs = len(agree) + len(differ) + len(open_)
    listed = f": {'; '.join(agree)}." if agree else "."
    parts = [f"**Agrees with the paper** in {len(agree)} of {pairs} pairs{listed}"]
    if differ:
        parts.append(f"**Differs**: {'; '.join(differ)}.")
    if open_:
        shown = f": {'; '.join(open_)}" if len(open_) <= LISTED else ""
        parts.append(f"Not settled: {len(open_)} of {pairs}{shown}.")
    return "\n\n".join(parts)


def _draw(table: Table, results: Results, picture: Path) -> None:
    """Draw bars of every row over the sets."""
    rows = [(row.label, _per_seed(row, results)) for row in table.rows]
    rows = [(label, figures) for label, figures in rows if figures]
    names = [*table.setup.measured, "all"]
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / max(1, len(rows))
    for number, (label, figures) in enumerate(rows):
        places = np.arange(len(names)) + (number - (len(rows) - 1) / 2) * width
        means = [figures[name].mean() for name in names]
        spreads = [figures[name].std() for name in names]
        axes.bar(places, means, width, yerr=spreads, label=label, error_kw={"lw": 0.8})
    axes.set(title=table.title, ylabel="mIoU, %", xticks=range(len(names)), xticklabels=names)
    if rows:
        figure.legend(loc="outside right upper", frameon=False, fontsize=7)
    figure.savefig(picture, dpi=110)
