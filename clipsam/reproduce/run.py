"""A table's rows trained and measured; what is finished is never repeated."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from ..data.readers import ConcatData, open_data
from ..data.splits import choose_split
from ..errors import ClipsamError, PromptError
from ..evaluate_methods import evaluate
from ..evaluation.claim import claim_folder
from ..evaluation.study import RESULTS, Shard
from ..methods.base import NetworkConfig, TrainablePredictor, find_trainable
from ..open_vocabulary import SUMMARY, OpenVocabulary, open_vocabulary
from ..training.loop import start_accelerator
from ..training.recipe import Recipe, apply_settings
from ..training.stages import recipe_for
from ..training.train_method import TrainingJob, train_method
from ..weights.backbones import load_backbones
from ..weights.presets import Preset, find_preset
from ..writing import OutputError
from .report import write_report
from .scope import Scope, bundle_folder, measurement_folder
from .tables import Measurement, Row, Table, Training

logger = logging.getLogger(__name__)


def reproduce(table: Table, scope: Scope, out: Path, shard: Shard) -> None:
    """Run the rows that have no figure yet, and write the table after each of them.

    A row that cannot be run, because data or weights are missing, is left open.

    Args:
        table: the paper's table.
        scope: how it is reproduced; the same for all tables in ``out``.
        out: folder of bundles, measurements and tables.
        shard: trainings of this process; untrained rows count as one each.

    Raises:
        DataError: ``out`` holds tables with another scope.
        OutputError: ``out`` cannot be written.
        PromptError: rows could not be run; all others were.
    """
    claim_folder(out, {**asdict(scope), "root": str(scope.root)}, "a reproduction")
    table = scope.apply(table)
    failed: list[str] = []
    for rows in _grouped(table)[shard.index :: shard.count]:
        for row in rows:
            if figure(out, row.measurement) is None:
                logger.info("%s: %s, %s", table.title, row.label, row.on)
                try:
                    _measure(row.measurement, scope.root, out)
                except OutputError:
                    raise
                except ClipsamError as error:
                    logger.warning("not measured: %s", error)
                    failed.append(f"{row.label}, {row.on}: {error}")
            write_report(table, scope, out, _figures(table, out))
    if failed:
        raise PromptError(
            f"{len(failed)} of {len(table.rows)} rows could not be measured; run the same command "
            f"again after correcting what is wrong. The first is {failed[0]}"
        )


def figure(out: Path, measurement: Measurement) -> float | None:
    """Return a finished measurement, a fraction; ``None`` if it is not finished."""
    folder = measurement_folder(out, measurement)
    file = folder / (SUMMARY if measurement.metric == "label-map-miou" else RESULTS)
    if not file.is_file():
        return None
    content = json.loads(file.read_text(encoding="utf-8"))
    if measurement.metric == "label-map-miou":
        return content["miou"]
    return content["methods"][0]["mean"][measurement.metric]


def _figures(table: Table, out: Path) -> list[float | None]:
    return [figure(out, row.measurement) for row in table.rows]


def _grouped(table: Table) -> list[list[Row]]:
    """Put rows that share a training together."""
    groups: dict[Training | Measurement, list[Row]] = {}
    for row in table.rows:
        groups.setdefault(row.measurement.training or row.measurement, []).append(row)
    return list(groups.values())


def _measure(measurement: Measurement, root: Path, out: Path) -> None:
    """Train what is measured, if it has not been, and measure it."""
    method = f"{measurement.method}:{measurement.mode}"
    if measurement.training is not None:
        bundle = bundle_folder(out, measurement.training)
        _train(measurement.training, root, bundle)
        method = f"{method}@{bundle}"
    folder = measurement_folder(out, measurement)
    data, part = measurement.data.spec(root), measurement.data.part
    if measurement.metric == "label-map-miou":
        asked = OpenVocabulary(
            data, method, measurement.benchmark, part, measurement.preset, measurement.limit
        )
        open_vocabulary(asked, folder)
        return
    evaluate(
        data,
        [method],
        folder,
        part=part,
        preset=measurement.preset,
        protocol=measurement.protocol,
        limit=measurement.limit,
    )


@dataclass(frozen=True)
class PreparedTraining:
    """A training before any network is loaded."""

    method: type[TrainablePredictor]
    preset: Preset
    recipe: Recipe
    network: NetworkConfig


def prepare(training: Training) -> PreparedTraining:
    """Return method, recipe and network of a training.

    Raises:
        PromptError: no such method, preset or setting.
    """
    method, preset = find_trainable(training.method), find_preset(training.preset)
    recipe, network = apply_settings(
        recipe_for(method, preset), method.design(preset), training.settings
    )
    return PreparedTraining(method, preset, recipe, network)


def open_job(training: Training, recipe: Recipe, root: Path) -> TrainingJob:
    """Open the data of a training.

    Raises:
        DataError: it is missing or cannot be used.
    """
    parts = {part.spec(root): open_data(part.spec(root), part.part) for part in training.data}
    data = ConcatData(parts) if len(parts) > 1 else next(iter(parts.values()))
    kind = training.data[0].kind if len(parts) == 1 else ""
    split = choose_split(data, split_text(training, root), recipe.seed, kind)
    return TrainingJob(" + ".join(parts), data, split, recipe, "plain", training.mode)


def split_file(training: Training, root: Path) -> Path:
    """Return where the papers' list of a split's images may lie."""
    return root / "splits" / f"{training.data[0].kind}-{training.split.replace('/', '-')}.txt"


def split_text(training: Training, root: Path) -> str:
    """Return the papers' list where it is, otherwise the split's size."""
    listed = split_file(training, root)
    return str(listed) if listed.is_file() else training.split


def _train(training: Training, root: Path, bundle: Path) -> None:
    prepared = prepare(training)
    job = open_job(training, prepared.recipe, root)
    backbones = load_backbones(prepared.preset, start_accelerator().device)
    torch.manual_seed(prepared.recipe.seed)
    predictor = prepared.method.untrained(backbones, prepared.network)
    train_method(predictor, job, bundle, resume=True)


def trainings(table: Table) -> Sequence[Training]:
    """Return every training of a table once."""
    found = (row.measurement.training for row in table.rows)
    return tuple(dict.fromkeys(training for training in found if training is not None))
