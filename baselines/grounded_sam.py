"""Grounded SAM (arXiv 2401.14159): Grounding DINO detects boxes for a name, SAM segments them."""

from __future__ import annotations

from torch import Tensor

from clipsam.encoded_image import EncodedImage
from clipsam.measure import Stopwatch
from clipsam.models.grounding_dino import GroundingDino
from clipsam.registry import METHODS

from .box_prompted import BoxPromptedPredictor, DetectionConfig


class GroundedSamPredictor(BoxPromptedPredictor):
    """Grounded SAM, with one detector run per name.

    The authors' demos put all names into one text and then assign words to boxes with
    another threshold, which a single name does not need.
    """

    info = METHODS["grounded-sam"]
    detector: GroundingDino

    @classmethod
    def design(cls) -> DetectionConfig:
        """Return the box threshold of ``grounded_sam_demo.py`` and the NMS of the simple demo."""
        return DetectionConfig(score_threshold=0.3, nms_threshold=0.8)

    def _detect(self, encoded: EncodedImage, name: str, watch: Stopwatch) -> Tensor:
        with watch.step("Grounding DINO"):
            return encoded.cached(
                (self.info.networks, name), lambda: self.detector.detect(encoded.image, name)
            )
