"""CLIP Surgery + SAM (arXiv 2304.05653): points from the similarity map, unchanged or tuned SAM.

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
    """CLIP Surgery + SAM, optionally with the map as dense prompt, as in CLIP-Guided SAM."""

    info = MethodInfo(
        id="clip-surgery-sam",
        name="CLIP Surgery + SAM",
        paper="arXiv 2304.05653",
        kind="baseline",
        modes=(VANILLA, DENSE),
        summary=(
            "Points where CLIP's similarity map is high prompt an unchanged SAM, optionally with "
            "the map itself as dense prompt."
        ),
        quoted="in 2605.24807: mIoU 41.2, with dense prompt 48.6 (VOC 1/16)",
    )

    def _vision(self) -> tuple[SurgeryVision, str]:
        return self.backbones.vision, "surgery"

    @property
    def calibration(self) -> Calibration:
        """The preset's calibration, measured on these maps."""
        return self.backbones.calibration


class DecoderTunedPredictor(TunedSamPredictor):
    """CLIP Surgery's points and map for a SAM with a decoder tuned on them."""

    info = MethodInfo(
        id="clip-surgery-sam-decoder",
        name="CLIP Surgery + SAM, decoder tuned",
        paper="arXiv 2605.24807",
        kind="baseline",
        modes=("semi-automatic", "manual"),
        summary=("CLIP's similarity map prompts a SAM with tuned prompt encoder and mask decoder."),
        quoted="mIoU 58.8 (VOC 1/16), 34.6 (COCO 1/512)",
    )

    @classmethod
    def design(cls, preset: Preset) -> TunedSamConfig:
        """Return a network without additions to the encoder."""
        return TunedSamConfig(clip="surgery", dense_prompt=True)


class AdaptersTunedPredictor(TunedSamPredictor):
    """CLIP Surgery + SAM with tuned decoder and plain adapters in SAM's encoder."""

    info = MethodInfo(
        id="clip-surgery-sam-adapters",
        name="CLIP Surgery + SAM, adapters tuned",
        paper="arXiv 2605.24807",
        kind="baseline",
        modes=("semi-automatic", "manual"),
        summary=(
            "CLIP's similarity map prompts a SAM with tuned decoder and parallel adapters without "
            "text."
        ),
        quoted="mIoU 61.4 (VOC 1/16), 36.2 (COCO 1/512)",
    )

    @classmethod
    def design(cls, preset: Preset) -> TunedSamConfig:
        """Return SU-SAM's parallel adapters."""
        return TunedSamConfig(adapters(preset), clip="surgery", dense_prompt=True)
