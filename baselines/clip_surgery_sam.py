"""CLIP Surgery + SAM (arXiv 2304.05653): points from the similarity map, unchanged or tuned SAM.

The tuned ones are the comparisons of CLIP-Guided SAM: CLIP prompts SAM, but nothing of
it enters SAM's encoder, and CLIP stays frozen.
"""

from __future__ import annotations

from clipsam.methods.tuned_sam import TunedSamPredictor, adapters
from clipsam.models.clip import SurgeryVision
from clipsam.models.tuned_sam_model import TunedSamConfig
from clipsam.prompting import Calibration
from clipsam.registry import METHODS
from clipsam.weights.presets import Preset

from .map_prompted import ClipMapPredictor


class ClipSurgerySamPredictor(ClipMapPredictor):
    """CLIP Surgery + SAM, optionally with the map as dense prompt, as in CLIP-Guided SAM."""

    info = METHODS["clip-surgery-sam"]

    def _vision(self) -> tuple[SurgeryVision, str]:
        return self.backbones.vision, "surgery"

    @property
    def calibration(self) -> Calibration:
        """The preset's calibration, measured on these maps."""
        return self.backbones.calibration


class DecoderTunedPredictor(TunedSamPredictor):
    """CLIP Surgery's points and map for a SAM with a decoder tuned on them."""

    info = METHODS["clip-surgery-sam-decoder"]

    @classmethod
    def design(cls, preset: Preset) -> TunedSamConfig:
        """Return a network without additions to the encoder."""
        return TunedSamConfig(clip="surgery", dense_prompt=True)


class AdaptersTunedPredictor(TunedSamPredictor):
    """CLIP Surgery + SAM with tuned decoder and plain adapters in SAM's encoder."""

    info = METHODS["clip-surgery-sam-adapters"]

    @classmethod
    def design(cls, preset: Preset) -> TunedSamConfig:
        """Return SU-SAM's parallel adapters."""
        return TunedSamConfig(adapters(preset), clip="surgery", dense_prompt=True)
