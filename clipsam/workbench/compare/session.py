"""Server-side state of one user's page: images, ground truth, and results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ...encoded_image import EncodedImage
from ...errors import PromptError
from ...evaluation.map_scores import MapScore, score_maps
from ...evaluation.truth import Truth, TruthError, TruthFile, match_truth
from ...marks import find_class
from ...predictor import PredictOptions
from ...suggest import Suggestion
from ...types import Prediction, Prompt
from ..choices import MethodChoice
from .share_link import SharedState

MapScores = dict[str, dict[str, MapScore]]
"""Scores by key of the choice, then by class."""

MAX_HISTORY = 12
"""Runs kept per session; each holds logits, a few megabytes."""

MAX_HISTORY_BYTES = 256 * 2**20
"""Bytes of the predictions of all runs kept per session."""

MAX_IMAGES = 50
"""Images that a session has open at a time."""

MAX_ANSWER_BYTES = 512 * 2**20
"""Bytes of the predictions for all open images of a session."""


@dataclass
class ComparisonRun:
    """One run: its request and the results so far.

    Attributes:
        encoded: the image.
        prompt: classes, points and boxes.
        preset: name of the preset.
        choices: the requested choices, in card order.
        predictions: by key of the choice, filled while the methods run.
        failures: error message of failed choices, by key.
        parameters: ``total`` and ``trainable`` of each finished method, by key.
        stopped: whether to stop after the current class.
        seed: random seed of sampled points.
        options: of every prediction, but for mode and seed.
    """

    encoded: EncodedImage
    prompt: Prompt
    preset: str
    choices: tuple[MethodChoice, ...]
    predictions: dict[str, Prediction] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, dict[str, int]] = field(default_factory=dict)
    stopped: bool = False
    seed: int = 0
    options: PredictOptions = field(default_factory=PredictOptions)

    @property
    def titles(self) -> dict[str, str]:
        """Titles of the choices, by key."""
        return {choice.key: choice.title for choice in self.choices}

    def answers(self, prompt: Prompt, preset: str) -> bool:
        """Return whether the results are those of this prompt and preset."""
        return preset == self.preset and prompt.keys == self.prompt.keys

    def has_results_of(self, other: ComparisonRun) -> bool:
        """Return whether every result of another run on the same image is already here."""
        return (
            (self.choices, self.options) == (other.choices, other.options)
            and self.answers(other.prompt, other.preset)
            and len(self.predictions) == len(self.choices)
        )

    def prediction_at(self, index: int) -> Prediction | None:
        """Return the prediction of a choice by index, or ``None``."""
        return self.predictions.get(self.choices[index].key) if index < len(self.choices) else None

    def earlier(self, run: ComparisonRun, key: str) -> Prediction | None:
        """Return a choice's prediction from which a new run can reuse results, or ``None``."""
        same = (run.preset, run.options) == (self.preset, self.options)
        fits = run.encoded is self.encoded and same
        return self.predictions.get(key) if fits else None

    def end(self) -> None:
        """Note that the choices without a result were stopped."""
        for choice in self.choices:
            if choice.key not in self.predictions:
                self.failures.setdefault(choice.key, "Stopped before it finished.")

    @property
    def has_ended(self) -> bool:
        """Whether each choice has a result or an error message."""
        return all(one.key in self.predictions or one.key in self.failures for one in self.choices)

    @property
    def bytes(self) -> int:
        """Size of all predictions."""
        return sum(map(_bytes, list(self.predictions.values())))  # One may be added meanwhile.


@dataclass(frozen=True)
class HistoryEntry:
    """An earlier run that can be restored, with its request as entered.

    Attributes:
        run: with its results, and its image without features.
        classes: as typed.
        marks: value of the canvas.
        truth_file: the ground truth at the time.
        example: title of the example, if the image is one.
    """

    run: ComparisonRun
    classes: str
    marks: object
    example: str
    truth_file: TruthFile | None


@dataclass(eq=False)
class OpenImage:
    """One of the images that were loaded together, with everything that belongs to it.

    Attributes:
        number: unique in its session.
        name: of its file.
        encoded: the image without features.
        thumbnail: uint8 (h, w, 3).
        marks: value of the canvas; ``None`` without marks.
        run: the latest run on it.
        truth_file: its ground truth.
        was_dropped: whether its results were dropped for those of other images.
    """

    number: int
    name: str
    encoded: EncodedImage
    thumbnail: np.ndarray
    marks: object = None
    run: ComparisonRun | None = None
    truth_file: TruthFile | None = None
    was_dropped: bool = False


@dataclass(eq=False)
class Batch:
    """A run on all open images.

    Attributes:
        stopped: whether to stop after the current class.
    """

    stopped: bool = False


@dataclass
class Session:
    """State of one open page, never shared; fields are ``None`` until set.

    Attributes:
        images: those loaded last, at most :data:`MAX_IMAGES`.
        current: the one of them that is shown.
        batch: the run on all of them, while there is one.
        encoded: the image shown, with its features.
        example: title of the example, if the image is one.
        awaited: state of a link whose image is still to be uploaded.
        run: the latest run on it.
        truth_file: the ground truth for it.
        truth_problem: why the last ground truth cannot be used; empty if it can.
        version: number of changes that the page must show.
        stopped: whether Stop was pressed since the latest Run.
        shown: number of visible cards, since updating all of them takes a third of a second;
            ``None`` if unknown, as when a session expired while its page stayed open.
        suggested: class names suggested for the image.
        history: earlier runs, the latest first, at most :data:`MAX_HISTORY`.
    """

    images: tuple[OpenImage, ...] = ()
    current: OpenImage | None = None
    batch: Batch | None = None
    encoded: EncodedImage | None = None
    example: str = ""
    awaited: SharedState | None = None
    run: ComparisonRun | None = None
    truth_file: TruthFile | None = None
    truth_problem: str = ""
    version: int = 0
    stopped: bool = False
    shown: int | None = None
    suggested: tuple[Suggestion, ...] = ()
    history: tuple[HistoryEntry, ...] = ()
    _answered: list[OpenImage] = field(default_factory=list)
    _map_scores: dict[tuple[int, int], dict[str, MapScore]] = field(default_factory=dict)
    _matched: tuple[tuple[int, int, str | None], Truth] | None = None

    def show(
        self,
        image: np.ndarray | EncodedImage,
        truth_file: TruthFile | None = None,
        example: str = "",
    ) -> None:
        """Set a new image (uint8 (H, W, 3), or stored) and forget everything about the old one.

        What is known of an open image stays with it.
        """
        if self.current is not None and self.current.run is not None:
            self.current.run.encoded = self.current.encoded  # Without features.
        self.current = None
        self.encoded = image if isinstance(image, EncodedImage) else EncodedImage(image)
        self.example = example
        self.awaited = None
        self.run = None
        self.suggested = ()
        self.take_truth(truth_file)

    def open(self, images: Sequence[tuple[str, EncodedImage, np.ndarray]]) -> None:
        """Replace the open images.

        Args:
            images: file name, pixels without features, and thumbnail (uint8 (h, w, 3)) of each.
        """
        self.end_batch()
        first = 1 + max((one.number for one in self.images), default=0)
        self.images = tuple(OpenImage(first + i, *one) for i, one in enumerate(images))
        self._answered = []

    def go_to(self, image: OpenImage) -> None:
        """Show one of the open images, with its results."""
        self.show(image.encoded.without_features(), image.truth_file)
        self.current, self.run = image, image.run
        if self.run is not None:
            self.run.encoded = self.current_image()

    def keep_marks(self, canvas: object) -> None:
        """Keep the points and boxes of an open image, given the value of the canvas."""
        number = canvas.get("image") if isinstance(canvas, dict) else None
        for image in self.images:
            if image.number == number:
                image.marks = canvas

    def shows(self, canvas: object) -> bool:
        """Return whether the points and boxes of a canvas, given its value, are of this image."""
        number = canvas.get("image") if isinstance(canvas, dict) else None
        return number == (None if self.current is None else self.current.number)

    def is_latest(self, run: ComparisonRun) -> bool:
        """Return whether a run is the latest of the image shown, or of one to come back to."""
        others = self.images if len(self.images) > 1 else ()
        return run is self.run or any(run is image.run for image in others)

    def begin(self, run: ComparisonRun, image: OpenImage | None = None) -> None:
        """Make a run the latest of an open image, or of the image shown.

        Args:
            run: the run.
            image: the open image; ``None`` for the one shown.
        """
        image = image or self.current
        if image is self.current:
            self.run = run
        if image is not None:
            image.run, image.was_dropped = run, False

    def bound_answers(self, latest: OpenImage) -> None:
        """Drop the oldest results until those of all open images are small enough.

        Those of the image shown and the latest stay.

        Args:
            latest: the image that was run last.
        """
        self._answered = [one for one in self._answered if one is not latest] + [latest]
        held = self.answer_bytes
        for one in self._answered[:-1]:
            if held <= MAX_ANSWER_BYTES:
                return
            if one is not self.current and one.run is not None:
                held -= one.run.bytes
                one.run, one.was_dropped = None, True

    @property
    def answer_bytes(self) -> int:
        """Size of the predictions for all open images."""
        return sum(one.run.bytes for one in self.images if one.run is not None)

    def end_batch(self) -> None:
        """End the run on all images after the current class."""
        if self.batch is not None:
            self.batch.stopped = True
        self.batch = None

    def current_image(self) -> EncodedImage:
        """Return the current image.

        Raises:
            PromptError: there is no image yet.
        """
        if self.encoded is None:
            raise PromptError("There is no image yet. Upload one or choose an example.")
        return self.encoded

    def current_run(self) -> ComparisonRun:
        """Return the latest run.

        Raises:
            PromptError: nothing has run yet.
        """
        if self.run is None:
            raise PromptError("Nothing has run yet. Press Run.")
        return self.run

    def stop(self) -> None:
        """End running runs after the current class, and queued ones before they start."""
        self.stopped = True
        for run in (self.run, *(image.run for image in self.images)):
            if run is not None:
                run.stopped = True
        if self.batch is not None:
            self.batch.stopped = True

    def remember(self, classes: str, marks: object) -> None:
        """Add the latest run to the history, replacing an earlier one with the same request."""
        latest = self.current_run()
        run = replace(latest, encoded=latest.encoded.without_features())
        entry = HistoryEntry(run, classes, marks, self.example, self.truth_file)
        others = [one for one in self.history if not _same_request(one, entry)]
        kept, size = [entry], run.bytes
        for one in others[: MAX_HISTORY - 1]:
            size += one.run.bytes
            if size > MAX_HISTORY_BYTES:
                break
            kept.append(one)
        self.history = tuple(kept)

    def restore(self, entry: HistoryEntry) -> None:
        """Restore an earlier run."""
        image = entry.run.encoded.without_features()
        self.show(image, entry.truth_file, entry.example)
        self.run = replace(entry.run, encoded=self.current_image())

    def take_truth(self, truth_file: TruthFile | None, problem: str = "") -> None:
        """Set another ground truth, or none, with the reason if it cannot be used."""
        self.truth_file = truth_file
        if self.current is not None:
            self.current.truth_file = truth_file
        self.truth_problem = problem
        self._matched = None
        self._map_scores = {}

    def next_version(self) -> int:
        """Increment the version; the page updates whenever this number changes."""
        self.version += 1
        return self.version

    def truth(self, active: str | None) -> Truth | None:
        """Return the ground truth of the latest run; ``None`` without one or without a run.

        Args:
            active: the class that a binary mask shows.

        Raises:
            TruthError: it does not fit the image or the classes.
        """
        run, file = self.run, self.truth_file
        if run is None or file is None:
            return None
        # Matching reads every pixel, a slider's step must not: remember the last match.
        key = (id(run), id(file), active)
        if self._matched is None or self._matched[0] != key:
            self._matched = (key, truth_of(run, file, active))
        return self._matched[1]

    def fitting_truth(self, active: str | None) -> Truth | None:
        """Return the ground truth, or ``None`` if it does not fit; the error is shown elsewhere."""
        try:
            return self.truth(active)
        except TruthError:
            return None

    def map_scores(self, predictions: Mapping[str, Prediction], truth: Truth | None) -> MapScores:
        """Return the threshold-independent scores by key, computed once per prediction."""
        if truth is None:
            return {}
        scores = {}
        for key, prediction in predictions.items():
            known = id(prediction), id(truth)
            if known not in self._map_scores:
                self._map_scores[known] = score_maps(prediction, truth)
            scores[key] = self._map_scores[known]
        return scores


def truth_of(run: ComparisonRun, file: TruthFile, active: str | None) -> Truth:
    """Return a run's ground truth.

    Args:
        run: the run.
        file: the ground truth of its image.
        active: the class that a binary mask shows.

    Raises:
        TruthError: it does not fit the image or the classes.
    """
    classes = [concept.synonyms for concept in run.prompt.concepts]
    index = find_class(active, classes) if active else None
    binary = None if index is None else run.prompt.texts[index]
    return match_truth(file.ids, run.encoded.size, run.prompt, file.names, binary)


def _same_request(one: HistoryEntry, other: HistoryEntry) -> bool:
    return (
        (one.run.choices, one.run.options) == (other.run.choices, other.run.options)
        and one.run.answers(other.run.prompt, other.run.preset)
        and one.run.encoded.shows_same(other.run.encoded)
    )


def _bytes(prediction: Prediction) -> int:
    """Return the size of a prediction's arrays."""
    arrays = [
        array
        for result in prediction.results
        for array in (
            result.logits,
            result.candidates,
            result.similarity,
            result.prompts.dense,
            *(one.logits for one in result.instances or ()),
            *(part for trace in result.block_traces for part in (trace.similarity, trace.regions)),
        )
    ]
    # The first trace's similarity is the result's own.
    return sum({id(array): array.nbytes for array in arrays if array is not None}.values())
