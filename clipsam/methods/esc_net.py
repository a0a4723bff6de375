"""ESC-Net (arXiv 2411.14723): all classes of an image at once, labelled by words alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..geometry import SquareTransform, normalize
from ..measure import Stopwatch, free_memory
from ..memory import MOST_TEXTS, Recent
from ..models.esc_net import (
    BlockTrace,
    ClipFeatures,
    EscNet,
    EscNetConfig,
    EscNetOutput,
    classes_at_a_time,
    encode_classes,
    load_sam_decoder,
    sam_decoder_state,
)
from ..models.esc_net.chunking import MOST_MAPS, MOST_MAPS_ON_GPU
from ..predictor import JointPredictor, MethodInfo, Options
from ..scene import Scene
from ..types import Concept, ConceptResult, PromptsUsed, Round
from ..weights.backbones import Backbones
from ..weights.presets import Preset
from .base import TrainablePredictor

CANVAS, WINDOW, STRIDE = 640, 384, 256
"""Sliding windows, pixels: four of them on the image squashed to a square, as in CAT-Seg."""

MEMORY_SHARE = 0.5
"""Of the free memory, the GPU's where there is one: what an answer may take, unless told otherwise.
What it takes is estimated, and may be up to twice as much."""

WHOLE, SLIDING = "whole-image", "sliding-window"


class EscNetPredictor(JointPredictor, TrainablePredictor):
    """One pass over the whole image, or the mean of that and four overlapping windows.

    Attributes:
        memory_budget: bytes beside the weights that the classes may take; where it is small, fewer
            of them are computed at a time. ``None`` goes by the memory that is free.
    """

    info = MethodInfo(
        id="esc-net",
        name="ESC-Net",
        paper="arXiv 2411.14723",
        kind="method",
        modes=(WHOLE, SLIDING),
        summary=(
            "CLIP's map of each class prompts SAM's decoder layers, which sharpen CLIP's features; "
            "all classes are found together, from their names alone."
        ),
        quoted="mIoU with CLIP B/16 35.6 (A-150), 59.0 (PC-59); with L/14 41.8 and 65.6",
    )
    config_type = EscNetConfig

    def __init__(self, backbones: Backbones, config: EscNetConfig) -> None:
        """
        Args:
            backbones: the preset's SAM and CLIP; of SAM only the decoder is used.
            config: what is built on them.
        """
        super().__init__(backbones, config)
        self.memory_budget: int | None = None
        self._texts: Recent[Tensor] = Recent(MOST_TEXTS)
        self._texts_of = -1

    def _build(self) -> EscNet:
        model = EscNet(self.backbones.clip, self.config)
        if self.config.pretrained_sam:
            load_sam_decoder(model, self.backbones.sam)
        return model

    def tuned_from(self) -> dict[str, Tensor]:
        """See :meth:`TrainablePredictor.tuned_from`."""
        named = self.backbones.clip.named_parameters()
        base = {f"clip.{name}": parameter.detach() for name, parameter in named}
        if self.config.use_sam and self.config.pretrained_sam:
            state = sam_decoder_state(self.backbones.sam)
            for index in range(self.config.blocks):
                base |= {f"blocks.{index}.sam.pretrained.{name}": t for name, t in state.items()}
        return base

    @classmethod
    def design(cls, preset: Preset) -> EscNetConfig:
        """The paper's network on a preset's CLIP: skips after each third, windows of half a side.

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
        surgery = dict(surgery_layers=sizes.surgery_layers, template="{}")
        return replace(config, blocks=2, hidden=64, **surgery)

    def network(self) -> nn.Module:
        """All of it: CLIP is a part of the model."""
        return self.model

    def _predict_all(
        self,
        scene: Scene,
        concepts: Sequence[Concept],
        modes: Sequence[str],
        options: Options,
        watch: Stopwatch,
        progress: Callable[[int, int], None] | None,
    ) -> list[ConceptResult]:
        """Answer for all classes together: here a class's answer depends on the others asked.

        Training asks each class of each pixel for itself, so a sigmoid of a logit is a probability
        and that of a class's highest logit tells how likely it is anywhere: its ``presence``. The
        ``rounds`` are those of the whole image, in either mode.
        """
        with watch.step("CLIP text"):
            text = self._encode_texts(concepts)
        most = options.classes_at_a_time
        output = self._whole(scene, text, watch, most)
        logits = output.logits[0].float()
        if SLIDING in modes:
            logits = self._with_windows(scene, text, logits, watch, most)
        correlation = output.correlation[0].cpu().numpy()
        blocks = [self._rounds(scene, block) for block in output.blocks]
        results = []
        for index in range(len(concepts)):
            rounds = tuple(block[index] for block in blocks)
            result = ConceptResult(
                logits=logits[index].cpu().numpy(),
                prompts=self._prompts_used(rounds),
                presence=float(logits[index].max().sigmoid()),
                similarity=correlation[index],
                rounds=rounds,
            )
            results.append(result)
            if progress is not None:
                progress(len(results), len(concepts))
        return results

    def _transform(self, scene: Scene) -> SquareTransform:
        """The image is squashed to a square, whatever SAM's input is."""
        return SquareTransform(scene.size, CANVAS, "squash")

    def _encode_texts(self, concepts: Sequence[Concept]) -> Tensor:
        """Unit-norm class texts (N_c, D), remembered; synonyms are averaged at unit norm."""
        clip = self.model.clip
        # Training changes the text tower in place: what it said before is then forgotten.
        version = sum(p._version for p in clip.text_model.parameters() if p.requires_grad)
        if version != self._texts_of:
            self._texts, self._texts_of = Recent(MOST_TEXTS), version

        def encode(synonyms: tuple[str, ...]) -> Tensor:
            tokenizer = self.backbones.text.tokenizer
            features = encode_classes(clip, tokenizer, synonyms, self.config.template)
            return F.normalize(features.mean(0), dim=0)

        asked = [concept.synonyms for concept in concepts]
        features = [self._texts.get(one, partial(encode, one)) for one in asked]
        return torch.stack([feature.to(self.backbones.device) for feature in features])

    def _whole(
        self, scene: Scene, text: Tensor, watch: Stopwatch, most: int | None = None
    ) -> EscNetOutput:
        """The answer for the whole image, at most so many classes at a time."""
        with watch.step("CLIP image"):
            features = self._features(scene, WHOLE, lambda: self._pixels(scene))
        with watch.step("ESC-Net"):
            return self.model(features, text, self._chunk(features, text, most))

    def _with_windows(
        self, scene: Scene, text: Tensor, whole: Tensor, watch: Stopwatch, most: int | None
    ) -> Tensor:
        """Mean probability of the whole image and four windows (CAT-Seg's inference), as logits.

        Args:
            scene: the image.
            text: of the classes (N_c, D).
            whole: logits of the whole image (N_c, h, w).
            watch: counts the seconds.
            most: classes at a time.

        Returns:
            (N_c, 640, 640).
        """
        corners = [(y, x) for y in (0, STRIDE) for x in (0, STRIDE)]
        with watch.step("CLIP image"):
            features = self._features(scene, SLIDING, lambda: self._windows(scene, corners))
        with watch.step("ESC-Net"):
            chunk = self._chunk(features, text, most)
            windows = self.model(features, text, chunk).logits.float()
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
            return out

    def _chunk(self, features: ClipFeatures, text: Tensor, most: int | None = None) -> int:
        """How many classes the network takes at a time, ``most`` or fewer."""
        device, budget = self.backbones.device, self.memory_budget
        if budget is None:
            budget = int(MEMORY_SHARE * free_memory(device))
        maps = MOST_MAPS_ON_GPU if device.type == "cuda" else MOST_MAPS
        images, _, _, grid = features.dense.shape
        fitting = classes_at_a_time(self.config, grid, images, len(text), budget, maps)
        return min(fitting, most or fitting)

    def _pixels(self, scene: Scene) -> Tensor:
        """The whole image as the network takes it, (1, 3, S, S)."""
        return self._normalized(scene, self.config.image_size)

    def _windows(self, scene: Scene, corners: Sequence[tuple[int, int]]) -> Tensor:
        """The windows of the squashed image as the network takes them, (4, 3, S, S)."""
        canvas = self._normalized(scene, CANVAS)
        parts = [canvas[..., y : y + WINDOW, x : x + WINDOW] for y, x in corners]
        side = (self.config.image_size,) * 2
        return F.interpolate(torch.cat(parts), side, mode="bilinear", antialias=True)

    def _normalized(self, scene: Scene, side: int) -> Tensor:
        preset = self.backbones.preset
        square = SquareTransform(scene.size, side, "squash").image(scene.image)
        pixels = torch.from_numpy(square).permute(2, 0, 1)[None].to(self.backbones.device)
        return normalize(pixels, preset.clip_mean, preset.clip_std)

    def _features(self, scene: Scene, kind: str, pixels: Callable[[], Tensor]) -> ClipFeatures:
        """CLIP's features of a scene, computed once; the three maps are kept as one tensor."""

        def compute() -> Tensor:
            stem = self.model.clip.vision_model.embeddings.patch_embedding
            features = self.model.encode_image(scene.stem_input(stem, pixels()))
            return torch.cat((features.dense, *features.skips), dim=1)

        kept = scene.cached((self.name, kind), compute)
        clip = self.model.clip.config
        width = clip.vision_config.hidden_size
        dense, *skips = kept.split([clip.projection_dim, width, width], dim=1)
        return ClipFeatures(dense, tuple(skips))

    def _rounds(self, scene: Scene, block: BlockTrace) -> list[Round]:
        """What a block saw of each class; its cells' centres as pixels of the image."""
        maps = block.maps[0].cpu().numpy()
        if block.prompts is None:
            return [Round(one, np.zeros((0, 2), np.float32), None) for one in maps]
        cells, valid, regions = (
            getattr(block.prompts, name)[0].cpu().numpy() for name in ("points", "valid", "regions")
        )
        height, width = scene.size
        points = (cells + 0.5) / maps.shape[:0:-1] * (width, height)
        return [
            Round(one, points[index][kept].astype(np.float32), regions[index][kept])
            for index, (one, kept) in enumerate(zip(maps, valid, strict=True))
        ]

    def _prompts_used(self, rounds: Sequence[Round]) -> PromptsUsed:
        """What the last block told SAM of one class."""
        points, dense = np.zeros((0, 2), np.float32), None
        if rounds and rounds[-1].regions is not None:
            if "point" in self.config.prompts:
                points = rounds[-1].points
            if "mask" in self.config.prompts:
                dense = rounds[-1].regions.any(0)
        return PromptsUsed(points, np.ones(len(points), np.int64), dense=dense)


class CatSegPredictor(EscNetPredictor):
    """The same network without SAM: the paper's own comparison."""

    info = MethodInfo(
        id="cat-seg",
        name="CAT-Seg (ESC-Net without SAM)",
        paper="arXiv 2303.11797",
        kind="baseline",
        modes=(WHOLE, SLIDING),
        summary=(
            "CLIP's maps of all classes are refined together by attention, without SAM; CAT-Seg's "
            "idea in ESC-Net's form, not the published network."
        ),
        quoted="mIoU with CLIP B/16 31.8 (A-150), 57.5 (PC-59); with L/14 37.9 and 63.3",
    )

    @classmethod
    def design(cls, preset: Preset) -> EscNetConfig:
        """ESC-Net's, with the image features left as CLIP gives them."""
        return replace(super().design(preset), use_sam=False)


def _enlarge(x: Tensor, side: int) -> Tensor:
    """(h, w) → (side, side), bilinearly."""
    return F.interpolate(x[None, None], (side, side), mode="bilinear", align_corners=False)[0, 0]
