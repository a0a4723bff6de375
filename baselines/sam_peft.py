"""Parameter-efficient tuning of SAM without text: decoder only, SU-SAM's adapters, or LoRA.

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
    """SAM with tuned decoder and unchanged image encoder."""

    info = MethodInfo(
        id="sam-decoder",
        name="SAM, decoder tuned",
        paper="arXiv 2304.02643",
        kind="baseline",
        modes=("manual",),
        summary="SAM with tuned prompt encoder and mask decoder; prompted by points or a box.",
    )

    @classmethod
    def design(cls, preset: Preset) -> TunedSamConfig:
        """Return a network without additions."""
        return TunedSamConfig()


class SamParallelPredictor(TunedSamPredictor):
    """SU-SAM with adapters parallel to attention and to the MLP."""

    info = MethodInfo(
        id="sam-parallel",
        name="SU-SAM, parallel",
        paper=SU_SAM,
        kind="baseline",
        modes=("manual",),
        summary="Adapters parallel to attention and MLP; prompted by points or a box.",
    )

    @classmethod
    def design(cls, preset: Preset) -> TunedSamConfig:
        """Return parallel adapters."""
        return TunedSamConfig(adapters(preset, layout="parallel"))


class SamSeriesPredictor(TunedSamPredictor):
    """SU-SAM with adapters after attention and after the MLP."""

    info = MethodInfo(
        id="sam-series",
        name="SU-SAM, series",
        paper=SU_SAM,
        kind="baseline",
        modes=("manual",),
        summary="Adapters after attention and after the MLP; prompted by points or a box.",
    )

    @classmethod
    def design(cls, preset: Preset) -> TunedSamConfig:
        """Return serial adapters."""
        return TunedSamConfig(adapters(preset, layout="series"))


class SamMixPredictor(TunedSamPredictor):
    """SU-SAM with adapters after attention and parallel to the MLP."""

    info = MethodInfo(
        id="sam-mix",
        name="SU-SAM, mix",
        paper=SU_SAM,
        kind="baseline",
        modes=("manual",),
        summary="Adapters after attention and parallel to the MLP; prompted by points or a box.",
    )

    @classmethod
    def design(cls, preset: Preset) -> TunedSamConfig:
        """Return one serial and one parallel adapter per block."""
        return TunedSamConfig(adapters(preset, layout="mix"))


class SamLoraPredictor(TunedSamPredictor):
    """SU-SAM with low-rank updates of queries and values."""

    info = MethodInfo(
        id="sam-lora",
        name="SU-SAM, LoRA",
        paper=SU_SAM,
        kind="baseline",
        modes=("manual",),
        summary="Low-rank updates in attention; prompted by points or a box.",
    )

    @classmethod
    def design(cls, preset: Preset) -> TunedSamConfig:
        """Return LoRA of rank 4 on q and v."""
        return TunedSamConfig(adapters(preset, layout="lora"))
