"""SAM tuned with few parameters and no words: decoder only, or with SU-SAM's adapters or LoRA.

What CLIP-Guided SAM and SAM-PTx are compared with: the same encoder and training, without
semantics. The user points, the class name plays no part.
"""

from __future__ import annotations

from clipsam.methods.tuned_sam import TunedSamPredictor, adapters
from clipsam.models.tuned_sam_model import TunedSamConfig
from clipsam.predictor import MethodInfo
from clipsam.weights.presets import Preset

SU_SAM = "arXiv 2401.17803"


class SamDecoderPredictor(TunedSamPredictor):
    """The image encoder stays as it is."""

    info = MethodInfo(
        id="sam-decoder",
        name="SAM, decoder tuned",
        paper="arXiv 2304.02643",
        kind="baseline",
        modes=("manual",),
        summary="SAM with a tuned prompt encoder and mask decoder; you give the points or a box.",
    )

    @classmethod
    def design(cls, preset: Preset) -> TunedSamConfig:
        """Nothing is added."""
        return TunedSamConfig()


class SamParallelPredictor(TunedSamPredictor):
    """One adapter beside attention, one beside the MLP."""

    info = MethodInfo(
        id="sam-parallel",
        name="SU-SAM, parallel",
        paper=SU_SAM,
        kind="baseline",
        modes=("manual",),
        summary="Adapters beside attention and MLP; you give the points or a box.",
    )

    @classmethod
    def design(cls, preset: Preset) -> TunedSamConfig:
        """Parallel adapters."""
        return TunedSamConfig(adapters(preset, layout="parallel"))


class SamSeriesPredictor(TunedSamPredictor):
    """One adapter after attention, one after the MLP."""

    info = MethodInfo(
        id="sam-series",
        name="SU-SAM, series",
        paper=SU_SAM,
        kind="baseline",
        modes=("manual",),
        summary="Adapters after attention and after the MLP; you give the points or a box.",
    )

    @classmethod
    def design(cls, preset: Preset) -> TunedSamConfig:
        """Serial adapters."""
        return TunedSamConfig(adapters(preset, layout="series"))


class SamMixPredictor(TunedSamPredictor):
    """One adapter after attention, one beside the MLP."""

    info = MethodInfo(
        id="sam-mix",
        name="SU-SAM, mix",
        paper=SU_SAM,
        kind="baseline",
        modes=("manual",),
        summary="Adapters after attention and beside the MLP; you give the points or a box.",
    )

    @classmethod
    def design(cls, preset: Preset) -> TunedSamConfig:
        """One serial and one parallel adapter per block."""
        return TunedSamConfig(adapters(preset, layout="mix"))


class SamLoraPredictor(TunedSamPredictor):
    """Low-rank updates of the queries and values."""

    info = MethodInfo(
        id="sam-lora",
        name="SU-SAM, LoRA",
        paper=SU_SAM,
        kind="baseline",
        modes=("manual",),
        summary="Low-rank updates inside attention; you give the points or a box.",
    )

    @classmethod
    def design(cls, preset: Preset) -> TunedSamConfig:
        """LoRA of rank 4 on q and v."""
        return TunedSamConfig(adapters(preset, layout="lora"))
