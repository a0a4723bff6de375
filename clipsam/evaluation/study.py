"""An evaluation in a folder: resumable, in several processes, with tables and a report."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from tqdm import tqdm

from ..data.checking import NoteLog
from ..data.readers import DataError
from ..data.samples import LabelledImage, SegmentationData
from ..data.splits import some_images
from ..encoded_image import EncodedImage
from ..measure import hardware
from ..predictor import PredictOptions, Predictor
from ..prompting import PointSampling
from ..tiling import Tiling
from ..weights.backbones import Precision
from ..writing import write_text
from .claim import claim_folder, weights_digest
from .metrics import Counts, iou
from .report import write_report
from .rows import Row, RowWriter, read_rows
from .runner import MethodRun, absent_classes, score_image
from .summary import results_csv, samples_csv, summarize

logger = logging.getLogger(__name__)

RESULTS = "results.json"
"""File of a finished study's figures, in its folder."""

FEATURE_BYTES = 2 * 2**30
"""Feature cache of one image, bytes; enough for hundreds of classes with several seeds."""


@dataclass(frozen=True)
class Settings:
    """Settings of an evaluation; each folder holds the rows of one.

    Attributes:
        data: ``kind:path`` of the data set.
        part: of the data set.
        methods: ``ID[:MODE][@BUNDLE]`` of each.
        preset: of the backbones.
        precision: of SAM's encoders.
        compiled: whether SAM's encoder is.
        num_points, sampling, point_threshold, dense_logit: how prompts are made from maps, see
            :class:`~clipsam.prompting.PromptSettings`; ``None`` takes each method's own.
        protocol: name of the paper's protocol to follow, see :mod:`clipsam.protocols`.
        clicks: points per class in manual modes.
        seeds: their number; they are 0, 1, …
        limit: number of images, drawn at random; ``None`` for all.
        absent: absent classes queried per image, ``all``, or ``None`` for none.
        single_object: whether each image shows one object at most, so that the camouflage papers'
            figures are measured.
        tiling: divides large images, see :class:`~clipsam.tiling.Tiling`; ``None`` divides none.
    """

    data: str
    part: str
    methods: tuple[str, ...]
    preset: str
    clicks: int = 5
    seeds: int = 1
    limit: int | None = None
    absent: int | Literal["all"] | None = None
    single_object: bool = False
    precision: Precision = "auto"
    compiled: bool = False
    num_points: int | None = None
    sampling: PointSampling | None = None
    point_threshold: float | None = None
    dense_logit: float | None = None
    tiling: Tiling | None = None
    protocol: str | None = None

    @property
    def options(self) -> PredictOptions:
        """The options of every prediction, but for mode and seed.

        Raises:
            PromptError: a setting of prompts cannot have its value, or no such protocol.
        """
        return PredictOptions(
            num_points=self.num_points,
            sampling=self.sampling,
            point_threshold=self.point_threshold,
            dense_logit=self.dense_logit,
            tiling=self.tiling,
            protocol=self.protocol,
        )

    def command(self) -> str:
        """Return the command line of this evaluation."""
        words = ["python", "-m", "clipsam", "evaluate", "--data", self.data, "--part", self.part]
        for method in self.methods:
            words += ["--method", method]
        words += ["--preset", self.preset, "--seeds", str(self.seeds)]
        words += ["--clicks", str(self.clicks)]
        if self.limit is not None:
            words += ["--limit", str(self.limit)]
        if self.absent is not None:
            words += ["--absent", str(self.absent)]
        if self.single_object:
            words.append("--single-object")
        if self.precision != "auto":
            words += ["--precision", self.precision]
        if self.compiled:
            words.append("--compile")
        if self.protocol is not None:
            words += ["--protocol", self.protocol]
        for name, value in self.options.overrides.items():
            words += [f"--{name.replace('_', '-')}", str(value)]
        if self.tiling is not None:
            words += ["--tile", str(self.tiling.size), "--tile-overlap", str(self.tiling.overlap)]
            words += ["--tile-blend", self.tiling.blend]
        return shlex.join(words)


@dataclass(frozen=True)
class Shard:
    """One of several processes that share an evaluation; it scores each ``count``-th image."""

    index: int = 0
    count: int = 1


class Study:
    """Evaluation of methods on a data set, stored in one folder."""

    def __init__(
        self,
        settings: Settings,
        data: SegmentationData,
        predictors: Mapping[str, Predictor],
        runs: Sequence[MethodRun],
        out: Path,
    ) -> None:
        """Prepare the evaluation.

        Args:
            settings: the settings, which must be those of rows already in ``out``.
            data: the whole part; ``settings.limit`` is applied here.
            predictors: methods by the keys in ``runs``.
            runs: the runs.
            out: folder of the rows and the results.

        Raises:
            DataError: no images, or ``out`` contains another evaluation.
        """
        if not len(data):
            raise DataError(f"{settings.data} has no image in its part “{settings.part}”.")
        self.settings = settings
        if settings.limit is not None:
            count = min(settings.limit, len(data))
            data = some_images(data, count)
        self.data = data
        self.keys = tuple(self.data.keys)
        self.predictors = predictors
        self.runs = tuple(runs)
        self.out = out
        self._claim()

    def _claim(self) -> None:
        """Write the settings into the folder, or check that they are the same."""
        config = {
            **asdict(self.settings),
            "images": f"{len(self.keys)} ({_digest(self.keys)})",
            "weights": {name: weights_digest(p.network()) for name, p in self.predictors.items()},
        }
        claim_folder(self.out, config, "an evaluation")

    def run(self, shard: Shard) -> bool:
        """Score the images of a shard that have no rows yet.

        If all images of all shards have rows afterwards, write the results.

        Returns:
            Whether the results were written.

        Raises:
            DataError, ImageError: an image cannot be read, or none shows a class.
        """
        folder = self.out / "rows"
        scored = read_rows(folder)
        mine = range(shard.index, len(self.keys), shard.count)
        running = _Running(self.runs)
        for index in mine:
            running.add(scored.get(self.keys[index], ()))
        left = [index for index in mine if self.keys[index] not in scored]
        name = f"{shard.index}-of-{shard.count}"
        bar = tqdm(total=len(mine), initial=len(mine) - len(left), desc="evaluate", mininterval=1.0)
        with bar, RowWriter(folder / f"{name}.jsonl") as writer:
            notes = NoteLog()
            for index in left:
                sample = self.data[index]
                notes.add(sample.note)
                rows = self._score(sample)
                writer.add(self.keys[index], rows)
                running.add(rows)
                bar.set_postfix(running.figures(), refresh=False)
                bar.update()
        scored = read_rows(folder)
        missing = sum(key not in scored for key in self.keys)
        if missing:
            logger.info(
                "Shard %s is done; other shards have %d of %d images left, and the last one writes "
                "the results.",
                name,
                missing,
                len(self.keys),
            )
            return False
        self._conclude([row for key in self.keys for row in scored[key]])
        return True

    def _score(self, sample: LabelledImage) -> list[Row]:
        settings = self.settings
        if settings.single_object and len(sample.present()) > 1:
            raise DataError(
                f"{sample.key} shows {len(sample.present())} classes, but --single-object needs at "
                "most one. Leave out --single-object."
            )
        absent: tuple[str, ...] = ()
        if settings.absent is not None:
            absent = absent_classes(sample, None if settings.absent == "all" else settings.absent)
        encoded = EncodedImage(sample.image, FEATURE_BYTES)
        return [
            Row(run.method, run.mode, seed, score)
            for run in self.runs
            for seed in range(settings.seeds)
            for score in score_image(
                sample,
                encoded,
                self.predictors[run.method],
                run,
                seed,
                absent,
                settings.single_object,
            )
        ]

    def _conclude(self, rows: Sequence[Row]) -> None:
        if not any(row.score.present for row in rows):
            raise DataError(f"No image of {self.settings.data} contains any of its classes.")
        methods = summarize(rows, self.settings.preset)
        device = next(iter(self.predictors.values())).backbones.device
        machine = {"hardware": hardware(device), "torch": torch.__version__}
        results = {
            "command": self.settings.command(),
            "settings": asdict(self.settings),
            "images": len(self.keys),
            **machine,
            "methods": methods,
        }
        _write(self.out / RESULTS, json.dumps(_plain(results), indent=2, ensure_ascii=False))
        _write(self.out / "results.csv", results_csv(methods))
        _write(self.out / "samples.csv", samples_csv(rows))
        _write(
            self.out / "report.html",
            write_report(results, rows, self.data, self.predictors, self.runs),
        )
        logger.info("Results: %s", self.out / "report.html")


class _Running:
    """Running mIoU of each run over its seeds, for the progress bar."""

    def __init__(self, runs: Sequence[MethodRun]) -> None:
        self._totals: dict[tuple[str, str], dict[str, Counts]] = {
            (run.method, run.mode): {} for run in runs
        }

    def add(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if row.score.present:
                totals, name = self._totals[row.method, row.mode], row.score.name
                totals[name] = totals.get(name, Counts()) + row.score.counts

    def figures(self) -> dict[str, str]:
        shown = {}
        for (method, mode), totals in self._totals.items():
            values = [iou(counts) for counts in totals.values()]
            shown[f"{method}:{mode}"] = f"{100 * sum(values) / len(values):.1f}" if values else "–"
        return shown


def _digest(texts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _plain(value: object) -> object:
    """Convert values for JSON, which has no NaN."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _write(path: Path, text: str) -> None:
    """Replace a whole file; two shards that end together may both write it."""
    write_text(path, text, os.getpid())
