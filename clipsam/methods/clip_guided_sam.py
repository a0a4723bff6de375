"""CLIP-Guided SAM (arXiv 2605.24807): text conditions SAM's encoder, a map prompts SAM."""

from __future__ import annotations

from ..models.tuned_sam_model import TunedSamConfig
from ..registry import METHODS
from ..weights.presets import Preset
from .tuned_sam import TunedSamPredictor, adapters


class ClipGuidedSamPredictor(TunedSamPredictor):
    """CLIP-Guided SAM: semi-automatic (text only) or manual (text and the user's points)."""

    info = METHODS["clip-guided-sam"]

    @classmethod
    def design(cls, preset: Preset) -> TunedSamConfig:
        """Return adapters with text, patches, similarity (section 3.3), and a tuned CLIP (3.4)."""
        seen = adapters(preset, text=True, vision=True, similarity=True)
        return TunedSamConfig(seen, clip="surgery", clip_blocks=None, dense_prompt=True)
