"""CLIP-Guided SAM (arXiv 2605.24807): the class enters SAM's encoder, its map prompts SAM."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
from torch import nn

from ..measure import Stopwatch
from ..models.clip_guided_sam import ClipGuidedSam, clip_guided_adapters
from ..models.image_encoder import AdapterConfig
from ..predictor import MethodInfo, Options, Predictor, nothing_found, register
from ..prompting import Calibration, dense_prompt, points_from_similarity, stable_seed
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
        self, backbones: Backbones, model: ClipGuidedSam, calibration: Calibration, name: str
    ) -> None:
        """
        Args:
            backbones: the preset's SAM and CLIP.
            model: the tuned network on them.
            calibration: of the tuned CLIP's similarities.
            name: tells this model's features from another's in a scene's cache.
        """
        super().__init__(backbones)
        self.model = model.eval()
        self.calibration = calibration
        self.name = name

    @classmethod
    def load(cls, backbones: Backbones) -> ClipGuidedSamPredictor:
        """See :meth:`Predictor.load`."""
        preset = backbones.preset
        folder = BUNDLES / preset.name / cls.info.id
        config, state = load_bundle(folder)
        if config["preset"] != preset.name:
            raise WeightsError(f"{folder} fits the preset {config['preset']}, not {preset.name}")
        adapters = AdapterConfig(**config["adapters"])
        model = ClipGuidedSam(backbones.sam, backbones.vision, adapters).to(backbones.device)
        load_into(model, state, str(folder))
        return cls(backbones, model, Calibration(**config["calibration"]), cls.info.id)

    @classmethod
    def untrained(cls, backbones: Backbones) -> ClipGuidedSamPredictor:
        """The network before training, for counting, timing and tests."""
        preset = backbones.preset
        adapters = clip_guided_adapters(preset.clip.projection_dim, preset.last_blocks)
        model = ClipGuidedSam(backbones.sam, backbones.vision, adapters).to(backbones.device)
        return cls(backbones, model, backbones.calibration, f"{cls.info.id} untrained")

    def network(self) -> nn.Module:
        """SAM with adapters, and CLIP with its own text tower."""
        return nn.ModuleList([self.model, self.backbones.clip.text_model])

    def _predict_concept(
        self, scene: Scene, concept: Concept, mode: str, options: Options, watch: Stopwatch
    ) -> ConceptResult:
        backbones, model, preset = self.backbones, self.model, self.backbones.preset
        transform = scene.sam_transform(preset)
        with watch.step("CLIP text"):
            text = backbones.text([concept.synonyms])
        with watch.step("CLIP image"):
            tokens = scene.clip_tokens(backbones, model.vision, self.name)
        with watch.step("prompts"):
            similarity = model.similarity(tokens, text)
            shown = similarity[0].float().cpu().numpy()
            threshold = options.point_threshold or self.calibration.point_threshold
            points = points_from_similarity(
                similarity[0],
                transform,
                threshold,
                options.num_points,
                stable_seed(concept.text, options.seed),
                options.sampling,
            )
            side = 4 * preset.sam.image_size // preset.sam.patch_size
            dense = dense_prompt(similarity, transform, side, threshold, options.dense_logit)
            labels = np.ones(len(points), np.int64)
            box = None
            if mode == "manual":
                points, labels, box = concept.points, concept.labels, concept.box
            elif not len(points):
                note = "Nothing found: CLIP's map is the same everywhere."
                return nothing_found(side, shown, note)
        with watch.step("SAM encoder"):
            first = model.image_encoder.first_adapted
            prefix = scene.sam_tokens(backbones, first)
            grid = transform.sampling_grid(prefix.shape[1])
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
                PromptsUsed(points, labels, box, (dense[0, 0] > 0).cpu().numpy()),
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
