"""CLIP Surgery + SAM (arXiv 2304.05653): points from the similarity map, for SAM as it is or tuned.

The tuned ones are the comparisons of CLIP-Guided SAM: CLIP prompts SAM, but nothing of
it enters SAM's encoder, and CLIP stays frozen.
"""

from __future__ import annotations

from clipsam.methods.tuned_sam import TunedSamPredictor, adapters
from clipsam.models.clip import SurgeryVision
from clipsam.models.tuned_sam_model import TunedSamConfig
from clipsam.predictor import MethodInfo
from clipsam.prompting import Calibration
from clipsam.weights.presets import Preset

from .map_prompted import DENSE, VANILLA, ClipMapPredictor


class ClipSurgerySamPredictor(ClipMapPredictor):
    """Vanilla, or modified as in CLIP-Guided SAM: with the map as dense prompt too."""

    info = MethodInfo(
        id="clip-surgery-sam",
        name="CLIP Surgery + SAM",
        paper="arXiv 2304.05653",
        kind="baseline",
        modes=(VANILLA, DENSE),
        summary=(
            "Points where CLIP's similarity map is high, handed to an unchanged SAM; optionally "
            "the map itself as dense prompt."
        ),
        quoted="in 2605.24807: mIoU 41.2, with dense prompt 48.6 (VOC 1/16)",
    )

    def _vision(self) -> tuple[SurgeryVision, str]:
        return self.backbones.vision, "surgery"

    @property
    def calibration(self) -> Calibration:
        """The preset's: it was measured on these maps."""
        return self.backbones.calibration


class DecoderTunedPredictor(TunedSamPredictor):
    """CLIP Surgery's points and map for a SAM whose decoder was tuned on them."""

    info = MethodInfo(
        id="clip-surgery-sam-decoder",
        name="CLIP Surgery + SAM, decoder tuned",
        paper="arXiv 2605.24807",
        kind="baseline",
        modes=("semi-automatic", "manual"),
        summary=(
            "CLIP's similarity map prompts a SAM whose prompt encoder and mask decoder were tuned."
        ),
        quoted="mIoU 58.8 (VOC 1/16), 34.6 (COCO 1/512)",
    )

    @classmethod
    def design(cls, preset: Preset) -> TunedSamConfig:
        """Nothing is added to the encoder."""
        return TunedSamConfig(clip="surgery", dense_prompt=True)


class AdaptersTunedPredictor(TunedSamPredictor):
    """The same with plain adapters in SAM's encoder."""

    info = MethodInfo(
        id="clip-surgery-sam-adapters",
        name="CLIP Surgery + SAM, adapters tuned",
        paper="arXiv 2605.24807",
        kind="baseline",
        modes=("semi-automatic", "manual"),
        summary=(
            "CLIP's similarity map prompts a SAM with tuned decoder and parallel adapters that "
            "know no words."
        ),
        quoted="mIoU 61.4 (VOC 1/16), 36.2 (COCO 1/512)",
    )

    @classmethod
    def design(cls, preset: Preset) -> TunedSamConfig:
        """SU-SAM's parallel adapters."""
        return TunedSamConfig(adapters(preset), clip="surgery", dense_prompt=True)
