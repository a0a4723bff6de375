"""CLIP Surgery + SAM (arXiv 2304.05653): points from the similarity map, for a frozen SAM."""

from __future__ import annotations

import numpy as np
from torch import nn

from clipsam.measure import Stopwatch
from clipsam.models.clip import patch_similarity, tokens_to_grid
from clipsam.predictor import MethodInfo, Options, Predictor, nothing_found, register
from clipsam.prompting import dense_prompt, points_from_similarity, stable_seed
from clipsam.scene import Scene
from clipsam.types import Concept, ConceptResult, PromptsUsed


@register
class ClipSurgerySamPredictor(Predictor):
    """Vanilla, or modified as in CLIP-Guided SAM's Table 2: with the map as dense prompt too."""

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
        backbones, preset = self.backbones, self.backbones.preset
        transform = scene.sam_transform(preset)
        with watch.step("CLIP text"):
            text = backbones.text([concept.synonyms])
        with watch.step("CLIP image"):
            tokens = scene.clip_tokens(backbones, backbones.vision, "surgery")
        with watch.step("prompts"):
            similarity = tokens_to_grid(patch_similarity(tokens, text)[..., None])[:, 0]
            shown = similarity[0].float().cpu().numpy()
            threshold = options.point_threshold or backbones.calibration.point_threshold
            points = points_from_similarity(
                similarity[0],
                transform,
                threshold,
                options.num_points,
                stable_seed(concept.text, options.seed),
                options.sampling,
            )
            side = 4 * preset.sam.image_size // preset.sam.patch_size
            if not len(points):
                note = "Nothing found: CLIP's map is the same everywhere."
                return nothing_found(side, shown, note)
            dense = shown_dense = None
            if mode == "dense-prompt":
                dense = dense_prompt(similarity, transform, side, threshold, options.dense_logit)
                shown_dense = (dense[0, 0] > 0).cpu().numpy()
        with watch.step("SAM encoder"):
            embedding = scene.sam_embedding(backbones)
        with watch.step("SAM decoder"):
            return self._decode(
                backbones.sam,
                embedding,
                scene,
                PromptsUsed(points, np.ones(len(points), np.int64), None, shown_dense),
                dense,
                similarity=shown,
                presence=backbones.calibration.presence(shown),
            )
