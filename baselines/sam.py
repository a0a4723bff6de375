"""SAM alone (arXiv 2304.02643): the user points, the class name plays no part."""

from __future__ import annotations

from dataclasses import replace

from clipsam.encoded_image import EncodedImage
from clipsam.measure import Stopwatch
from clipsam.predictor import MethodInfo, PredictOptions
from clipsam.types import Concept, ConceptResult

from .prompted_sam import SamPrompter


class SamPredictor(SamPrompter):
    """One click asks for the best of three candidates, more clicks or a box for the one mask."""

    info = MethodInfo(
        id="sam",
        name="SAM",
        paper="arXiv 2304.02643",
        kind="baseline",
        modes=("manual",),
        summary="Points and boxes only: what SAM makes of your clicks, knowing no words.",
    )

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
        if not ambiguous:
            return result
        return replace(result, logits=result.candidates[result.candidate_scores.argmax()])
