"""CLIP-Guided SAM (arXiv 2605.24807): the class enters SAM's encoder, its map prompts SAM."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from uuid import uuid4

import numpy as np
from torch import nn

from ..measure import Stopwatch
from ..models.clip import similarity_grid
from ..models.clip_guided_sam import ClipGuidedSam
from ..models.image_encoder import AdapterConfig
from ..predictor import MethodInfo, Options, Predictor, nothing_found, register
from ..prompting import Calibration
from ..scene import Scene
from ..types import Concept, ConceptResult, PromptsUsed
from ..weights.backbones import BUNDLES, Backbones
from ..weights.bundle import WeightsError, load_bundle, load_into


@register
class ClipGuidedSamPredictor(Predictor):
    """Semi-automatic (text only) or manual (text and the user's points)."""

    info = MethodInfo(
        id="clip-guided-sam",
        name="CLIP-Guided SAM",
        paper="arXiv 2605.24807",
        kind="method",
        modes=("semi-automatic", "manual"),
        summary=(
            "The class name and CLIP's patch features are injected into SAM's encoder; points and "
            "a dense prompt come from CLIP's similarity map, or the points from you."
        ),
    )
    needs_training = True

    def __init__(
        self, backbones: Backbones, adapters: AdapterConfig, calibration: Calibration
    ) -> None:
        """
        Args:
            backbones: the preset's SAM and CLIP.
            adapters: what is added to SAM's encoder.
            calibration: of the tuned CLIP's similarities.
        """
        super().__init__(backbones)
        self.adapters = adapters
        model = ClipGuidedSam(backbones.sam, backbones.vision, adapters)
        self.model = model.to(backbones.device).eval()
        self.calibration = calibration
        # Tells this network's features from another's (untrained, trained again) in a scene.
        self.name = f"{self.info.id} {uuid4().hex}"

    @classmethod
    def load(cls, backbones: Backbones, folder: Path | None = None) -> ClipGuidedSamPredictor:
        """See :meth:`Predictor.load`."""
        preset = backbones.preset
        folder = folder or BUNDLES / preset.name / cls.info.id
        config, state = load_bundle(folder)
        if config["preset"] != preset.name:
            raise WeightsError(f"{folder} fits the preset {config['preset']}, not {preset.name}")
        adapters = AdapterConfig(**config["adapters"])
        predictor = cls(backbones, adapters, Calibration(**config["calibration"]))
        load_into(predictor.model, state, str(folder))
        return predictor

    @classmethod
    def untrained(cls, backbones: Backbones, block: str = "preserving") -> ClipGuidedSamPredictor:
        """The network before training: what training starts from, and what is counted and timed."""
        preset = backbones.preset
        adapters = AdapterConfig(
            text=True,
            vision=True,
            block=block,
            last_blocks=preset.last_blocks if block == "preserving" else None,
            semantic_dim=preset.clip.projection_dim,
        )
        return cls(backbones, adapters, backbones.calibration)

    def network(self) -> nn.Module:
        """SAM with adapters and tuned CLIP vision, and the rest of CLIP."""
        clip = self.backbones.clip
        rest = [clip.text_model, clip.text_projection, nn.ParameterList([clip.logit_scale])]
        return nn.ModuleList([self.model, *rest])

    def _predict_concept(
        self, scene: Scene, concept: Concept, mode: str, options: Options, watch: Stopwatch
    ) -> ConceptResult:
        backbones, model, preset = self.backbones, self.model, self.backbones.preset
        with watch.step("CLIP text"):
            text = backbones.text([concept.synonyms])
        with watch.step("CLIP image"):
            tokens = scene.clip_tokens(backbones, model.vision, self.name)
        with watch.step("prompts"):
            similarity = similarity_grid(tokens, text)
            shown = similarity[0].float().cpu().numpy()
            points, dense = self._map_prompts(scene, concept, similarity, self.calibration, options)
        if mode == "manual":
            prompts = PromptsUsed(concept.points, concept.labels, concept.box)
        elif len(points):
            prompts = PromptsUsed(points, np.ones(len(points), np.int64))
        else:
            return nothing_found(preset.sam.mask_side, shown)
        with watch.step("SAM encoder"):
            first = model.image_encoder.first_adapted
            prefix = scene.sam_tokens(backbones, first)
            grid = scene.sam_transform(preset).sampling_grid(prefix.shape[1])
            grid = None if grid is None else grid.to(backbones.device)
            embedding = scene.cached(
                ("clip-guided", preset.name, self.name, concept.synonyms),
                lambda: model.encode(prefix, model.condition(tokens, text, grid)),
            )
        with watch.step("SAM decoder"):
            return self._decode(
                model,
                embedding,
                scene,
                replace(prompts, dense=(dense[0, 0] > 0).cpu().numpy()),
                dense,
                similarity=shown,
                presence=self.calibration.presence(shown),
            )


def bundle_config(
    preset: str, adapters: AdapterConfig, calibration: Calibration, training: dict
) -> dict:
    """The ``config.json`` of a trained CLIP-Guided SAM."""
    return {
        "method": ClipGuidedSamPredictor.info.id,
        "preset": preset,
        "adapters": asdict(adapters),
        "calibration": asdict(calibration),
        "training": training,
    }
