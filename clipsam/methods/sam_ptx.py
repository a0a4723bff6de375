"""SAM-PTx (arXiv 2508.00213): the class text conditions SAM's encoder, the user prompts it."""

from __future__ import annotations

from ..models.tuned_sam_model import TunedSamConfig
from ..registry import METHODS
from ..weights.presets import Preset
from .tuned_sam import TunedSamPredictor, adapters


class SamPtxPredictor(TunedSamPredictor):
    """SAM-PTx: parallel adapters, the one at the MLP conditioned on frozen CLIP's class text."""

    info = METHODS["sam-ptx"]

    @classmethod
    def design(cls, preset: Preset) -> TunedSamConfig:
        """Return text adapters without other parts of CLIP."""
        return TunedSamConfig(adapters(preset, text=True))
