"""CLIP Surgery + SAM as the demo of its authors runs it.

Source: arXiv 2304.05653, ``demo.py`` and ``clip/clip.py`` of github.com/xmed-lab/CLIP_Surgery.
The demo reads a text without a fixed set of classes as here; where it asks 59 names at once, the
classes also restrain each other. It resizes CLIP's input bicubically, here all of CLIP's inputs are
resized bilinearly.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipsam.encoded_image import EncodedImage
from clipsam.measure import Stopwatch
from clipsam.models.clip import similarity_grid
from clipsam.predictor import PredictOptions
from clipsam.prompting import PromptSettings, min_max
from clipsam.registry import METHODS
from clipsam.sam_prompting import empty_result
from clipsam.types import Concept, ConceptResult, SamPrompts

from .prompted_sam import SamPrompter

SMOOTHING = 2
"""The demo shrinks the map by this factor before it takes its cells."""

UNIT = "relative"
"""Unit of the maps: features are divided by their norm over the image's cells."""

DEMO_PROMPTS = PromptSettings(point_threshold=0.8)
"""The demo's threshold, whatever the preset's calibration."""


class ClipSurgerySamDemoPredictor(SamPrompter):
    """85 templates, every high cell as foreground, as many low ones as background, best of three.

    Of the settings of prompts only the threshold applies. Presence is unknown: the preset's
    calibration is of the bare name.
    """

    info = METHODS["clip-surgery-sam-demo"]

    def network(self) -> nn.Module:
        """Return SAM and CLIP, both frozen."""
        return nn.ModuleList([super().network(), self.backbones.clip])

    def _is_cut(self, name: str) -> bool:
        return self.backbones.text.is_cut(name)

    def _map(self, encoded: EncodedImage, concept: Concept, watch: Stopwatch) -> Tensor:
        with watch.step("CLIP text"):
            text = self.backbones.text.ensemble(concept.synonyms)[None]
        with watch.step("CLIP image"):
            vision = self.backbones.vision
            tokens = encoded.clip_tokens(self.backbones, vision, "surgery", norm="reference")
        return similarity_grid(tokens, text)

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
            threshold = options.prompt_settings(DEMO_PROMPTS).point_threshold
            prompts = extreme_points(similarity[0].float().cpu(), encoded.size, threshold)
        if not len(prompts.points):
            nothing = empty_result(self._mask_side, shown)
            return replace(nothing, similarity_unit=UNIT)
        result = self._segment(encoded, prompts, watch, similarity=shown, similarity_unit=UNIT)
        if result.candidates is None or result.candidate_scores is None:
            raise ValueError("SAM gave no candidates for one set of points")
        return replace(result, logits=result.candidates[result.candidate_scores.argmax()])


def extreme_points(similarity: Tensor, size: tuple[int, int], threshold: float) -> SamPrompts:
    """Take every cell at or above a threshold as foreground, and as many lowest as background.

    Args:
        similarity: raw map (h, w) over the whole image.
        size: (height, width) of the image.
        threshold: on the map scaled to 0..1; at most half of all cells are foreground.

    Returns:
        Points in whole pixels, the lower cells first in each half; none for a constant map.
    """
    shrunk = [side // SMOOTHING for side in similarity.shape]
    small = F.interpolate(similarity[None, None], shrunk, mode="bilinear", align_corners=False)
    cells = min_max(small[0, 0]).flatten()
    count = min(int((cells >= threshold).sum()), len(cells) // 2)
    rank = cells.argsort()
    chosen = torch.cat((rank[len(rank) - count :], rank[:count]))
    (rows, columns), (height, width) = shrunk, size
    x = ((chosen % columns + 0.5) * (width / columns)).clamp(max=width - 1)
    y = ((chosen // columns + 0.5) * (height / rows)).clamp(max=height - 1)
    points = torch.stack((x, y), dim=1).floor().numpy().astype(np.float32)
    return SamPrompts(points, np.repeat(np.array([1, 0], np.int64), count))
