"""Shared bases of pipelines that prompt an unchanged SAM with one map per class."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from clipsam.encoded_image import EncodedImage
from clipsam.measure import Stopwatch
from clipsam.models.clip import Readout, SurgeryVision, similarity_grid
from clipsam.predictor import PredictOptions
from clipsam.prompting import Calibration, PromptSettings, class_seed, map_in_square
from clipsam.registry import DENSE, WITHOUT_SAM
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
            seed = class_seed(concept.synonyms, options.seed)
            points = map_points(similarity, transform, settings, seed)
        if not len(points):
            return self._nothing(shown)
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

    def _nothing(self, shown: np.ndarray) -> ConceptResult:
        """Build the empty result of a raw map (h, w) without a highest place."""
        note = f"Empty mask: {self.map_name} is constant."
        return replace(empty_result(self._mask_side, shown, note), similarity_unit=self.map_unit)


class ClipMapPredictor(MapPromptedPredictor):
    """Base class of pipelines whose map comes from the preset's CLIP."""

    @abstractmethod
    def _vision(self) -> tuple[SurgeryVision, str]:
        """Return CLIP's image encoder, and the cache key of its features."""

    def network(self) -> nn.Module:
        """Return SAM and CLIP, both frozen."""
        return nn.ModuleList([super().network(), self.backbones.clip])

    def _is_cut(self, name: str) -> bool:
        return self.backbones.text.is_cut(name)

    def _map(self, encoded: EncodedImage, concept: Concept, watch: Stopwatch) -> Tensor:
        with watch.step("CLIP text"):
            text = self.backbones.text([concept.synonyms])
        with watch.step("CLIP image"):
            tokens = encoded.clip_tokens(self.backbones, *self._vision())
        return similarity_grid(tokens, text)


MASK_THRESHOLD = 0.6
"""Min–max-scaled similarity above which the map itself is the mask.

Of 0.3, 0.4, …, 0.9 the best for MaskCLIP, SCLIP, plain CLIP and CLIP Surgery alike, on the CLIP of
the preset ``hybrid``: class-wise mIoU, mean over five sets of four training photographs each.
"""

LOGITS_PER_RANGE = 16.0
"""Logits between the lowest and the highest similarity of a map that is the mask itself."""


class ReadoutPredictor(ClipMapPredictor):
    """Base class of CLIPs whose last layer is read otherwise, without any training.

    Their cosines have levels of their own, on which the presets are not calibrated: presence is
    unknown, and thresholds act on each map scaled to 0..1 between its lowest and highest cosine.
    So every class that is asked gets a mask, also one that the image does not show. The papers
    instead give each pixel to the class with the highest cosine.
    """

    readout: ClassVar[Readout]

    def _vision(self) -> tuple[SurgeryVision, str]:
        return self.backbones.vision.with_readout(self.readout), self.info.id

    def _predict_concept(
        self,
        encoded: EncodedImage,
        concept: Concept,
        mode: str,
        options: PredictOptions,
        watch: Stopwatch,
    ) -> ConceptResult:
        if mode != WITHOUT_SAM:
            return super()._predict_concept(encoded, concept, mode, options, watch)
        similarity = self._map(encoded, concept, watch)
        with watch.step("mask"):
            shown = similarity[0].float().cpu().numpy()
            scaled = map_in_square(similarity, self._transform(encoded), self._mask_side)
            if not scaled.max() > 0:
                return self._nothing(shown)
            threshold = options.point_threshold
            above = scaled - (MASK_THRESHOLD if threshold is None else threshold)
            logits = LOGITS_PER_RANGE * above
        return ConceptResult(
            logits=logits[0, 0].float().cpu().numpy(),
            prompts=SamPrompts(),
            similarity=shown,
            similarity_unit=self.map_unit,
        )
