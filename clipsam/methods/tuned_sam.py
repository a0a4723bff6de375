"""Shared base of CLIP-Guided SAM, SAM-PTx and the tuned baselines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..encoded_image import EncodedImage
from ..measure import Stopwatch, free_memory
from ..models.clip import ClassTextEncoder, similarity_grid, with_text_positions
from ..models.image_encoder import AdapterConfig
from ..models.sam_model import decode_masks
from ..models.tuned_sam_model import TunedSam, TunedSamConfig
from ..predictor import PredictOptions
from ..prompting import Calibration, PromptSettings, stable_seed
from ..sam_prompting import class_result, empty_result, map_mask, map_points, prompt_tensors
from ..types import Concept, ConceptResult, SamPrompts
from ..weights.backbones import Backbones
from ..weights.presets import Preset
from .base import TrainablePredictor

if TYPE_CHECKING:
    from transformers import CLIPModel
    from typing_extensions import Self

WORKING_FLOATS = 24
"""Floats per channel of a token that a block holds at a time.

The MLP's hidden layer twice (8), qkv as computed and in windows (7), tokens before and after (4),
and the adapters.
"""


@dataclass(frozen=True)
class _ClassQuery:
    """Intermediate state of one class during prediction.

    Attributes:
        concept: the class.
        prompts: SAM prompts; ``None`` if there are none.
        text: (1, T) unit-norm class text, if the method reads it.
        tokens: (1, 1 + N, T) normalised CLIP tokens of the image, the same for all classes.
        shown: raw similarity map (h, w).
        dense: (1, 1, 4h, 4w), SAM's mask prompt.
    """

    concept: Concept
    prompts: SamPrompts | None
    text: Tensor | None
    tokens: Tensor | None
    shown: np.ndarray | None
    dense: Tensor | None

    @property
    def sam_prompts(self) -> SamPrompts:
        """The SAM prompts, of which there must be some."""
        if self.prompts is None:
            raise ValueError(f"there are no SAM prompts for {self.concept.text}")
        return self.prompts


class TunedSamPredictor(TrainablePredictor):
    """Base class of methods that run a :class:`TunedSam`, each with a configuration and modes.

    ``manual`` takes the user's points and box, any other mode takes points from CLIP's map.
    """

    config_type = TunedSamConfig
    config: TunedSamConfig
    model: TunedSam

    def __init__(self, backbones: Backbones, config: TunedSamConfig) -> None:
        """Build the network.

        Args:
            backbones: the preset's SAM and CLIP.
            config: configuration of the network.
        """
        super().__init__(backbones, config)
        self.calibration = backbones.calibration  # until its own CLIP is tuned
        self.prompt_settings = PromptSettings(point_threshold=self.calibration.point_threshold)

    def _build(self) -> TunedSam:
        backbones, config = self.backbones, self.config
        positions = _text_positions(backbones.clip) if config.text_positions else None
        return TunedSam(backbones.sam, backbones.vision, config, positions)

    @property
    def text(self) -> ClassTextEncoder:
        """CLIP's text features as this network reads them."""
        return self._own_text or self.backbones.text

    @cached_property
    def _own_text(self) -> ClassTextEncoder | None:
        positions, backbones = self.model.text_positions, self.backbones
        if positions is None:
            return None
        clip = with_text_positions(backbones.clip, positions)
        return ClassTextEncoder(clip, backbones.text.tokenizer)

    def tuned_from(self) -> dict[str, Tensor]:
        """Return the base weights, see :meth:`TrainablePredictor.tuned_from`."""
        parts = {
            "prompt_encoder": self.backbones.sam.prompt_encoder,
            "mask_decoder": self.backbones.sam.mask_decoder,
            "vision": self.backbones.vision,
        }
        base = {
            f"{part}.{name}": parameter.detach()
            for part, module in parts.items()
            for name, parameter in module.named_parameters()
        }
        if self.config.text_positions:
            base["text_positions"] = _text_positions(self.backbones.clip).detach()
        return base

    @classmethod
    def _from_content(cls, backbones: Backbones, content: dict) -> Self:
        predictor = super()._from_content(backbones, content)
        predictor.calibration = Calibration(**content["calibration"])
        predictor.prompt_settings = _stored_settings(content, predictor.calibration)
        return predictor

    def bundle_config(self, training: dict) -> dict:
        """Return the bundle's config with the calibration of its CLIP and how prompts are made."""
        return {
            **super().bundle_config(training),
            "calibration": asdict(self.calibration),
            "prompts": asdict(self.prompt_settings),
        }

    def network(self) -> nn.Module:
        """Return the tuned SAM, and the parts of CLIP in use."""
        clip = self.backbones.clip
        parts: list[nn.Module] = [self.model]
        if self.config.sees_text or self.config.clip is not None:
            parts += [clip.text_model, clip.text_projection, nn.ParameterList([clip.logit_scale])]
        return nn.ModuleList(parts)

    def _predict_concept(
        self,
        encoded: EncodedImage,
        concept: Concept,
        mode: str,
        options: PredictOptions,
        watch: Stopwatch,
    ) -> ConceptResult:
        return self._predict_all(encoded, (concept,), (mode,), options, watch, None)[0]

    def _predict_all(
        self,
        encoded: EncodedImage,
        concepts: Sequence[Concept],
        modes: Sequence[str],
        options: PredictOptions,
        watch: Stopwatch,
        progress: Callable[[int, int], None] | None,
    ) -> list[ConceptResult]:
        """Predict each class on its own; on a GPU many are computed together."""
        results: list[ConceptResult] = []
        pairs = list(zip(concepts, modes, strict=True))
        while len(results) < len(pairs):
            some = pairs[len(results) : len(results) + self._classes_at_a_time(options)]
            queries = [self._ask(encoded, concept, mode, options, watch) for concept, mode in some]
            found = [one for one in queries if one.prompts is not None]
            with watch.step("SAM encoder"):
                embeddings = self._embed(encoded, found)
            with watch.step("SAM decoder"):
                answers = iter(self._decode_all(encoded, found, embeddings))
            for one in queries:
                nothing = one.prompts is None
                results.append(
                    empty_result(self._mask_side, one.shown) if nothing else next(answers)
                )
                if progress is not None:
                    progress(len(results), len(pairs))
        return results

    def _classes_at_a_time(self, options: PredictOptions) -> int:
        """Return how many classes fit into half of a GPU's free memory; 1 on a CPU."""
        device, sam = self.backbones.device, self.backbones.preset.sam
        if device.type == "cpu":
            return 1
        tokens = (sam.image_size // sam.patch_size) ** 2
        working = WORKING_FLOATS * 4 * tokens * sam.embed_dim
        fitting = max(1, free_memory(device) // 2 // working)
        return min(fitting, options.classes_at_a_time or fitting)

    def _ask(
        self,
        encoded: EncodedImage,
        concept: Concept,
        mode: str,
        options: PredictOptions,
        watch: Stopwatch,
    ) -> _ClassQuery:
        """Prepare the SAM prompts of one class."""
        backbones, config = self.backbones, self.config
        text = tokens = shown = dense = None
        prompts = concept.prompts if mode == "manual" else None
        if config.sees_text or config.clip is not None:
            with watch.step("CLIP text"):
                text = self.text([concept.synonyms])
        vision = self.model.vision
        if vision is not None and text is not None:
            with watch.step("CLIP image"):
                tokens = encoded.clip_tokens(backbones, vision, self._vision_name())
            with watch.step("prompts"):
                similarity = similarity_grid(tokens, text)
                shown = similarity[0].float().cpu().numpy()
                transform = self._transform(encoded)
                settings = options.prompt_settings(self.prompt_settings)
                if prompts is None:
                    seed = stable_seed(concept.text, options.seed)
                    points = map_points(similarity, transform, settings, seed)
                    if len(points):
                        prompts = SamPrompts(points, np.ones(len(points), np.int64))
                if config.dense_prompt and prompts is not None:
                    dense = map_mask(similarity, transform, settings, self._mask_side)
                    prompts = replace(prompts, dense=(dense[0, 0] > 0).cpu().numpy())
        return _ClassQuery(concept, prompts, text, tokens, shown, dense)

    def _vision_name(self) -> str:
        """Return the cache key of CLIP's image features; frozen CLIP's are shared."""
        return self.name if self.config.clip_blocks != 0 else str(self.config.clip)

    def _embed(self, encoded: EncodedImage, queries: Sequence[_ClassQuery]) -> list[Tensor]:
        """Encode the image, (1, 256, h, w), once per image, or per class if the encoder sees it."""
        backbones, adapters = self.backbones, self.config.adapters
        if adapters is None:
            return [encoded.sam_embedding(backbones) for _ in queries]
        # Classes that the encoder does not see have one embedding.
        keys = [
            (
                "tuned",
                backbones.preset.name,
                self.name,
                adapters.sees_class and one.concept.synonyms,
            )
            for one in queries
        ]
        known = ((key, encoded.known(key)) for key in keys)
        found = {key: embedding for key, embedding in known if embedding is not None}
        missing = {key: one for key, one in zip(keys, queries, strict=True) if key not in found}
        if missing:
            made = self._encode(encoded, list(missing.values())).split(1)
            for key, embedding in zip(missing, made, strict=True):
                # A copy: a view of the batch would keep all of it.
                found[key] = encoded.cached(key, embedding.clone)
        return [found[key] for key in keys]

    def _encode(self, encoded: EncodedImage, queries: Sequence[_ClassQuery]) -> Tensor:
        """Encode the image for B classes: (B, 256, h, w)."""
        backbones, model, count = self.backbones, self.model, len(queries)
        encoder, preset = model.image_encoder, backbones.preset

        def for_each(shared: Tensor | None) -> Tensor | None:
            return None if shared is None else shared.expand(count, *shared.shape[1:])

        grid = encoded.sam_transform(preset).sampling_grid(encoder.grid[0])
        grid = None if grid is None else grid.to(backbones.device)
        tokens, text, patches = queries[0].tokens, None, None
        if queries[0].text is not None:
            text = torch.cat([one.text for one in queries if one.text is not None])
        begun = self._begin(encoded).expand(-1, count, -1, -1, -1)
        with backbones.encoding():
            if self.config.sees_patches and tokens is not None:
                key = ("patches", preset.name, self.name)
                patches = encoded.cached(key, lambda: model.see_patches(tokens, grid))
            condition = model.condition(for_each(tokens), text, for_each(grid))
            return encoder.finish_adapted(begun, condition, patches).float()

    def _begin(self, encoded: EncodedImage) -> Tensor:
        """Compute the part of the adapted encoder shared by all classes, (2, 1, H, W, D)."""
        backbones, encoder = self.backbones, self.model.image_encoder
        adapters, first = self.config.adapters, encoder.first_adapted
        if adapters is None:
            raise ValueError(f"{self.info.name} has no adapters")

        def compute() -> Tensor:
            tokens = encoded.sam_tokens(backbones, first)
            attended = encoded.sam_attended(backbones, first) if adapters.attends_plainly else None
            with backbones.encoding():
                return encoder.begin_adapted(tokens, attended).float()

        if not adapters.sees_class:  # Nothing asks again: there is one embedding, which is kept.
            return compute()
        return encoded.cached(("begun", backbones.preset.name, self.name), compute)

    def _decode_all(
        self, encoded: EncodedImage, queries: Sequence[_ClassQuery], embeddings: Sequence[Tensor]
    ) -> list[ConceptResult]:
        """Decode masks of several classes, together if they have equally many points and boxes."""
        transform, device = self._transform(encoded), self.backbones.device
        alike: dict[tuple[int, int], list[int]] = {}
        for index, one in enumerate(queries):
            shape = len(one.sam_prompts.points), len(one.sam_prompts.boxes)
            alike.setdefault(shape, []).append(index)
        results: dict[int, ConceptResult] = {}
        for (points, boxes), members in alike.items():
            together = [queries[index] for index in members]
            given = [prompt_tensors(one.sam_prompts, transform, device) for one in together]
            pointed = [own for own, _ in given if own is not None]
            boxed = [own for _, own in given if own is not None]
            dense = [one.dense for one in together if one.dense is not None]
            logits, scores = decode_masks(
                self.model.mask_decoder,
                self.model.prompt_encoder,
                torch.cat([embeddings[index] for index in members]),
                (torch.cat([xy for xy, _ in pointed]), torch.cat([label for _, label in pointed]))
                if points
                else None,
                torch.cat(boxed) if boxes else None,
                torch.cat(dense) if self.config.dense_prompt else None,
            )
            rows = zip(members, logits.split(1), scores.split(1), strict=True)
            for index, mask, score in rows:
                shown = queries[index].shown
                presence = float("nan") if shown is None else self.calibration.presence(shown)
                results[index] = class_result(
                    mask, score, queries[index].sam_prompts, similarity=shown, presence=presence
                )
        return [results[index] for index in range(len(queries))]


def adapters(preset: Preset, **fields: Any) -> AdapterConfig:
    """Return a preset's default adapters, changed by ``fields`` of :class:`AdapterConfig`."""
    fields = {"last_blocks": preset.last_blocks, **fields}
    return AdapterConfig(semantic_dim=preset.clip.projection_dim, **fields)


def _text_positions(clip: CLIPModel) -> Tensor:
    return clip.text_model.embeddings.position_embedding.weight


def _stored_settings(content: dict, calibration: Calibration) -> PromptSettings:
    """Return how prompts were made in training; bundles used to state it in their recipe alone."""
    if "prompts" in content:
        return PromptSettings(**content["prompts"])
    recipe = content["training"].get("recipe", {})
    known = {key: recipe[key] for key in ("num_points", "dense_logit") if key in recipe}
    return PromptSettings(point_threshold=calibration.point_threshold, **known)
