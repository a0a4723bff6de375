"""Plain CLIP + SAM: CLIP Surgery + SAM without the Surgery.

Shows the benefit of Surgery: a plain CLIP's patches aggregate information from elsewhere in the
image, and its map is often high next to the object ("opposite visualization", CLIP Surgery,
arXiv 2304.05653).
"""

from __future__ import annotations

from clipsam.models.clip import SurgeryVision
from clipsam.predictor import MethodInfo

from .map_prompted import DENSE, VANILLA, ClipMapPredictor


class ClipSamPredictor(ClipMapPredictor):
    """Points from the similarities of CLIP's own patch features with the text.

    The presets are calibrated on Surgery's maps, whose similarities differ. A plain map is not
    calibrated, so the paper's point threshold of 0.8 applies and presence is unknown.
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
