"""What CLIP-Guided SAM, SAM-PTx and the tuned baselines have in common: all but their design."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import asdict, replace
from pathlib import Path
from uuid import uuid4

import numpy as np
from torch import Tensor, nn

from ..measure import Stopwatch
from ..models.clip import similarity_grid
from ..models.image_encoder import AdapterConfig
from ..models.tuned_sam import TunedSam, TunedSamConfig
from ..predictor import Options, Predictor, nothing_found
from ..prompting import Calibration
from ..scene import Scene
from ..types import Concept, ConceptResult, PromptsUsed
from ..weights.backbones import BUNDLES, Backbones
from ..weights.bundle import WeightsError, load_bundle, load_into
from ..weights.presets import Preset


class TunedSamPredictor(Predictor):
    """Runs a :class:`TunedSam`; a method is a design and its modes.

    ``manual`` takes the user's points and box, any other mode takes points from CLIP's map.
    """

    needs_training = True

    def __init__(
        self, backbones: Backbones, config: TunedSamConfig, calibration: Calibration
    ) -> None:
        """
        Args:
            backbones: the preset's SAM and CLIP.
            config: what is added and tuned.
            calibration: of the similarities that its CLIP gives.
        """
        super().__init__(backbones)
        self.config = config
        model = TunedSam(backbones.sam, backbones.vision, config)
        self.model = model.to(backbones.device).eval()
        self.calibration = calibration
        # Tells this network's features from another's (untrained, trained again) in a scene.
        self.name = f"{self.info.id} {uuid4().hex}"

    @classmethod
    @abstractmethod
    def design(cls, preset: Preset) -> TunedSamConfig:
        """What the method adds to a preset's SAM unless an ablation says otherwise."""

    @classmethod
    def load(cls, backbones: Backbones, folder: Path | None = None) -> TunedSamPredictor:
        """See :meth:`Predictor.load`."""
        preset = backbones.preset
        folder = folder or BUNDLES / preset.name / cls.info.id
        config, state = load_bundle(folder, backbones.tuned_from())
        for key, expected in (("method", cls.info.id), ("preset", preset.name)):
            if config.get(key) != expected:
                raise WeightsError(f"{folder} fits the {key} {config.get(key)}, not {expected}")
        network = TunedSamConfig.from_json(config["network"])
        predictor = cls(backbones, network, Calibration(**config["calibration"]))
        load_into(predictor.model, state, str(folder))
        return predictor

    @classmethod
    def untrained(
        cls, backbones: Backbones, config: TunedSamConfig | None = None
    ) -> TunedSamPredictor:
        """The network before training: what training starts from, and what is counted and timed.

        Args:
            backbones: the preset's SAM and CLIP.
            config: ``None`` takes the method's own design.
        """
        return cls(backbones, config or cls.design(backbones.preset), backbones.calibration)

    def bundle_config(self, training: dict) -> dict:
        """The ``config.json`` of its weights; ``training`` says how they were made."""
        return {
            "method": self.info.id,
            "preset": self.backbones.preset.name,
            "network": asdict(self.config),
            "calibration": asdict(self.calibration),
            "training": training,
        }

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
            prompts = PromptsUsed(concept.points, concept.labels, concept.box)
        elif len(points):
            prompts = PromptsUsed(points, np.ones(len(points), np.int64))
        else:
            return nothing_found(backbones.preset.sam.mask_side, shown)
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
        prefix = scene.sam_tokens(backbones, model.first_adapted)
        grid = scene.sam_transform(backbones.preset).sampling_grid(prefix.shape[1])
        grid = None if grid is None else grid.to(backbones.device)
        asked = concept.synonyms if adapters.sees_class else None
        return scene.cached(
            ("tuned", backbones.preset.name, self.name, asked),
            lambda: model.encode(prefix, model.condition(tokens, text, grid)),
        )


def adapters(preset: Preset, **fields: object) -> AdapterConfig:
    """Adapters as a preset wants them by default; ``fields`` of :class:`AdapterConfig` differ."""
    fields = {"last_blocks": preset.last_blocks, **fields}
    return AdapterConfig(semantic_dim=preset.clip.projection_dim, **fields)
