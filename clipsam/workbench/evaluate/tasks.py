"""Parts of an evaluation that need models: scoring of images, and the report.

Runs in the page's process or, on a ZeroGPU Space, in a forked one, see :mod:`..zero_gpu`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...data.samples import LabelledImage, SegmentationData
from ...encoded_image import EncodedImage
from ...errors import PromptError
from ...evaluation.metrics import SampleScore
from ...evaluation.rows import Row
from ...evaluation.runner import MethodRun, absent_classes, score_image
from ...evaluation.study import FEATURE_BYTES, Settings, Shard, Study
from ...predictor import Predictor
from ..choices import MethodChoice
from ..model_store import ModelStore
from ..turns import Unwanted

SEED = 0
"""Seed of the points, equal to the command line's first."""

FAILED = "failed with an unexpected error; see the server log."
"""Message about a failed image."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationRequest:
    """Request for an evaluation.

    Attributes:
        part: of the source.
        preset: of the backbones.
        choices: methods in their modes.
        images: limit of images, drawn at random.
        seed: seed of the random subset.
        every_class: whether absent classes are queried too.
        clicks: points per class in manual modes.
    """

    part: str
    preset: str
    choices: tuple[MethodChoice, ...]
    images: int
    seed: int
    every_class: bool
    clicks: int

    def runs(self) -> dict[MethodChoice, MethodRun]:
        """Return the run of each choice."""
        return {
            choice: MethodRun(
                weights_of(choice), choice.mode, self.clicks if choice.needs_marks else 0
            )
            for choice in self.choices
        }


def weights_of(choice: MethodChoice) -> str:
    """Return the key of a method with its weights, as on the command line.

    That is its id, or ``ID@BUNDLE`` with the name of a folder that the session trained.
    """
    return choice.key.removesuffix(f"/{choice.mode}")


def load_methods(models: ModelStore, request: EvaluationRequest) -> dict[str, Predictor]:
    """Load the requested methods, by :func:`weights_of` their choices, all at once.

    Raises:
        PromptError: together they need too much memory.
        WeightsError: weights are missing or damaged.
    """
    predictors: dict[str, Predictor] = {}
    sizes: dict[int, int] = {}
    for choice in request.choices:
        predictor = models.predictor(request.preset, choice.method, choice.bundle)
        network = predictors.setdefault(weights_of(choice), predictor).network()
        sizes |= {p.data_ptr(): p.nbytes for p in network.parameters()}
        if len(predictors) > 1 and sum(sizes.values()) > models.max_bytes:
            raise PromptError(
                f"Together these methods need more than the {models.max_bytes / 2**30:.0f} GB of "
                "memory available to the page. Select fewer."
            )
    return predictors


def with_methods(
    models: ModelStore,
    task: Callable[..., Generator],
    request: EvaluationRequest,
    *arguments: object,
) -> Generator:
    """Run a task of this module with the methods loaded in its process."""
    yield from task(load_methods(models, request), request, *arguments)


# ---- images ----


@dataclass(frozen=True)
class ScoringStep:
    """Notice that a run is about to score an image.

    Attributes:
        index: index of the image.
        number: index of the run.
    """

    index: int
    number: int


@dataclass(frozen=True)
class ScoredImage:
    """An image scored by all runs.

    Attributes:
        index: index of the image.
        rows: of all runs.
        masks: by run, bool (C, H, W) of the C classes that the image shows, in their order.
    """

    index: int
    rows: list[Row]
    masks: list[np.ndarray]

    def shown(self, number: int, run: MethodRun) -> list[tuple[SampleScore, np.ndarray]]:
        """Score and mask of each class present in the image, by number of the run."""
        scores = [
            row.score
            for row in self.rows
            if (row.method, row.mode) == (run.method, run.mode) and row.score.present
        ]
        return list(zip(scores, self.masks[number], strict=True))


@dataclass(frozen=True)
class LeftOut:
    """An image that cannot be scored.

    Attributes:
        index: index of the image.
        sentence: the reason.
    """

    index: int
    sentence: str


def score_images(
    predictors: Mapping[str, Predictor],
    request: EvaluationRequest,
    samples: Sequence[LabelledImage],
) -> Generator[ScoringStep | ScoredImage | LeftOut]:
    """Score images with all runs; a failing image does not stop the others.

    Args:
        predictors: methods by :func:`weights_of` their choices.
        request: the request.
        samples: the images.
    """
    for index, sample in enumerate(samples):
        try:
            yield from _score(predictors, request, index, sample)
        except PromptError as error:
            yield LeftOut(index, f"{sample.key}: {error}")
        except Unwanted:
            raise
        except Exception:
            logger.exception("evaluation failed")
            yield LeftOut(index, f"{sample.key} {FAILED}")


def _score(
    predictors: Mapping[str, Predictor],
    request: EvaluationRequest,
    index: int,
    sample: LabelledImage,
) -> Generator[ScoringStep | ScoredImage]:
    encoded = EncodedImage(sample.image, FEATURE_BYTES)
    absent = absent_classes(sample) if request.every_class else ()
    rows: list[Row] = []
    found: list[np.ndarray] = []
    for number, run in enumerate(request.runs().values()):
        yield ScoringStep(index, number)
        masks: list[np.ndarray] = []

        def seen(
            score: SampleScore,
            mask: np.ndarray,
            _: np.ndarray,
            masks: list[np.ndarray] = masks,
        ) -> None:
            if score.present:
                masks.append(mask)

        scores = score_image(sample, encoded, predictors[run.method], run, SEED, absent, seen=seen)
        rows += [Row(run.method, run.mode, SEED, score) for score in scores]
        found.append(np.array(masks, bool).reshape(-1, *encoded.size))
    yield ScoredImage(index, rows, found)


# ---- the report ----


def conclude(
    predictors: Mapping[str, Predictor],
    request: EvaluationRequest,
    settings: Settings,
    data: SegmentationData,
    out: Path,
) -> Generator[None]:
    """Write the tables and the report of images already scored; yields at the end.

    Args:
        predictors: methods by :func:`weights_of` their choices.
        request: the request.
        settings: the same as the command line's settings.
        data: the images.
        out: folder of the rows and the results.

    Raises:
        DataError: none of them shows a class.
    """
    Study(settings, data, predictors, tuple(request.runs().values()), out).run(Shard())
    yield
