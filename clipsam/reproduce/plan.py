"""What reproducing a table needs: data, weights, trainings, and what of it is there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..data.checking import check_data
from ..data.readers import DataError, open_data
from ..registry import find_info
from ..training.prompted_samples import PromptedSamples
from ..training.recipe import TunedSamRecipe
from ..training.train_method import hold_out
from ..weights.availability import has_weights, missing_weights
from ..weights.bundle import CONFIG, read_config
from ..weights.presets import find_preset
from .report import how
from .run import PreparedTraining, figure, open_job, prepare, split_file, trainings
from .scope import Scope, bundle_folder
from .tables import Measurement, Table, Training

MOST_READ = 6000
"""Images whose labels are read to count the samples of a split."""


def plan(table: Table, scope: Scope, out: Path) -> str:
    """Describe in Markdown what running a table needs and what is there or done.

    Args:
        table: the paper's table.
        scope: how it is reproduced.
        out: folder of the run; nothing is written.

    Raises:
        PromptError: no such preset, or a setting that it cannot have.
    """
    table = scope.apply(table)
    measured = [figure(out, row.measurement) is not None for row in table.rows]
    parts = [
        f"# Plan: {table.title}",
        f"{table.source}. {how(scope)}",
        f"{len(table.rows)} rows, {sum(measured)} measured; {len(trainings(table))} trainings.",
        "## Data",
        _data(table, scope.root),
        "## Weights",
        _weights(row.measurement for row in table.rows),
    ]
    if trainings(table):
        parts += ["## Trainings", _trainings(table, scope.root, out)]
    if table.remark:
        parts += ["## Before comparing", table.remark]
    return "\n\n".join(parts) + "\n"


def _data(table: Table, root: Path) -> str:
    needed = dict.fromkeys(
        part
        for row in table.rows
        for part in (
            *(row.measurement.training.data if row.measurement.training else ()),
            row.measurement.data,
        )
    )
    lines = ["| data set | part | state |", "|---|---|---|"]
    for part in needed:
        spec = part.spec(root)
        try:
            state = f"{len(open_data(spec, part.part))} images"
        except DataError as error:
            state = f"missing: {error}"
        lines.append(f"| `{spec}` | {part.part} | {state} |")
    lists = dict.fromkeys(
        split_file(one, root)
        for one in trainings(table)
        if "/" in one.split and not one.data[0].path.startswith("/")
    )
    for file in lists:
        there = "used" if file.is_file() else "not there: a seeded random split of the same size"
        lines.append(f"| `{file}`, UniMatch's list of labelled images | train | {there} |")
    return "\n".join(lines)


def _weights(measurements: Iterable[Measurement]) -> str:
    lines = []
    for preset_name, method in dict.fromkeys((one.preset, one.method) for one in measurements):
        preset, info = find_preset(preset_name), find_info(method)
        missing = missing_weights(info, preset)
        if missing:
            repos = ", ".join(one.repo for one in missing)
            extra = f" {method}" if info.extra_networks(preset) else ""
            state = f"{repos} missing: `python -m clipsam download {preset_name}{extra}`"
        else:
            state = "there" if has_weights(preset) else "SAM and CLIP of the preset are missing"
        lines.append(f"- `{method}` with preset `{preset_name}`: {state}")
    return "\n".join(lines)


def _trainings(table: Table, root: Path, out: Path) -> str:
    """List the trainings; hours of one to come are at the step time of one finished here."""
    wanted = trainings(table)
    finished = {one: read for one in wanted if (read := _finished(bundle_folder(out, one)))}
    pace = {
        (one.method, one.preset): minutes / 60 / steps for one, (steps, minutes) in finished.items()
    }
    lines = ["| method | settings | split | prompts | steps | hours |", "|---|---|---|---|---|---|"]
    for one in wanted:
        if one in finished:
            length = str(finished[one][0])
            hours = f"{finished[one][1] / 60:.2f}, finished"
        else:
            prepared = prepare(one)
            steps = _steps(one, prepared, root)
            length = f"{prepared.recipe.epochs:g} epochs" if steps is None else str(steps)
            known = pace.get((one.method, one.preset))
            hours = "–" if known is None or steps is None else f"about {known * steps:.2f}"
        cells = (
            f"`{one.method}`",
            " ".join(f"`{setting}`" for setting in one.settings) or "–",
            one.split,
            one.mode or "all modes",
            length,
            hours,
        )
        lines.append(f"| {' | '.join(cells)} |")
    remark = (
        "Epochs become steps once the training images are there to be counted. Hours are those of "
        "a finished training, or at the step time of one of the same method and preset in this "
        "folder; –: there is none yet."
    )
    return "\n".join([*lines, "", remark])


def _finished(bundle: Path) -> tuple[int, float] | None:
    """Return steps and minutes of a finished training."""
    if not (bundle / CONFIG).is_file():
        return None
    training = read_config(bundle)["training"]
    return training["steps"], training["minutes"]


def _steps(training: Training, prepared: PreparedTraining, root: Path) -> int | None:
    """Return how many steps a training takes; ``None`` if that cannot be counted yet."""
    recipe = prepared.recipe
    if recipe.steps is not None:
        return recipe.steps
    try:
        job = open_job(training, recipe, root)
        if len(job.split.indices) > MOST_READ:
            return None
        chosen, _ = hold_out(job)
        pairs = check_data(job.data, chosen).samples
    except DataError:
        return None
    if not isinstance(recipe, TunedSamRecipe):
        return recipe.loop(len({image for image, _ in pairs})).steps
    samples = PromptedSamples(
        job.data,
        pairs,
        prepared.preset,
        seed=recipe.seed,
        classes_per_image=recipe.classes_per_image,
    )
    return recipe.loop(samples.epoch).steps
