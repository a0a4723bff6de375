"""What pipelines have in common that prompt an unchanged SAM with one map per class."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from clipsam.encoded_image import EncodedImage
from clipsam.measure import Stopwatch
from clipsam.models.clip import SurgeryVision, similarity_grid
from clipsam.predictor import PredictOptions
from clipsam.prompting import Calibration
from clipsam.sam_prompting import empty_result, map_mask, map_points
from clipsam.types import Concept, ConceptResult, SamPrompts

from .prompted_sam import SamPrompter

VANILLA, DENSE = "vanilla", "dense-prompt"
"""Points from the map alone; the map itself as mask prompt too, as in CLIP-Guided SAM."""


class MapPromptedPredictor(SamPrompter):
    """Points where a map is high, for SAM as it is; a pipeline is a map and its modes."""

    map_name: ClassVar[str] = "CLIP's similarity map"
    """What the map is called when it leads nowhere."""
    map_unit: ClassVar[str] = "cosine"
    """What its values are."""

    @abstractmethod
    def _map(self, encoded: EncodedImage, concept: Concept, watch: Stopwatch) -> Tensor:
        """One class's raw map (1, h, w) over the whole image."""

    @property
    def calibration(self) -> Calibration:
        """What the map's values mean: as nobody measured it, unless a pipeline knows better."""
        return Calibration()

    def _presence(self, shown: np.ndarray) -> float:
        """Probability that the class is in the image, from its raw map (h, w)."""
        return self.calibration.presence(shown)

    def _predict_concept(
        self,
        encoded: EncodedImage,
        concept: Concept,
        mode: str,
        options: PredictOptions,
        watch: Stopwatch,
    ) -> ConceptResult:
        similarity = self._map(encoded, concept, watch)
        with watch.step("prompts"):
            shown = similarity[0].float().cpu().numpy()
            calibration, transform = self.calibration, self._transform(encoded)
            points = map_points(similarity, transform, concept.text, calibration, options)
        if not len(points):
            note = f"Nothing found: {self.map_name} is the same everywhere."
            nothing = empty_result(self._mask_side, shown, note)
            return replace(nothing, similarity_unit=self.map_unit)
        prompts, dense = SamPrompts(points, np.ones(len(points), np.int64)), None
        if mode == DENSE:
            with watch.step("prompts"):
                dense = map_mask(similarity, transform, self._mask_side, calibration, options)
                prompts = replace(prompts, dense=(dense[0, 0] > 0).cpu().numpy())
        return self._segment(
            encoded,
            prompts,
            watch,
            dense,
            presence=self._presence(shown),
            similarity=shown,
            similarity_unit=self.map_unit,
        )


class ClipMapPredictor(MapPromptedPredictor):
    """The map is the preset's CLIP's, read in one way or another."""

    @abstractmethod
    def _vision(self) -> tuple[SurgeryVision, str]:
        """The tower that reads the image, and what a scene calls its features."""

    def network(self) -> nn.Module:
        """SAM and CLIP; nothing of them is trained here."""
        return nn.ModuleList([super().network(), self.backbones.clip])

    def _map(self, encoded: EncodedImage, concept: Concept, watch: Stopwatch) -> Tensor:
        with watch.step("CLIP text"):
            text = self.backbones.text([concept.synonyms])
        with watch.step("CLIP image"):
            tokens = encoded.clip_tokens(self.backbones, *self._vision())
        return similarity_grid(tokens, text)
