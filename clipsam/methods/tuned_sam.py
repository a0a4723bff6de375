"""What CLIP-Guided SAM, SAM-PTx and the tuned baselines have in common: all but their design."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
from torch import Tensor, nn

from ..measure import Stopwatch
from ..models.clip import similarity_grid
from ..models.image_encoder import AdapterConfig
from ..models.tuned_sam import TunedSam, TunedSamConfig
from ..predictor import Options, nothing_found
from ..prompting import Calibration
from ..scene import Scene
from ..types import Concept, ConceptResult, PromptsUsed
from ..weights.backbones import Backbones
from ..weights.presets import Preset
from .base import TrainablePredictor


class TunedSamPredictor(TrainablePredictor):
    """Runs a :class:`TunedSam`; a method is a design and its modes.

    ``manual`` takes the user's points and box, any other mode takes points from CLIP's map.
    """

    config_type = TunedSamConfig

    def __init__(self, backbones: Backbones, config: TunedSamConfig) -> None:
        """
        Args:
            backbones: the preset's SAM and CLIP.
            config: what is added and tuned.
        """
        super().__init__(backbones, config)
        self.calibration = backbones.calibration  # until its own CLIP is tuned

    def _build(self) -> TunedSam:
        return TunedSam(self.backbones.sam, self.backbones.vision, self.config)

    def tuned_from(self) -> dict[str, Tensor]:
        """See :meth:`TrainablePredictor.tuned_from`."""
        parts = {
            "prompt_encoder": self.backbones.sam.prompt_encoder,
            "mask_decoder": self.backbones.sam.mask_decoder,
            "vision": self.backbones.vision,
        }
        return {
            f"{part}.{name}": parameter.detach()
            for part, module in parts.items()
            for name, parameter in module.named_parameters()
        }

    @classmethod
    def _from_content(cls, backbones: Backbones, content: dict) -> TunedSamPredictor:
        predictor = super()._from_content(backbones, content)
        predictor.calibration = Calibration(**content["calibration"])
        return predictor

    def bundle_config(self, training: dict) -> dict:
        """See :meth:`TrainablePredictor.bundle_config`; with the calibration of its own CLIP."""
        return {**super().bundle_config(training), "calibration": asdict(self.calibration)}

    def network(self) -> nn.Module:
        """SAM as it is tuned, and what of CLIP runs with it."""
        clip, parts = self.backbones.clip, [self.model]
        if self.config.sees_text or self.config.clip is not None:
            parts += [clip.text_model, clip.text_projection, nn.ParameterList([clip.logit_scale])]
        return nn.ModuleList(parts)

    def _predict_concept(
        self, scene: Scene, concept: Concept, mode: str, options: Options, watch: Stopwatch
    ) -> ConceptResult:
        backbones, config = self.backbones, self.config
        text = tokens = shown = dense = None
        points = np.zeros((0, 2), np.float32)
        if config.sees_text or config.clip is not None:
            with watch.step("CLIP text"):
                text = backbones.text([concept.synonyms])
        if config.clip is not None:
            with watch.step("CLIP image"):
                tokens = scene.clip_tokens(backbones, self.model.vision, self._vision_name())
            with watch.step("prompts"):
                similarity = similarity_grid(tokens, text)
                shown = similarity[0].float().cpu().numpy()
                points, dense = self._map_prompts(
                    scene, concept, similarity, self.calibration, options
                )
        if mode == "manual":
            prompts = concept.prompts
        elif len(points):
            prompts = PromptsUsed(points, np.ones(len(points), np.int64))
        else:
            return nothing_found(self._mask_side, shown)
        if config.dense_prompt:
            prompts = replace(prompts, dense=(dense[0, 0] > 0).cpu().numpy())
        else:
            dense = None
        with watch.step("SAM encoder"):
            embedding = self._embed(scene, concept, tokens, text)
        presence = float("nan") if shown is None else self.calibration.presence(shown)
        with watch.step("SAM decoder"):
            return self._decode(
                self.model, embedding, scene, prompts, dense, similarity=shown, presence=presence
            )

    def _vision_name(self) -> str:
        """What a scene calls this tower's features: those of frozen CLIP are shared."""
        return self.name if self.config.clip_blocks != 0 else self.config.clip

    def _embed(
        self, scene: Scene, concept: Concept, tokens: Tensor | None, text: Tensor | None
    ) -> Tensor:
        """Image embedding (1, 256, h, w), made once per scene and, if it sees it, per class."""
        backbones, model, adapters = self.backbones, self.model, self.config.adapters
        if adapters is None:
            return scene.sam_embedding(backbones)
        preset, device = backbones.preset.name, backbones.device

        def encode() -> Tensor:
            prefix = scene.sam_tokens(backbones, model.first_adapted)
            grid = scene.sam_transform(backbones.preset).sampling_grid(prefix.shape[1])
            grid = None if grid is None else grid.to(device)
            patches = None
            with backbones.encoding():
                if adapters.sees_patches:
                    key = ("patches", preset, self.name)
                    patches = scene.cached(key, lambda: model.see_patches(tokens, grid))
                condition = model.condition(tokens, text, grid)
                return model.encode(prefix, condition, patches).float()

        asked = concept.synonyms if adapters.sees_class else None
        return scene.cached(("tuned", preset, self.name, asked), encode)


def adapters(preset: Preset, **fields: object) -> AdapterConfig:
    """Adapters as a preset wants them by default; ``fields`` of :class:`AdapterConfig` differ."""
    fields = {"last_blocks": preset.last_blocks, **fields}
    return AdapterConfig(semantic_dim=preset.clip.projection_dim, **fields)
