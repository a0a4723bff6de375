"""Suggestions of class names, where the GPU is."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing

import numpy as np

from ..encoded_image import EncodedImage
from ..suggest import Suggestion, read_vocabulary, suggest
from ..weights.presets import find_preset
from .model_store import ModelStore
from .zero_gpu import lend, seconds_for

MAX_SUGGESTIONS = 50

NAMES_PER_CLASS = 20
"""Names that are compared in the time of one class of a method."""


def suggestions(
    models: ModelStore, image: np.ndarray, preset: str, vocabulary: str, count: int
) -> list[Suggestion]:
    """Return the classes of a vocabulary that an image most likely shows.

    Args:
        models: the model cache.
        image: uint8 (H, W, 3).
        preset: name of the preset whose CLIP is asked.
        vocabulary: see :func:`read_vocabulary`.
        count: of the suggestions, at most :data:`MAX_SUGGESTIONS`.

    Raises:
        PromptError: no such preset, or a vocabulary that cannot be used.
        WeightsError: the preset's weights are missing or damaged.
        gr.Error: see :func:`lend`.
    """
    names = read_vocabulary(vocabulary)
    find_preset(preset)
    seconds = seconds_for(preset, (), 1, len(names) // NAMES_PER_CLASS)
    arguments = image, preset, names, max(1, min(count, MAX_SUGGESTIONS))
    with closing(lend(models, _suggest, arguments, seconds)) as answers:
        return next(answers)


def _suggest(
    models: ModelStore, image: np.ndarray, preset: str, names: Sequence[str], count: int
) -> Generator[list[Suggestion]]:
    """Yield the suggestions; a task of :func:`lend`."""
    with models.turns.request():
        found = suggest(EncodedImage(image), models.backbones(preset), names, count)
    yield found
