"""Evaluation of methods on the user's images, image by image, until done or stopped."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from scipy import ndimage

from ... import drawing
from ...data.readers import DataError, SubsetData
from ...data.samples import BACKGROUND, VOID, VOID_IDS, LabelledImage
from ...data.splits import choose_split
from ...data.uploads import Source
from ...errors import ClipsamError
from ...evaluation.metrics import SampleScore, iou
from ...evaluation.report import WORST
from ...evaluation.rows import Row, RowWriter
from ...evaluation.study import Settings
from ...evaluation.summary import summarize
from ...evaluation.truth import TruthFile
from ...names import SEPARATORS
from ...predictor import Predictor
from .. import zero_gpu
from ..choices import MethodChoice
from ..examples import Example
from ..model_store import ModelStore
from ..turns import Unwanted
from .tasks import (
    FAILED,
    EvaluationRequest,
    LeftOut,
    ScoredImage,
    ScoringStep,
    conclude,
    load_methods,
    score_images,
    with_methods,
)

logger = logging.getLogger(__name__)

FILES = ("results.csv", "samples.csv", "results.json", "report.html")
"""Files written at the end, as on the command line."""

CASES = 6
"""Number of worst and of best cases shown."""

CASE_SIDE = 240
"""Long side of a case's thumbnail, pixels."""

MAX_PIXELS = 32 * 10**6
"""Pixels scored per GPU request; each takes nine bytes of memory and is copied."""


@dataclass(frozen=True)
class Case:
    """The result of a method for one class of one image.

    Attributes:
        number: identifies image and class, see :meth:`Measuring.example`.
        score: its score.
        picture: data URI.
    """

    number: int
    score: SampleScore
    picture: str


class Measuring:
    """One evaluation: its request and the results so far.

    Attributes:
        request: the request.
        left_out: one sentence for each image that cannot be used.
        notes: one sentence for each image that was not read plainly.
        stopped: set to stop after the current class.
        is_there: whether the page of the evaluation still waits for it.
    """

    def __init__(self, models: ModelStore, source: Source, request: EvaluationRequest) -> None:
        """Prepare the evaluation.

        Args:
            models: the loaded models.
            source: source of the images.
            request: the request.

        Raises:
            DataError: the source lacks the images.
        """
        self.request = request
        self.left_out: list[str] = []
        self.notes: list[str] = []
        self.stopped = False
        self.is_there: Callable[[], bool] = lambda: True
        self._models = models
        self._concluding = False
        self._turn = models.turns.request(self._is_wanted)
        self._predictors: dict[str, Predictor] | None = None
        self._source = source
        whole = source.open(request.part)
        self._limit = request.images if request.images < len(whole) else None
        count = min(request.images, len(whole))
        self._data = SubsetData(whole, choose_split(whole, str(count), request.seed).indices)
        self._runs = request.runs()
        self._rows: dict[int, list[Row]] = {}
        self._worst: dict[MethodChoice, list[Case]] = {choice: [] for choice in request.choices}
        self._best: dict[MethodChoice, list[Case]] = {choice: [] for choice in request.choices}
        self._files: TemporaryDirectory | None = None

    # ---- measuring ----

    @property
    def total(self) -> int:
        """Number of images in the evaluation."""
        return len(self._data)

    @property
    def done(self) -> int:
        """Number of images evaluated or left out."""
        return self.measured + len(self.left_out)

    @property
    def measured(self) -> int:
        """Number of images evaluated."""
        return len(self._rows)

    def measure(self, step: Callable[[int, MethodChoice], None]) -> Iterator[None]:
        """Evaluate image by image, yielding after each.

        Args:
            step: called before each method with the number of finished steps and the next choice.

        Raises:
            PromptError: the methods together need too much memory.
            WeightsError: weights are missing or damaged.
            gr.Error: no GPU was granted, or it was withdrawn; results so far are kept.
        """
        try:
            yield from self._measure(step)
        except Unwanted:
            return

    def _measure(self, step: Callable[[int, MethodChoice], None]) -> Iterator[None]:
        for batch, seconds in self._batches():
            if not batch:
                yield
                continue
            places = tuple(batch)
            results = self._run(score_images, (tuple(batch.values()),), seconds)
            with closing(results):
                for one in results:
                    index = places[one.index]
                    if isinstance(one, ScoringStep):
                        if self.stopped:
                            return
                        number = index * len(self._runs) + one.number
                        step(number, self.request.choices[one.number])
                        continue
                    if isinstance(one, LeftOut):
                        self.left_out.append(one.sentence)
                    else:
                        self._take(index, batch[index], one)
                    yield

    def _run(
        self, task: Callable[..., Generator], arguments: tuple[object, ...], seconds: float
    ) -> Generator:
        """Run a task with the requested methods, which stay in memory until the end if possible."""
        if zero_gpu.ON_ZERO_GPU:
            arguments = (task, self.request, *arguments)
            return zero_gpu.lend(self._models, with_methods, arguments, seconds)
        if self._predictors is None:
            with self._turn:
                loaded = load_methods(self._models, self.request)
            self._predictors = {key: one.during(self._turn) for key, one in loaded.items()}
        return task(self._predictors, self.request, *arguments)

    def _is_wanted(self) -> bool:
        """Return whether to go on; a report is written of what was stopped, too."""
        return self.is_there() and (self._concluding or not self.stopped)

    def _batches(self) -> Iterator[tuple[dict[int, LabelledImage], float]]:
        """Yield batches of images by index with their estimated time, seconds.

        On a borrowed GPU a batch is as large as its time allows, otherwise one image. Unreadable
        images are left out.
        """
        batch: dict[int, LabelledImage] = {}
        classes = 0
        for index in range(self.total):
            if self.stopped:
                return
            sample = self._read(index)
            if sample is None:
                yield {}, 0
                continue
            more = classes + self._classes(sample)
            pixels = sum(one.classes.size for one in (*batch.values(), sample))
            too_long = self._seconds(len(batch) + 1, more) > zero_gpu.MAX_SECONDS
            if batch and (too_long or pixels > MAX_PIXELS):
                yield batch, self._seconds(len(batch), classes)
                batch, more = {}, more - classes
            batch[index], classes = sample, more
            if not zero_gpu.ON_ZERO_GPU:
                yield batch, 0
                batch, classes = {}, 0
        if batch:
            yield batch, self._seconds(len(batch), classes)

    def _read(self, index: int) -> LabelledImage | None:
        """Read an image; ``None`` if it must be left out."""
        try:
            sample = self._data[index]
            if sample.note:
                self.notes.append(self._source.describe_error(sample.note))
            return sample
        except ClipsamError as error:
            self.left_out.append(self._source.describe_error(error))
        except Exception:
            logger.exception("evaluation failed")
            self.left_out.append(f"{self._data.keys[index]} {FAILED}")
        return None

    def _classes(self, sample: LabelledImage) -> int:
        """Count the classes queried in an image, over all choices."""
        shown = len(sample.present())
        known = len(sample.names) if self.request.every_class else shown
        return sum(shown if choice.needs_marks else known for choice in self.request.choices)

    def _seconds(self, images: int, classes: int) -> float:
        """Estimate the GPU time for a number of images and classes, seconds."""
        methods = [choice.method for choice in self.request.choices]
        return zero_gpu.seconds_for(self.request.preset, methods, images * len(methods), classes)

    def _take(self, index: int, sample: LabelledImage, scored: ScoredImage) -> None:
        """Store the results of an image."""
        self._rows[index] = scored.rows
        for number, (choice, run) in enumerate(self._runs.items()):
            shown = scored.shown(number, run)
            for value, (score, mask) in zip(sample.present(), shown, strict=True):
                self._consider(index, sample, choice, score, mask, sample.classes == value)

    # ---- figures ----

    def summary(self) -> dict[MethodChoice, dict]:
        """Return the scores so far of each choice, in the format of ``results.json``."""
        rows = [row for rows in self._rows.values() for row in rows]
        figures = {
            (one["method"], one["mode"]): one for one in summarize(rows, self.request.preset)
        }
        return {
            choice: figures[run.method, run.mode]
            for choice, run in self._runs.items()
            if (run.method, run.mode) in figures
        }

    def shown_in(self) -> dict[str, int]:
        """Count the images that show each class, most frequent first."""
        images: dict[str, set[str]] = {}
        for row in (row for rows in self._rows.values() for row in rows):
            if row.score.present:
                images.setdefault(row.score.name, set()).add(row.score.image)
        return dict(sorted(((n, len(i)) for n, i in images.items()), key=lambda p: (-p[1], p[0])))

    def write(self) -> dict[str, Path]:
        """Write the tables and the report, as on the command line.

        Returns:
            :data:`FILES` with their paths.

        Raises:
            DataError: there are no results.
            gr.Error: no GPU was granted for the report's images.
        """
        self._concluding = True
        self._files = TemporaryDirectory(prefix="clipsam-")
        out = Path(self._files.name)
        measured = SubsetData(self._data, tuple(self._rows))
        with RowWriter(out / "rows" / "0-of-1.jsonl") as writer:
            for key, rows in zip(measured.keys, self._rows.values(), strict=True):
                writer.add(key, rows)
        request, part = self.request, self._source.parts[self.request.part]
        settings = Settings(
            data=f"{part.kind}:{self._source.name.removesuffix('.zip')}",
            part=request.part,
            methods=tuple(map(_as_typed, request.choices)),
            preset=request.preset,
            clicks=request.clicks,
            limit=self._limit,
            absent="all" if request.every_class else None,
        )
        # All images have their rows: what is left to a study is to conclude, with pictures.
        most = max(
            len({row.score.name for row in rows if row.score.present})
            for rows in self._rows.values()
        )
        seconds = self._seconds(WORST, WORST * len(request.choices) * most)
        for _ in self._run(conclude, (settings, measured, out), seconds):
            pass
        return {name: out / name for name in FILES}

    def release(self) -> None:
        """Release the methods, which stay in memory until then."""
        self._predictors = None

    def close(self) -> None:
        """Stop, and delete the written files."""
        self.stopped = True
        if self._files is not None:
            self._files.cleanup()

    # ---- cases ----

    def cases(self, choice: MethodChoice) -> tuple[list[Case], list[Case]]:
        """Return the worst and the best cases of a choice so far, without overlap."""
        worst, best = self._worst[choice], self._best[choice]
        # While they are few, all are in both.
        count = len({case.number for case in (*worst, *best)})
        return worst[: (count + 1) // 2], best[: count // 2]

    def example(self, number: int) -> Example:
        """Return the image of a case with all its classes, the case's class first.

        Raises:
            DataError: there is no such case.
        """
        index, value = divmod(number, len(self._data.names))
        if index not in self._rows:
            raise DataError("This case is no longer available. Run the evaluation again.")
        sample = self._data[index]
        names = _typed(sample.names)
        request = [value, *(other for other in sample.present() if other != value)]
        ids = np.where(sample.classes == BACKGROUND, 0, sample.classes.astype(np.int64) + 1)
        ids[sample.classes == VOID] = VOID_IDS[-1]
        return Example(
            sample.key,
            sample.image,
            ", ".join(names[other] for other in request),
            TruthFile(ids, ("background", *names)),
        )

    def _consider(
        self,
        index: int,
        sample: LabelledImage,
        choice: MethodChoice,
        score: SampleScore,
        mask: np.ndarray,
        truth: np.ndarray,
    ) -> None:
        """Keep and draw a sample if it is among the worst or the best so far."""
        number = index * len(sample.names) + _typed(sample.names).index(_typed([score.name])[0])
        case = None
        for cases, best in ((self._worst[choice], False), (self._best[choice], True)):
            if len(cases) == CASES and (_rank(score) > _rank(cases[-1].score)) != best:
                continue
            if case is None:
                colour = drawing.class_colour(self.request.choices.index(choice))
                case = Case(number, score, _picture(sample.image, mask, truth, colour))
            cases.append(case)
            cases.sort(key=lambda one: _rank(one.score), reverse=best)
            del cases[CASES:]


@dataclass
class EvaluateSession:
    """State of one open page, never shared; fields are ``None`` until set.

    Attributes:
        source: the user's images.
        measuring: the latest evaluation.
        stopped: whether Stop was pressed since the latest Run.
    """

    source: Source | None = None
    measuring: Measuring | None = None
    stopped: bool = False

    def stop(self) -> None:
        """End the current evaluation at its next step, and queued ones before they start."""
        self.stopped = True
        if self.measuring is not None:
            self.measuring.stopped = True

    def take(self, source: Source | None) -> None:
        """Set other images, or none, and delete everything about the old ones."""
        if self.measuring is not None:
            self.measuring.close()
        if self.source is not None:
            self.source.close()
        self.source, self.measuring = source, None

    def close(self) -> None:
        """Delete everything."""
        self.take(None)


def _as_typed(choice: MethodChoice) -> str:
    """Format a choice as on the command line, with the bundle's folder name."""
    bundle = "" if choice.bundle is None else f"@{choice.bundle.name}"
    return f"{choice.method}:{choice.mode}{bundle}"


def sample_iou(score: SampleScore) -> float:
    """Return the IoU of a class in an image; 1 where both mask and ground truth are empty."""
    return iou(score.counts) if score.counts.union else 1.0


def _rank(score: SampleScore) -> tuple[object, ...]:
    """Sort key: worst first, ties by largest area, as in the report."""
    return sample_iou(score), -score.counts.truth, score.image, score.name


def _typed(names: Sequence[str]) -> list[str]:
    """Remove the separators of typed class names from names."""
    plain = (name.translate(SEPARATORS).replace(",", " ").replace(";", " ") for name in names)
    return [" ".join(name.split()) for name in plain]


def _picture(image: np.ndarray, mask: np.ndarray, truth: np.ndarray, colour: str) -> str:
    """Draw the prediction in colour over the image, with the ground-truth outline, as a data URI.

    Args:
        image: uint8 (H, W, 3).
        mask, truth: bool (H, W).
        colour: hex.
    """
    height, width = drawing.fit_size(image.shape[:2], CASE_SIDE)
    small, found, wanted = (
        np.asarray(Image.fromarray(values).resize((width, height)))
        for values in (image, mask, truth)
    )
    fill = np.array(list(bytes.fromhex(colour[1:])), float)
    shown = np.where(found[..., None], 0.4 * small + 0.6 * fill, small)
    shown[drawing.outline(wanted)] = 255
    # The dark rim keeps the white line visible on sky and on snow.
    shown[ndimage.binary_dilation(wanted) & ~wanted] = 30
    return drawing.data_uri(Image.fromarray(shown.astype(np.uint8)), "JPEG", quality=85)
