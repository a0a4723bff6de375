"""CLIP-Guided SAM (arXiv 2605.24807): text conditions SAM's encoder, a map prompts SAM."""

from __future__ import annotations

from ..models.tuned_sam_model import TunedSamConfig
from ..predictor import MethodInfo
from ..weights.presets import Preset
from .tuned_sam import TunedSamPredictor, adapters


class ClipGuidedSamPredictor(TunedSamPredictor):
    """CLIP-Guided SAM: semi-automatic (text only) or manual (text and the user's points)."""

    info = MethodInfo(
        id="clip-guided-sam",
        name="CLIP-Guided SAM",
        paper="arXiv 2605.24807",
        kind="method",
        modes=("semi-automatic", "manual"),
        summary=(
            "Class name and CLIP's patch features condition SAM's encoder; points and a dense "
            "prompt come from CLIP's similarity map, or the points from you."
        ),
        quoted=(
            "mIoU from text alone 78.3 (VOC 1/16), 60.5 (COCO 1/512), 47.9 (ADE20K 1/64); MAE with "
            "clicks 0.015 (COD10K)"
        ),
    )

    @classmethod
    def design(cls, preset: Preset) -> TunedSamConfig:
        """Return adapters with text, patches, similarity (section 3.3), and a tuned CLIP (3.4)."""
        seen = adapters(preset, text=True, vision=True, similarity=True)
        return TunedSamConfig(seen, clip="surgery", clip_blocks=None, dense_prompt=True)
