"""Shared base of pipelines that prompt an unchanged SAM with one map per class."""

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
from clipsam.prompting import Calibration, PromptSettings, stable_seed
from clipsam.registry import DENSE
from clipsam.sam_prompting import empty_result, map_mask, map_points
from clipsam.types import Concept, ConceptResult, SamPrompts

from .prompted_sam import SamPrompter


class MapPromptedPredictor(SamPrompter):
    """Base class of map-prompted pipelines: points where a map is high."""

    map_name: ClassVar[str] = "CLIP's similarity map"
    """Name of the map in messages."""
    map_unit: ClassVar[str] = "cosine"
    """Unit of the map's values."""

    @abstractmethod
    def _map(self, encoded: EncodedImage, concept: Concept, watch: Stopwatch) -> Tensor:
        """Compute one class's raw map (1, h, w) over the whole image."""

    @property
    def calibration(self) -> Calibration:
        """Calibration of the map's values, by default none."""
        return Calibration()

    @property
    def prompt_settings(self) -> PromptSettings:
        """The paper's settings, at the calibrated threshold."""
        return PromptSettings(point_threshold=self.calibration.point_threshold)

    def _presence(self, shown: np.ndarray) -> float:
        """Return the probability that the class is present, given its raw map (h, w)."""
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
            transform = self._transform(encoded)
            settings = options.prompt_settings(self.prompt_settings)
            seed = stable_seed(concept.text, options.seed)
            points = map_points(similarity, transform, settings, seed)
        if not len(points):
            note = f"Empty mask: {self.map_name} is constant."
            nothing = empty_result(self._mask_side, shown, note)
            return replace(nothing, similarity_unit=self.map_unit)
        prompts, dense = SamPrompts(points, np.ones(len(points), np.int64)), None
        if mode == DENSE:
            with watch.step("prompts"):
                dense = map_mask(similarity, transform, settings, self._mask_side)
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
    """Base class of pipelines whose map comes from the preset's CLIP."""

    @abstractmethod
    def _vision(self) -> tuple[SurgeryVision, str]:
        """Return CLIP's image encoder, and the cache key of its features."""

    def network(self) -> nn.Module:
        """Return SAM and CLIP, both frozen."""
        return nn.ModuleList([super().network(), self.backbones.clip])

    def _map(self, encoded: EncodedImage, concept: Concept, watch: Stopwatch) -> Tensor:
        with watch.step("CLIP text"):
            text = self.backbones.text([concept.synonyms])
        with watch.step("CLIP image"):
            tokens = encoded.clip_tokens(self.backbones, *self._vision())
        return similarity_grid(tokens, text)
