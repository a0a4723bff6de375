"""Adapting a method to a few labelled pictures against the clock, and what it brought."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.labelled import LabelledImages
from ..data.samples import VOID, LabelledImage
from ..data.splits import Split
from ..encoded_image import EncodedImage
from ..evaluation.metrics import count, iou
from ..evaluation.runner import MANUAL, prompt_of
from ..methods.base import TrainablePredictor
from ..predictor import ALONE, PredictOptions, Turn
from ..types import Prediction
from ..weights.backbones import Backbones, assemble, build_networks
from ..weights.presets import Preset
from .loop import Watch
from .recipe import Recipe
from .stages import recipe_for
from .train_method import TrainingJob, train_method

MIN_IMAGES = 4
"""Labelled pictures that adapting needs."""

CLICKS = 5
"""Points per class, drawn from the labels, that stand for the user's before and after."""

ENDLESS = 10**6
"""Steps of a training that the clock ends."""


def held_out(count: int) -> int:
    """How many of the last pictures are not trained on: a quarter, at least one, at most four."""
    return min(4, max(1, count // 4))


@dataclass(frozen=True)
class ImageComparison:
    """A class of a held-out picture before and after.

    Attributes:
        picture: its key.
        name: of the class.
        before, after: IoU.
    """

    picture: str
    name: str
    before: float
    after: float


@dataclass(frozen=True)
class AdaptationResult:
    """What came of it; can be pickled.

    Attributes:
        folder: the bundle.
        mode: in which the held-out pictures were asked.
        pictures: the held-out pictures.
        before, after: the answers for each of them.
        rows: the score of each class of each of them.
    """

    folder: Path
    mode: str
    pictures: tuple[LabelledImage, ...]
    before: tuple[Prediction, ...]
    after: tuple[Prediction, ...]
    rows: tuple[ImageComparison, ...]

    @property
    def mean_before(self) -> float:
        """Mean IoU over the rows."""
        return float(np.mean([row.before for row in self.rows]))

    @property
    def mean_after(self) -> float:
        """Mean IoU over the rows."""
        return float(np.mean([row.after for row in self.rows]))


def trained_parts(method: type[TrainablePredictor], preset: Preset) -> dict[str, int]:
    """How many parameters its training changes in each part of the network; loads no weights."""
    with torch.device("meta"):
        backbones = assemble(preset, *build_networks(preset), device="meta")
        state = method.untrained(backbones).model.trainable_state()
    counts: dict[str, int] = {}
    for name, tensor in state.items():
        part = name.partition(".")[0]
        counts[part] = counts.get(part, 0) + tensor.numel()
    return counts


def adapt_recipe(
    method: type[TrainablePredictor], preset: Preset, pictures: Sequence[LabelledImage]
) -> Recipe:
    """Return the recipe of a preset for a few images and a time limit.

    On ``tiny``, mirroring suffices for hundreds of pictures but not for six, so the paper's
    augmentation takes its place; smaller batches bring more steps into the minutes.
    """
    recipe = recipe_for(method, preset)
    changed: dict[str, Any] = {"steps": ENDLESS, "validations": 1, "schedule": "cosine"}
    if preset.bundled:
        changed |= {"augmentation": "paper", "batch_size": 4, "warmup": 5}
    if recipe.classes_per_image is not None:
        most = max(len(picture.names) for picture in pictures)
        changed["classes_per_image"] = min(recipe.classes_per_image, most)
    return dataclasses.replace(recipe, **changed)


def adapt(
    method: type[TrainablePredictor],
    backbones: Backbones,
    pictures: Sequence[LabelledImage],
    seconds: float,
    folder: Path,
    watch: Watch,
    turn: Turn = ALONE,
) -> AdaptationResult:
    """Train a copy of a method's bundle on all but the last pictures, and compare on those.

    Args:
        method: what to train, for all of its modes.
        backbones: SAM and CLIP, which stay as they are.
        pictures: at least :data:`MIN_IMAGES`; see :func:`held_out`.
        seconds: of training.
        folder: for the new bundle.
        watch: see :data:`Watch`.
        turn: see :meth:`Predictor.during`.

    Raises:
        DataError: pictures that cannot be trained on.
        WeightsError: the bundle that training starts from cannot be read.
    """
    data = LabelledImages(pictures)
    trained = range(len(data) - held_out(len(data)))
    tested = tuple(data[index] for index in range(len(trained), len(data)))
    predictor = method.load(backbones).during(turn)
    mode = method.info.modes[0]
    before = tuple(_answer(predictor, picture, mode) for picture in tested)
    job = TrainingJob(
        source=f"{len(data)} pictures labelled on the workbench's page",
        data=data,
        split=Split(f"all but the last {len(tested)}", tuple(trained)),
        recipe=adapt_recipe(method, backbones.preset, [pictures[index] for index in trained]),
        start="bundle",
        seconds=seconds,
    )
    train_method(predictor, job, folder, watch=watch)
    # Bundles are stored in half precision: what is shown is what can be downloaded.
    stored = method.load(backbones, folder).during(turn)
    after = tuple(_answer(stored, picture, mode) for picture in tested)
    rows = tuple(
        row
        for picture, old, new in zip(tested, before, after, strict=True)
        for row in _compare(picture, old, new)
    )
    return AdaptationResult(folder, mode, tested, before, after, rows)


def _answer(predictor: TrainablePredictor, picture: LabelledImage, mode: str) -> Prediction:
    """For the classes that a picture shows, with clicks where the mode needs them."""
    prompt = prompt_of(picture, CLICKS if mode == MANUAL else 0, seed=0)
    return predictor.predict(EncodedImage(picture.image), prompt, PredictOptions(mode=mode))


def _compare(
    picture: LabelledImage, before: Prediction, after: Prediction
) -> list[ImageComparison]:
    """Return a row for each class that an image shows."""
    valid = picture.classes != VOID
    rows = []
    for index, value in enumerate(picture.present()):
        truth = picture.classes == value
        old, new = (
            iou(count(answer.class_mask(index), truth, valid)) for answer in (before, after)
        )
        rows.append(ImageComparison(picture.key, picture.names[value], old, new))
    return rows
