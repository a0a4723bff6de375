"""OWLv2 + SAM: OWLv2 (arXiv 2306.09683) detects boxes for a name, SAM segments them."""

from __future__ import annotations

from torch import Tensor

from clipsam.encoded_image import EncodedImage
from clipsam.measure import Stopwatch
from clipsam.models.owlv2 import Owlv2
from clipsam.registry import METHODS

from .box_prompted import BoxPromptedPredictor, DetectionConfig


class Owlv2SamPredictor(BoxPromptedPredictor):
    """OWLv2 + SAM; the image is encoded once for all names."""

    info = METHODS["owlv2-sam"]
    detector: Owlv2

    @classmethod
    def design(cls) -> DetectionConfig:
        """Return the threshold documented by transformers.

        The authors use no NMS; without it, SAM would segment the same object many times.
        """
        return DetectionConfig(score_threshold=0.1)

    def _detect(self, encoded: EncodedImage, name: str, watch: Stopwatch) -> Tensor:
        with watch.step("OWLv2 image"):
            features = encoded.cached(
                (self.info.networks, "features"), lambda: self.detector.features(encoded.image)
            )
        with watch.step("OWLv2 text and boxes"):
            return encoded.cached(
                (self.info.networks, name),
                lambda: self.detector.detect(features, name, encoded.size),
            )
