"""SAM alone (arXiv 2304.02643): the user points, the class name plays no part."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from clipsam.measure import Stopwatch
from clipsam.predictor import MethodInfo, Options, Predictor, register
from clipsam.scene import Scene
from clipsam.types import Concept, ConceptResult, PromptsUsed


@register
class SamPredictor(Predictor):
    """One click asks for the best of three candidates, more clicks or a box for the one mask."""

    info = MethodInfo(
        id="sam",
        name="SAM",
        paper="arXiv 2304.02643",
        kind="baseline",
        modes=("manual",),
        summary="Points and boxes only: what SAM makes of your clicks, knowing no words.",
    )

    def network(self) -> nn.Module:
        """SAM; nothing of it is trained here."""
        return self.backbones.sam

    def _predict_concept(
        self, scene: Scene, concept: Concept, mode: str, options: Options, watch: Stopwatch
    ) -> ConceptResult:
        with watch.step("SAM encoder"):
            embedding = scene.sam_embedding(self.backbones)
        with watch.step("SAM decoder"):
            prompts = PromptsUsed(concept.points, concept.labels, concept.box)
            result = self._decode(self.backbones.sam, embedding, scene, prompts)
        ambiguous = concept.box is None and len(concept.points) == 1
        if not ambiguous:
            return result
        return replace(result, logits=result.candidates[result.candidate_scores.argmax()])
