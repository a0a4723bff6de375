"""SAM-PTx (arXiv 2508.00213): the class text conditions SAM's encoder, the user prompts it."""

from __future__ import annotations

from ..models.tuned_sam_model import TunedSamConfig
from ..registry import METHODS
from ..weights.presets import Preset
from .tuned_sam import TunedSamPredictor, adapters


class SamPtxPredictor(TunedSamPredictor):
    """SAM-PTx: parallel adapters, the one at the MLP conditioned on frozen CLIP's class text.

    Two decisions: an adapter without text lies parallel to attention, too, as in the code of
    CLIP-Guided SAM's authors, where the paper's abstract speaks of the MLP's alone; and the prompt
    encoder is tuned along with the decoder, where SAM-PTx freezes it.
    """

    info = METHODS["sam-ptx"]

    @classmethod
    def design(cls, preset: Preset) -> TunedSamConfig:
        """Return text adapters without other parts of CLIP."""
        return TunedSamConfig(adapters(preset, text=True))
