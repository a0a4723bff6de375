"""CLIPSeg + SAM: the map of a text-guided segmentation network prompts SAM.

CLIPSeg (arXiv 2112.10003) gives each name a coarse map; SAM turns it into a sharp mask.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from clipsam.encoded_image import EncodedImage
from clipsam.measure import Stopwatch
from clipsam.registry import METHODS
from clipsam.types import Concept
from clipsam.weights.backbones import Backbones
from clipsam.weights.published import CLIPSEG

from .map_prompted import MapPromptedPredictor


class ClipSegSamPredictor(MapPromptedPredictor):
    """CLIPSeg's probability map prompts SAM; synonyms are combined by the maximum per pixel.

    ``presence`` is the highest probability anywhere in the map.
    """

    info = METHODS["clipseg-sam"]
    map_name = "CLIPSeg's map"
    map_unit = "probability"

    def __init__(self, backbones: Backbones) -> None:
        """Fetch CLIPSeg.

        Args:
            backbones: the preset's SAM; CLIPSeg comes with a CLIP of its own.

        Raises:
            WeightsError: CLIPSeg is not on this machine, damaged, or another network.
        """
        super().__init__(backbones)
        self.clipseg = backbones.extra_network(CLIPSEG, self.info.id)

    def network(self) -> nn.Module:
        """Return SAM and CLIPSeg, both frozen."""
        return nn.ModuleList([super().network(), self.clipseg])

    def _map(self, encoded: EncodedImage, concept: Concept, watch: Stopwatch) -> Tensor:
        with watch.step("CLIPSeg text"):
            texts = torch.stack([self.clipseg.read_text(name) for name in concept.synonyms])
        with watch.step("CLIPSeg image"):
            activations = encoded.cached(
                ("CLIPSeg",), lambda: self.clipseg.read_image(encoded.image)
            )
        with watch.step("CLIPSeg decoder"):
            return self.clipseg.logits(activations, texts).amax(0, keepdim=True).sigmoid()

    def _presence(self, shown: np.ndarray) -> float:
        return float(shown.max())
