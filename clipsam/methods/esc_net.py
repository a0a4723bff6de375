"""ESC-Net (arXiv 2411.14723): all classes of an image together, from their names alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..encoded_image import EncodedImage
from ..geometry import SquareTransform, normalize
from ..measure import Stopwatch, free_memory
from ..memory import MAX_CACHED_TEXTS, LRUCache
from ..models.esc_net import (
    BlockInputs,
    ClipFeatures,
    EscNet,
    EscNetConfig,
    EscNetOutput,
    classes_at_a_time,
    encode_classes,
    load_sam_decoder,
    sam_decoder_state,
)
from ..models.esc_net.chunking import MAX_MAPS, MAX_MAPS_ON_GPU
from ..names import canonical_names
from ..predictor import JointPredictor, PredictOptions
from ..registry import METHODS, SLIDING, WHOLE
from ..types import BlockTrace, Concept, ConceptResult, SamPrompts
from ..weights.backbones import Backbones
from ..weights.presets import Preset
from .base import TrainablePredictor

CANVAS, WINDOW, STRIDE = 640, 384, 256
"""Sizes of the sliding windows, pixels: four on the image resized to a square, as in CAT-Seg."""

MEMORY_SHARE = 0.5
"""Default share of the free memory, of the GPU if there is one, for a prediction.

The need is estimated, and may be up to twice as much.
"""


class EscNetPredictor(JointPredictor, TrainablePredictor):
    """ESC-Net: one pass over the whole image, or the mean of that and four overlapping windows.

    Attributes:
        memory_budget: bytes for the classes in addition to the weights; if it is small, fewer are
            computed at a time. ``None`` depends on the free memory.
    """

    info = METHODS["esc-net"]
    config_type = EscNetConfig
    config: EscNetConfig
    model: EscNet

    def __init__(self, backbones: Backbones, config: EscNetConfig) -> None:
        """Build the network.

        Args:
            backbones: the preset's SAM and CLIP; of SAM only the decoder is used.
            config: configuration of the network.
        """
        super().__init__(backbones, config)
        self.memory_budget: int | None = None
        self._texts: LRUCache[Tensor] = LRUCache(MAX_CACHED_TEXTS)
        self._texts_of = -1

    def _build(self) -> EscNet:
        model = EscNet(self.backbones.clip, self.config)
        if self.config.pretrained_sam:
            load_sam_decoder(model, self.backbones.sam)
        return model

    def tuned_from(self) -> dict[str, Tensor]:
        """Return the base weights, see :meth:`TrainablePredictor.tuned_from`."""
        named = self.backbones.clip.named_parameters()
        base = {f"clip.{name}": parameter.detach() for name, parameter in named}
        if self.config.use_sam and self.config.pretrained_sam:
            state = sam_decoder_state(self.backbones.sam)
            for index in range(self.config.blocks):
                base |= {f"blocks.{index}.sam.pretrained.{name}": t for name, t in state.items()}
        return base

    @classmethod
    def design(cls, preset: Preset) -> EscNetConfig:
        """Return the paper's network on a preset's CLIP: skips after each third, half-size windows.

        The grid is always 24 × 24 cells, which are the paper's 336 pixels with patches of 14. With
        CLIP ViT-B/16 they are 384, CAT-Seg's size; the paper names 336 alone, of which 16 is no
        divisor.
        The tiny CLIP has learnt 16 × 16 cells, not 24 × 24, bare names, and to be read with CLIP
        Surgery: read as CAT-Seg does, it says next to nothing. It has half the layers of a real
        one, and gets half the blocks, half as wide.
        """
        sizes, tiny = preset.clip, preset.bundled
        cells, third = 16 if tiny else 24, sizes.vision_layers // 3
        config = EscNetConfig(
            image_size=cells * sizes.patch_size,
            skip_layers=(third, 2 * third),
            window=cells // 2,
        )
        if not tiny:
            return config
        return replace(
            config, blocks=2, hidden=64, surgery_layers=sizes.surgery_layers, template="{}"
        )

    def network(self) -> nn.Module:
        """Return the whole model, which includes CLIP."""
        return self.model

    def _predict_all(
        self,
        encoded: EncodedImage,
        concepts: Sequence[Concept],
        modes: Sequence[str],
        options: PredictOptions,
        watch: Stopwatch,
        progress: Callable[[int, int], None] | None,
    ) -> list[ConceptResult]:
        """Predict all classes together, since the result of a class depends on the others.

        Training treats each class of each pixel independently, so the sigmoid of a logit is a
        probability, and that of a class's highest logit is its ``presence``. The
        ``block_traces`` are those of the whole image, in either mode.
        """
        with watch.step("CLIP text"):
            text = self._encode_texts(concepts)
        most = options.classes_at_a_time
        output = self._whole(encoded, text, watch, most)
        logits = output.logits[0].float()
        if SLIDING in modes:
            logits = self._with_windows(encoded, text, logits, watch, most)
        correlation = output.correlation[0].cpu().numpy()
        blocks = [self._block_traces(encoded, block) for block in output.blocks]
        results = []
        for index in range(len(concepts)):
            block_traces = tuple(block[index] for block in blocks)
            result = ConceptResult(
                logits=logits[index].cpu().numpy(),
                prompts=self._sam_prompts(block_traces),
                presence=float(logits[index].max().sigmoid()),
                similarity=correlation[index],
                block_traces=block_traces,
            )
            results.append(result)
            if progress is not None:
                progress(len(results), len(concepts))
        return results

    def _transform(self, encoded: EncodedImage) -> SquareTransform:
        """Return the resizing to a square, whatever SAM's input is."""
        return SquareTransform(encoded.size, CANVAS, "squash")

    def _is_cut(self, name: str) -> bool:
        return self.backbones.text.is_cut(self.config.template.format(name.split(", ")[0]))

    def _encode_texts(self, concepts: Sequence[Concept]) -> Tensor:
        """Encode the classes, cached: unit-norm texts (N_c, D), averaged over synonyms."""
        clip = self.model.clip
        # Training changes the text tower in place: what it said before is then forgotten.
        version = sum(p._version for p in clip.text_model.parameters() if p.requires_grad)
        if version != self._texts_of:
            self._texts, self._texts_of = LRUCache(MAX_CACHED_TEXTS), version

        def encode(synonyms: tuple[str, ...]) -> Tensor:
            tokenizer = self.backbones.text.tokenizer
            features = encode_classes(clip, tokenizer, synonyms, self.config.template)
            return F.normalize(features.mean(0), dim=0)

        names = [canonical_names(concept.synonyms) for concept in concepts]
        features = [self._texts.get(one, partial(encode, one)) for one in names]
        return torch.stack([feature.to(self.backbones.device) for feature in features])

    def _whole(
        self, encoded: EncodedImage, text: Tensor, watch: Stopwatch, most: int | None = None
    ) -> EscNetOutput:
        """Predict on the whole image, with a limited number of classes at a time."""
        with watch.step("CLIP image"):
            features = self._features(encoded, WHOLE, lambda: self._pixels(encoded))
        with watch.step("ESC-Net"):
            chunk = self._chunk(features, text, most)
            return self.model(features, text, chunk, partial(self._give_way, watch))

    def _with_windows(
        self, encoded: EncodedImage, text: Tensor, whole: Tensor, watch: Stopwatch, most: int | None
    ) -> Tensor:
        """Average the probabilities of the whole image and four windows (CAT-Seg), as logits.

        Args:
            encoded: the image.
            text: of the classes (N_c, D).
            whole: logits of the whole image (N_c, h, w).
            watch: measures the run time.
            most: classes at a time.

        Returns:
            (N_c, 640, 640).
        """
        corners = [(y, x) for y in (0, STRIDE) for x in (0, STRIDE)]
        with watch.step("CLIP image"):
            features = self._features(encoded, SLIDING, lambda: self._windows(encoded, corners))
        with watch.step("ESC-Net"):
            chunk = self._chunk(features, text, most)
            between = partial(self._give_way, watch)
            windows = self.model(features, text, chunk, between).logits.float()
            count = whole.new_zeros(CANVAS, CANVAS)
            for y, x in corners:
                count[y : y + WINDOW, x : x + WINDOW] += 1
            out = whole.new_empty(len(text), CANVAS, CANVAS)
            # Class by class: at this size a few hundred of them would not fit into memory.
            for index in range(len(text)):
                total = torch.zeros_like(count)
                for (y, x), part in zip(corners, windows[:, index], strict=True):
                    total[y : y + WINDOW, x : x + WINDOW] += _enlarge(part, WINDOW).sigmoid()
                once = _enlarge(_enlarge(whole[index], WINDOW).sigmoid(), CANVAS)
                out[index] = ((total / count + once) / 2).logit(eps=1e-6)
                between()
            return out

    def _chunk(self, features: ClipFeatures, text: Tensor, most: int | None = None) -> int:
        """Return how many classes the network takes at a time, at most ``most``."""
        device, budget = self.backbones.device, self.memory_budget
        if budget is None:
            budget = int(MEMORY_SHARE * free_memory(device))
        maps = MAX_MAPS_ON_GPU if device.type == "cuda" else MAX_MAPS
        images, _, _, grid = features.dense.shape
        fitting = classes_at_a_time(self.config, grid, images, len(text), budget, maps)
        return min(fitting, most or fitting)

    def _pixels(self, encoded: EncodedImage) -> Tensor:
        """Convert the whole image to the network's input, (1, 3, S, S)."""
        return self._normalized(encoded, self.config.image_size)

    def _windows(self, encoded: EncodedImage, corners: Sequence[tuple[int, int]]) -> Tensor:
        """Convert the windows of the resized image to the network's input, (4, 3, S, S)."""
        canvas = self._normalized(encoded, CANVAS)
        parts = [canvas[..., y : y + WINDOW, x : x + WINDOW] for y, x in corners]
        side = (self.config.image_size,) * 2
        return F.interpolate(torch.cat(parts), side, mode="bilinear", antialias=True)

    def _normalized(self, encoded: EncodedImage, side: int) -> Tensor:
        preset = self.backbones.preset
        square = SquareTransform(encoded.size, side, "squash").image(encoded.image)
        pixels = torch.from_numpy(square).permute(2, 0, 1)[None].to(self.backbones.device)
        return normalize(pixels, preset.clip_mean, preset.clip_std)

    def _features(
        self, encoded: EncodedImage, kind: str, pixels: Callable[[], Tensor]
    ) -> ClipFeatures:
        """Return CLIP's features of an image, computed once and cached as one tensor."""

        def compute() -> Tensor:
            stem = self.model.clip.vision_model.embeddings.patch_embedding
            features = self.model.encode_image(encoded.stem_input(stem, pixels()))
            return torch.cat((features.dense, *features.skips), dim=1)

        kept = encoded.cached((self.name, kind), compute)
        clip = self.model.clip.config
        width = clip.vision_config.hidden_size
        dense, *skips = kept.split([clip.projection_dim, width, width], dim=1)
        return ClipFeatures(dense, tuple(skips))

    def _block_traces(self, encoded: EncodedImage, block: BlockInputs) -> list[BlockTrace]:
        """Return a block's intermediate state of each class, in pixels of the image."""
        maps = block.maps[0].cpu().numpy()
        if block.prompts is None:
            return [BlockTrace(one, np.zeros((0, 2), np.float32), None) for one in maps]
        cells, valid, regions = (
            getattr(block.prompts, name)[0].cpu().numpy() for name in ("points", "valid", "regions")
        )
        height, width = encoded.size
        points = (cells + 0.5) / maps.shape[:0:-1] * (width, height)
        return [
            BlockTrace(one, points[index][kept].astype(np.float32), regions[index][kept])
            for index, (one, kept) in enumerate(zip(maps, valid, strict=True))
        ]

    def _sam_prompts(self, block_traces: Sequence[BlockTrace]) -> SamPrompts:
        """Return the SAM prompts of the last block for one class."""
        points, dense = np.zeros((0, 2), np.float32), None
        regions = block_traces[-1].regions if block_traces else None
        if regions is not None:
            if "point" in self.config.prompts:
                points = block_traces[-1].points
            if "mask" in self.config.prompts:
                dense = np.asarray(regions.any(0))
        return SamPrompts(points, np.ones(len(points), np.int64), dense=dense)


class CatSegPredictor(EscNetPredictor):
    """ESC-Net without SAM: the paper's own comparison."""

    info = METHODS["cat-seg"]

    @classmethod
    def design(cls, preset: Preset) -> EscNetConfig:
        """Return ESC-Net's configuration with CLIP's image features unchanged."""
        return replace(super().design(preset), use_sam=False)


def _enlarge(x: Tensor, side: int) -> Tensor:
    """Enlarge (h, w) to (side, side), bilinearly."""
    return F.interpolate(x[None, None], (side, side), mode="bilinear", align_corners=False)[0, 0]
