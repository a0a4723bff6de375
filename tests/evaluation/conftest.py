"""A method and data so simple that their scores can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from clipsam.data.samples import BACKGROUND, VOID, LabelledImage
from clipsam.encoded_image import EncodedImage
from clipsam.measure import Stopwatch
from clipsam.predictor import PredictOptions, Predictor
from clipsam.registry import MethodInfo
from clipsam.types import Concept, ConceptResult, SamPrompts
from clipsam.weights.backbones import Backbones

NAMES = ("cat", "dog", "cow")


class Halves(Predictor):
    """Finds cats left, anything else above; is sure of cats, and doubts all else."""

    info = MethodInfo("halves", "Halves & <halves>", "none", "baseline", ("text", "manual"), "", "")

    def network(self) -> nn.Module:
        return nn.Linear(1, 1, bias=False).requires_grad_(False).apply(_zero)

    def _predict_concept(
        self,
        encoded: EncodedImage,
        concept: Concept,
        mode: str,
        options: PredictOptions,
        watch: Stopwatch,
    ) -> ConceptResult:
        side = self.backbones.preset.sam.image_size
        logits = np.full((side, side), -100, np.float32)
        half = np.s_[:, : side // 2] if concept.text == "cat" else np.s_[: side // 2]
        logits[half] = 100
        with watch.step("all"):
            prompts = SamPrompts(concept.points, concept.labels)
        return ConceptResult(logits, prompts, presence=0.9 if concept.text == "cat" else 0.2)


def _zero(module: nn.Linear) -> None:
    nn.init.zeros_(module.weight)


class Quarters:
    """Four images of the tiny preset's size; quarters of each show cat, dog, background, void.

    In image ``i`` the quarters are turned by ``i``; the last image shows dogs all over.
    """

    names = NAMES
    keys = ("a", "b", "c", "<d>")
    side = 256

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> LabelledImage:
        half = self.side // 2
        values = np.array([[0, 1], [VOID, BACKGROUND]], np.int16)
        classes = np.rot90(np.kron(values, np.ones((half, half), np.int16)), index)
        if index == 3:
            classes = np.ones_like(classes)
        image = np.full((self.side, self.side, 3), 50 * index, np.uint8)
        return LabelledImage(
            self.keys[index], image, classes, (classes >= 0).astype(np.int32), NAMES
        )


@pytest.fixture
def halves(tiny: Backbones) -> Halves:
    return Halves(tiny)


@pytest.fixture
def quarters() -> Quarters:
    return Quarters()
