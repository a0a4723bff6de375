"""CLIP Surgery + SAM (arXiv 2304.05653): points from the similarity map, for SAM as it is or tuned.

The tuned ones are the comparisons of CLIP-Guided SAM: CLIP prompts SAM, but nothing of
it enters SAM's encoder, and CLIP stays frozen.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import nn

from clipsam.measure import Stopwatch
from clipsam.methods.base import TunedSamPredictor, adapters
from clipsam.models.clip import similarity_grid
from clipsam.models.tuned_sam import TunedSamConfig
from clipsam.predictor import MethodInfo, Options, Predictor, nothing_found, register
from clipsam.scene import Scene
from clipsam.types import Concept, ConceptResult, PromptsUsed
from clipsam.weights.presets import Preset


@register
class ClipSurgerySamPredictor(Predictor):
    """Vanilla, or modified as in CLIP-Guided SAM: with the map as dense prompt too."""

    info = MethodInfo(
        id="clip-surgery-sam",
        name="CLIP Surgery + SAM",
        paper="arXiv 2304.05653",
        kind="baseline",
        modes=("vanilla", "dense-prompt"),
        summary=(
            "Points where CLIP's similarity map is high, handed to an unchanged SAM; optionally "
            "the map itself as dense prompt."
        ),
    )

    def network(self) -> nn.Module:
        """Both backbones; nothing of them is trained here."""
        return nn.ModuleList([self.backbones.sam, self.backbones.clip])

    def _predict_concept(
        self, scene: Scene, concept: Concept, mode: str, options: Options, watch: Stopwatch
    ) -> ConceptResult:
        backbones = self.backbones
        with watch.step("CLIP text"):
            text = backbones.text([concept.synonyms])
        with watch.step("CLIP image"):
            tokens = scene.clip_tokens(backbones, backbones.vision, "surgery")
        with watch.step("prompts"):
            similarity = similarity_grid(tokens, text)
            shown = similarity[0].float().cpu().numpy()
            points, dense = self._map_prompts(
                scene, concept, similarity, backbones.calibration, options
            )
        if not len(points):
            return nothing_found(backbones.preset.sam.mask_side, shown)
        prompts = PromptsUsed(points, np.ones(len(points), np.int64))
        if mode == "vanilla":
            dense = None
        else:
            prompts = replace(prompts, dense=(dense[0, 0] > 0).cpu().numpy())
        with watch.step("SAM encoder"):
            embedding = scene.sam_embedding(backbones)
        with watch.step("SAM decoder"):
            return self._decode(
                backbones.sam,
                embedding,
                scene,
                prompts,
                dense,
                similarity=shown,
                presence=backbones.calibration.presence(shown),
            )


@register
class DecoderTunedPredictor(TunedSamPredictor):
    """CLIP Surgery's points and map for a SAM whose decoder was tuned on them."""

    info = MethodInfo(
        id="clip-surgery-sam-decoder",
        name="CLIP Surgery + SAM, decoder tuned",
        paper="arXiv 2605.24807",
        kind="baseline",
        modes=("semi-automatic", "manual"),
        summary=(
            "CLIP's similarity map prompts a SAM whose prompt encoder and mask decoder were tuned."
        ),
    )

    @classmethod
    def design(cls, preset: Preset) -> TunedSamConfig:
        """Nothing is added to the encoder."""
        return TunedSamConfig(clip="surgery", dense_prompt=True)


@register
class AdaptersTunedPredictor(TunedSamPredictor):
    """The same with plain adapters in SAM's encoder."""

    info = MethodInfo(
        id="clip-surgery-sam-adapters",
        name="CLIP Surgery + SAM, adapters tuned",
        paper="arXiv 2605.24807",
        kind="baseline",
        modes=("semi-automatic", "manual"),
        summary=(
            "CLIP's similarity map prompts a SAM with tuned decoder and parallel adapters that "
            "know no words."
        ),
    )

    @classmethod
    def design(cls, preset: Preset) -> TunedSamConfig:
        """SU-SAM's parallel adapters."""
        return TunedSamConfig(adapters(preset), clip="surgery", dense_prompt=True)
