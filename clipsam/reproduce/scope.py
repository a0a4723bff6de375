"""A table with other weights, other data or fewer steps than the paper's, and its files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..data.readers.registry import SCENES
from .tables import DataPart, Measurement, Table, Training


@dataclass(frozen=True)
class Scope:
    """How a table is reproduced; the defaults are the paper's.

    Attributes:
        root: folder of all data sets.
        preset: SAM and CLIP of every row.
        data: ``KIND:PATH`` of one data set for every row, its parts ``train`` and ``val``; splits
            stay those of the rows, as shares of it.
        steps: of every training.
        limit: images of every measurement.
    """

    root: Path
    preset: str | None = None
    data: str | None = None
    steps: int | None = None
    limit: int | None = None

    def apply(self, table: Table) -> Table:
        """Return the table with every row changed."""
        rows = tuple(
            replace(row, measurement=self._measurement(row.measurement)) for row in table.rows
        )
        return replace(table, rows=rows)

    def _measurement(self, measurement: Measurement) -> Measurement:
        training = measurement.training
        changed = replace(
            measurement,
            preset=self.preset or measurement.preset,
            training=None if training is None else self._training(training),
            limit=self.limit,
        )
        if self.data is None:
            return changed
        return replace(changed, data=self._part("val"), benchmark=None)

    def _training(self, training: Training) -> Training:
        settings = training.settings
        if self.steps is not None:
            settings = (*settings, f"steps={self.steps}")
        return replace(
            training,
            preset=self.preset or training.preset,
            data=training.data if self.data is None else (self._part("train"),),
            settings=settings,
        )

    def _part(self, part: str) -> DataPart:
        kind, _, path = (self.data or "").partition(":")
        if kind != SCENES:
            path = str(Path(path).expanduser().absolute())
        return DataPart(kind, path, part)


def bundle_folder(out: Path, training: Training) -> Path:
    """Return the folder of a training's bundle; tables that share the training share it."""
    return out / "bundles" / _folder_name(training)


def measurement_folder(out: Path, measurement: Measurement) -> Path:
    """Return the folder of a measurement's figures."""
    return out / "measurements" / _folder_name(measurement)


def _folder_name(job: Training | Measurement) -> str:
    """Return the method's id with a digest of everything that the job consists of."""
    content = json.dumps(asdict(job), sort_keys=True)
    return f"{job.method}-{hashlib.sha256(content.encode()).hexdigest()[:10]}"
