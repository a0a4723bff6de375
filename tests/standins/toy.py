"""A method as CONTRIBUTING.md's recipe has it: one file, whose class the list of methods names."""

from __future__ import annotations

import numpy as np
from torch import nn

from clipsam.encoded_image import EncodedImage
from clipsam.measure import Stopwatch
from clipsam.predictor import PredictOptions, Predictor
from clipsam.registry import METHODS
from clipsam.types import Concept, ConceptResult, SamPrompts


class ToyPredictor(Predictor):
    """Finds every class in the left half of the image."""

    info = METHODS["toy"]

    def network(self) -> nn.Module:
        """SAM, of which nothing is used."""
        return self.backbones.sam

    def _predict_concept(
        self,
        encoded: EncodedImage,
        concept: Concept,
        mode: str,
        options: PredictOptions,
        watch: Stopwatch,
    ) -> ConceptResult:
        logits = np.full((self._mask_side, self._mask_side), -8, np.float32)
        with watch.step("everything"):
            logits[:, : self._mask_side // 2] = 8
        return ConceptResult(logits, SamPrompts())
