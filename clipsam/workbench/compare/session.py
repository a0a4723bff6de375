"""Server-side state of one user's page: an image, a ground truth, and results."""

from __future__ import annotations

from collections.abc import Mapping
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

    def prediction_at(self, index: int) -> Prediction | None:
        """Return the prediction of a choice by index, or ``None``."""
        return self.predictions.get(self.choices[index].key) if index < len(self.choices) else None

    def earlier(self, run: ComparisonRun, key: str) -> Prediction | None:
        """Return a choice's prediction from which a new run can reuse results, or ``None``."""
        same = (run.preset, run.options) == (self.preset, self.options)
        fits = run.encoded is self.encoded and same
        return self.predictions.get(key) if fits else None


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


@dataclass
class Session:
    """State of one open page, never shared; fields are ``None`` until set.

    Attributes:
        encoded: the image with its features.
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
    _map_scores: dict[tuple[int, int], dict[str, MapScore]] = field(default_factory=dict)
    _matched: tuple[tuple[int, int, str | None], Truth] | None = None

    def show(
        self,
        image: np.ndarray | EncodedImage,
        truth_file: TruthFile | None = None,
        example: str = "",
    ) -> None:
        """Set a new image (uint8 (H, W, 3), or stored) and forget everything about the old one."""
        self.encoded = image if isinstance(image, EncodedImage) else EncodedImage(image)
        self.example = example
        self.awaited = None
        self.run = None
        self.suggested = ()
        self.take_truth(truth_file)

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
        """End the current run after the current class, and queued runs before they start."""
        self.stopped = True
        if self.run is not None:
            self.run.stopped = True

    def remember(self, classes: str, marks: object) -> None:
        """Add the latest run to the history, replacing an earlier one with the same request."""
        latest = self.current_run()
        run = replace(latest, encoded=latest.encoded.without_features())
        entry = HistoryEntry(run, classes, marks, self.example, self.truth_file)
        others = [one for one in self.history if not _same_request(one, entry)]
        kept, size = [entry], _bytes(run)
        for one in others[: MAX_HISTORY - 1]:
            size += _bytes(one.run)
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
        classes = [concept.synonyms for concept in run.prompt.concepts]
        index = find_class(active, classes) if active else None
        binary = None if index is None else run.prompt.texts[index]
        # Matching reads every pixel, a slider's step must not: remember the last match.
        key = (id(run), id(file), binary)
        if self._matched is None or self._matched[0] != key:
            truth = match_truth(file.ids, run.encoded.size, run.prompt, file.names, binary)
            self._matched = (key, truth)
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


def _same_request(one: HistoryEntry, other: HistoryEntry) -> bool:
    return (
        (one.run.choices, one.run.options) == (other.run.choices, other.run.options)
        and one.run.answers(other.run.prompt, other.run.preset)
        and one.run.encoded.shows_same(other.run.encoded)
    )


def _bytes(run: ComparisonRun) -> int:
    """Return the size of a run's predictions."""
    return sum(
        values.nbytes
        for prediction in run.predictions.values()
        for result in prediction.results
        for values in (result.logits, result.candidates, result.similarity)
        if values is not None
    )
