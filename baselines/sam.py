"""SAM alone (arXiv 2304.02643): prompted by the user, without the class name."""

from __future__ import annotations

from dataclasses import replace

from clipsam.encoded_image import EncodedImage
from clipsam.measure import Stopwatch
from clipsam.predictor import PredictOptions
from clipsam.registry import METHODS
from clipsam.types import Concept, ConceptResult

from .prompted_sam import SamPrompter


class SamPredictor(SamPrompter):
    """SAM; one point selects the best of three candidates, more points or a box the single mask."""

    info = METHODS["sam"]

    def _predict_concept(
        self,
        encoded: EncodedImage,
        concept: Concept,
        mode: str,
        options: PredictOptions,
        watch: Stopwatch,
    ) -> ConceptResult:
        result = self._segment(encoded, concept.prompts, watch)
        ambiguous = concept.box is None and len(concept.points) == 1
        if not ambiguous or result.candidates is None or result.candidate_scores is None:
            return result
        return replace(result, logits=result.candidates[result.candidate_scores.argmax()])
