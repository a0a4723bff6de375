"""Plain CLIP + SAM: CLIP Surgery + SAM without the Surgery.

Shows why Surgery matters: a plain CLIP's patches gather what lies elsewhere in the image, and its
map is often high beside the object ("opposite visualization", CLIP Surgery, arXiv 2304.05653).
"""

from __future__ import annotations

from clipsam.models.clip import SurgeryVision
from clipsam.predictor import MethodInfo

from .map_prompted import DENSE, VANILLA, ClipMapPredictor


class ClipSamPredictor(ClipMapPredictor):
    """Points from the similarities of CLIP's own patch features with the text.

    The presets' calibrations are of Surgery's maps, whose similarities are others. Nobody measured
    a plain map's, so the paper's point threshold of 0.8 holds and presence is unknown.
    """

    info = MethodInfo(
        id="clip-sam",
        name="CLIP + SAM",
        paper="arXiv 2103.00020",
        kind="baseline",
        modes=(VANILLA, DENSE),
        summary=(
            "Points where plain CLIP's similarity map is high prompt an unchanged SAM; shows the "
            "benefit of CLIP Surgery."
        ),
    )

    def _vision(self) -> tuple[SurgeryVision, str]:
        return self.backbones.vision.with_layers(0), "plain"
