"""Parameter-efficient tuning of SAM without text: decoder only, SU-SAM's adapters, or LoRA.

What CLIP-Guided SAM and SAM-PTx are compared with: the same encoder and training, without
semantics. The user points, the class name plays no part.
"""

from __future__ import annotations

from clipsam.methods.tuned_sam import TunedSamPredictor, adapters
from clipsam.models.tuned_sam_model import TunedSamConfig
from clipsam.registry import METHODS
from clipsam.weights.presets import Preset


class SamDecoderPredictor(TunedSamPredictor):
    """SAM with tuned decoder and unchanged image encoder."""

    info = METHODS["sam-decoder"]

    @classmethod
    def design(cls, preset: Preset) -> TunedSamConfig:
        """Return a network without additions."""
        return TunedSamConfig()


class SamParallelPredictor(TunedSamPredictor):
    """SU-SAM with adapters parallel to attention and to the MLP."""

    info = METHODS["sam-parallel"]

    @classmethod
    def design(cls, preset: Preset) -> TunedSamConfig:
        """Return parallel adapters."""
        return TunedSamConfig(adapters(preset, layout="parallel"))


class SamSeriesPredictor(TunedSamPredictor):
    """SU-SAM with adapters after attention and after the MLP."""

    info = METHODS["sam-series"]

    @classmethod
    def design(cls, preset: Preset) -> TunedSamConfig:
        """Return serial adapters."""
        return TunedSamConfig(adapters(preset, layout="series"))


class SamMixPredictor(TunedSamPredictor):
    """SU-SAM with adapters after attention and parallel to the MLP."""

    info = METHODS["sam-mix"]

    @classmethod
    def design(cls, preset: Preset) -> TunedSamConfig:
        """Return one serial and one parallel adapter per block."""
        return TunedSamConfig(adapters(preset, layout="mix"))


class SamLoraPredictor(TunedSamPredictor):
    """SU-SAM with low-rank updates of queries and values."""

    info = METHODS["sam-lora"]

    @classmethod
    def design(cls, preset: Preset) -> TunedSamConfig:
        """Return LoRA of rank 4 on q and v."""
        return TunedSamConfig(adapters(preset, layout="lora"))
