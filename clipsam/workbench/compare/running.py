"""Running the methods of the Compare tab, on one image or on all open ones."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from typing import NamedTuple

from ...encoded_image import EncodedImage
from ...types import Prediction
from ..choices import MethodChoice
from ..model_store import ModelStore
from ..zero_gpu import ON_ZERO_GPU, Answer, MethodRequest, predict_all
from .session import Batch, ComparisonRun, OpenImage, Session


def answers(
    models: ModelStore,
    run: ComparisonRun,
    is_stopped: Callable[[], bool],
    earlier: ComparisonRun | None = None,
) -> Generator[Answer]:
    """Run the methods of a run one by one and store what they return in it.

    Args:
        models: the loaded models.
        run: the run.
        is_stopped: see :func:`predict_all`.
        earlier: a run from which unchanged classes keep their results.
    """
    requests = [
        MethodRequest(
            choice.method,
            choice.mode,
            choice.bundle,
            None if earlier is None else earlier.earlier(run, choice.key),
        )
        for choice in run.choices
    ]
    options = replace(run.options, seed=run.seed)
    found = predict_all(models, run.encoded, run.prompt, run.preset, requests, options, is_stopped)
    try:
        with closing(found):
            for answer in found:
                if answer.result is not None:
                    _take(models, run, run.choices[answer.method_index], answer.result)
                yield answer
    finally:
        run.end()


def _take(
    models: ModelStore, run: ComparisonRun, choice: MethodChoice, result: Prediction | str
) -> None:
    """Store a method's prediction, or its error message."""
    if isinstance(result, str):
        run.failures[choice.key] = result
        return
    run.predictions[choice.key] = result
    if not ON_ZERO_GPU:  # there, the network was in another process
        counts = models.parameters(run.preset, choice.method, choice.bundle)
        run.parameters[choice.key] = counts


class Step(NamedTuple):
    """Progress of a run on all open images.

    Attributes:
        image: the one that is run.
        run: its run.
        answer: progress or result of a method; ``None`` before the first and after the last.
        share: of the whole that is done, in [0, 1].
    """

    image: OpenImage
    run: ComparisonRun
    answer: Answer | None
    share: float


def run_all(
    models: ModelStore,
    session: Session,
    batch: Batch,
    plan: Callable[[OpenImage, EncodedImage], ComparisonRun],
    is_there: Callable[[], bool] = lambda: True,
) -> Generator[Step]:
    """Run methods on each open image; images that have these results already keep them.

    Args:
        models: the loaded models.
        session: of the page.
        batch: says when to stop.
        plan: returns the run on an image, given also its pixels, whose features it may fill.
        is_there: whether somebody still waits for the results.

    Raises:
        PromptError: as ``plan`` does.
    """

    def is_stopped() -> bool:
        return batch.stopped or not is_there()

    images = session.images
    for number, image in enumerate(images):
        if is_stopped():
            return
        shown = session.encoded if image is session.current else None
        run = plan(image, shown or image.encoded.without_features())
        if image.run is not None and image.run.has_results_of(run):
            continue
        session.begin(run, image)
        yield Step(image, run, None, number / len(images))
        with closing(answers(models, run, is_stopped)) as found:
            for answer in found:
                done, total = answer.progress
                yield Step(image, run, answer, (number + done / total) / len(images))
        if image is not session.current:
            run.encoded = image.encoded  # Without features.
        session.bound_answers(image)
        yield Step(image, run, None, (number + 1) / len(images))
