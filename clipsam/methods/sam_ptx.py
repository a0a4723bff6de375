"""SAM-PTx (arXiv 2508.00213): the class text enters SAM's encoder, the user points."""

from __future__ import annotations

from ..models.tuned_sam_model import TunedSamConfig
from ..predictor import MethodInfo
from ..weights.presets import Preset
from .tuned_sam import TunedSamPredictor, adapters


class SamPtxPredictor(TunedSamPredictor):
    """Parallel adapters of which the one beside the MLP sees the frozen CLIP's class text."""

    info = MethodInfo(
        id="sam-ptx",
        name="SAM-PTx",
        paper="arXiv 2508.00213",
        kind="method",
        modes=("manual",),
        summary="The class name is injected into SAM's encoder; you give the points or a box.",
        quoted="mIoU 67.35 (COCO), 71.38 (ADE20K), with its own protocol",
    )

    @classmethod
    def design(cls, preset: Preset) -> TunedSamConfig:
        """Text adapters and nothing else of CLIP."""
        return TunedSamConfig(adapters(preset, text=True))
