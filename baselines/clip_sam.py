"""Plain CLIP + SAM: CLIP Surgery + SAM without the Surgery.

Shows the benefit of Surgery: a plain CLIP's patches aggregate information from elsewhere in the
image, and its map is often high next to the object ("opposite visualization", CLIP Surgery,
arXiv 2304.05653).
"""

from __future__ import annotations

from clipsam.models.clip import SurgeryVision
from clipsam.registry import METHODS

from .map_prompted import ClipMapPredictor


class ClipSamPredictor(ClipMapPredictor):
    """Points from the similarities of CLIP's own patch features with the text.

    The presets are calibrated on Surgery's maps, whose similarities differ. A plain map is not
    calibrated, so the paper's point threshold of 0.8 applies and presence is unknown.
    """

    info = METHODS["clip-sam"]

    def _vision(self) -> tuple[SurgeryVision, str]:
        return self.backbones.vision.with_layers(0), "plain"
