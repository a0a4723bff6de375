"""ESC-Net (arXiv 2411.14723): all classes of an image at once, labelled by words alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..geometry import SquareTransform, normalize
from ..measure import Stopwatch
from ..models.esc_net import (
    BlockTrace,
    ClipFeatures,
    EscNet,
    EscNetConfig,
    EscNetOutput,
    encode_classes,
    load_sam_decoder,
    sam_decoder_state,
)
from ..predictor import MethodInfo, Options, Predictor, register
from ..scene import Scene
from ..types import Concept, ConceptResult, Prediction, PromptsUsed
from ..weights.backbones import BUNDLES, Backbones
from ..weights.bundle import WeightsError, load_bundle, load_into
from ..weights.presets import TINY, Preset

CANVAS, WINDOW, STRIDE = 640, 384, 256
"""Sliding windows, pixels: four of them on the image squashed to a square, as in CAT-Seg."""

CHUNK = 16
"""Classes at a time: beyond this, memory grows by 0.3 MB per class."""

WHOLE, SLIDING = "whole-image", "sliding-window"


@register
class EscNetPredictor(Predictor):
    """One pass over the whole image, or the mean of that and four overlapping windows."""

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
    )
    needs_training = True

    def __init__(self, backbones: Backbones, config: EscNetConfig) -> None:
        """
        Args:
            backbones: the preset's SAM and CLIP; of SAM only the decoder is used.
            config: what is built on them.
        """
        super().__init__(backbones)
        self.config = config
        model = EscNet(backbones.clip, config)
        if config.pretrained_sam:
            load_sam_decoder(model, backbones.sam)
        self.model = model.to(backbones.device).eval()
        # Tells this network's features from another's (untrained, trained again) in a scene.
        self.name = f"{self.info.id} {uuid4().hex}"
        self._texts: dict[tuple[str, ...], Tensor] = {}
        self._texts_of = -1

    @classmethod
    def design(cls, preset: Preset) -> EscNetConfig:
        """The paper's network on a preset's CLIP: skips after each third, windows of half a side.

        The paper reads CLIP on 24 × 24 cells; the tiny CLIP has learnt 16 × 16.
        """
        sizes, cells = preset.clip, 16 if preset is TINY else 24
        third = sizes.vision_layers // 3
        return EscNetConfig(
            image_size=cells * sizes.patch_size,
            skip_layers=(third, 2 * third),
            window=cells // 2,
        )

    @classmethod
    def load(cls, backbones: Backbones, folder: Path | None = None) -> EscNetPredictor:
        """See :meth:`Predictor.load`."""
        preset = backbones.preset
        folder = folder or BUNDLES / preset.name / cls.info.id
        config, state = load_bundle(folder, tuned_from(backbones, cls.design(preset)))
        for key, expected in (("method", cls.info.id), ("preset", preset.name)):
            if config.get(key) != expected:
                raise WeightsError(f"{folder} fits the {key} {config.get(key)}, not {expected}")
        predictor = cls(backbones, EscNetConfig.from_json(config["network"]))
        load_into(predictor.model, state, str(folder))
        return predictor

    @classmethod
    def untrained(cls, backbones: Backbones, config: EscNetConfig | None = None) -> EscNetPredictor:
        """The network before training: what training starts from, and what is counted and timed.

        Args:
            backbones: the preset's SAM and CLIP.
            config: ``None`` takes the method's own design.
        """
        return cls(backbones, config or cls.design(backbones.preset))

    def bundle_config(self, training: dict) -> dict:
        """The ``config.json`` of its weights; ``training`` says how they were made."""
        return {
            "method": self.info.id,
            "preset": self.backbones.preset.name,
            "network": asdict(self.config),
            "training": training,
        }

    def network(self) -> nn.Module:
        """All of it: CLIP is a part of the model."""
        return self.model

    @torch.inference_mode()
    def traces(self, scene: Scene, concepts: Sequence[Concept]) -> tuple[BlockTrace, ...]:
        """What each block saw of a whole image: maps, pseudo points, regions."""
        watch = Stopwatch(self.backbones.device)
        return self._whole(scene, self._encode_texts(concepts), watch).blocks

    def _predict_concept(
        self, scene: Scene, concept: Concept, mode: str, options: Options, watch: Stopwatch
    ) -> ConceptResult:
        return self._predict_all(scene, (concept,), (mode,), options, watch, None)[0]

    def _predict_all(
        self,
        scene: Scene,
        concepts: Sequence[Concept],
        modes: Sequence[str],
        options: Options,
        watch: Stopwatch,
        progress: Callable[[int, int], None] | None,
    ) -> list[ConceptResult]:
        """Answer for all classes together: here a class's answer depends on the others asked."""
        with watch.step("CLIP text"):
            text = self._encode_texts(concepts)
        output = self._whole(scene, text, watch)
        logits = output.logits[0].float()
        if SLIDING in modes:
            logits = self._with_windows(scene, text, logits, watch)
        correlation = output.correlation[0].cpu().numpy()
        results = []
        for index in range(len(concepts)):
            prompts = self._prompts_used(scene, output, index)
            answer = logits[index].cpu().numpy()
            results.append(ConceptResult(answer, prompts, similarity=correlation[index]))
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
            self._texts, self._texts_of = {}, version
        for concept in concepts:
            if concept.synonyms not in self._texts:
                features = encode_classes(clip, self.backbones.text.tokenizer, concept.synonyms)
                self._texts[concept.synonyms] = F.normalize(features.mean(0), dim=0)
        return torch.stack([self._texts[concept.synonyms] for concept in concepts])

    def _whole(self, scene: Scene, text: Tensor, watch: Stopwatch) -> EscNetOutput:
        with watch.step("CLIP image"):
            features = self._features(scene, WHOLE, lambda: self._pixels(scene))
        with watch.step("ESC-Net"):
            return self.model(features, text, CHUNK)

    def _with_windows(self, scene: Scene, text: Tensor, whole: Tensor, watch: Stopwatch) -> Tensor:
        """Mean probability of the whole image and four windows (CAT-Seg's inference), as logits.

        Args:
            scene: the image.
            text: of the classes (N_c, D).
            whole: logits of the whole image (N_c, h, w).
            watch: counts the seconds.

        Returns:
            (N_c, 640, 640).
        """
        corners = [(y, x) for y in (0, STRIDE) for x in (0, STRIDE)]
        with watch.step("CLIP image"):
            features = self._features(scene, SLIDING, lambda: self._windows(scene, corners))
        with watch.step("ESC-Net"):
            windows = self.model(features, text, CHUNK).logits.float()
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
            features = self.model.encode_image(pixels())
            return torch.cat((features.dense, *features.skips), dim=1)

        kept = scene.cached((self.name, kind), compute)
        clip = self.model.clip.config
        width = clip.vision_config.hidden_size
        dense, *skips = kept.split([clip.projection_dim, width, width], dim=1)
        return ClipFeatures(dense, tuple(skips))

    def _prompts_used(self, scene: Scene, output: EscNetOutput, index: int) -> PromptsUsed:
        """What the last block told SAM of one class, in pixels of the image."""
        points = np.zeros((0, 2), np.float32)
        dense = None
        told = output.blocks[-1].prompts if output.blocks else None
        if told is not None:
            if "point" in self.config.prompts:
                cells = told.points[0, index][told.valid[0, index]].cpu().numpy()
                sides = np.array(scene.size[::-1]) / output.correlation.shape[-1]
                points = ((cells + 0.5) * sides).astype(np.float32)
            if "mask" in self.config.prompts:
                dense = told.regions[0, index].any(0).cpu().numpy()
        return PromptsUsed(points, np.ones(len(points), np.int64), dense=dense)


@register
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
    )

    @classmethod
    def design(cls, preset: Preset) -> EscNetConfig:
        """ESC-Net's, with the image features left as CLIP gives them."""
        return replace(super().design(preset), use_sam=False)


def tuned_from(backbones: Backbones, config: EscNetConfig) -> dict[str, Tensor]:
    """The weights that ESC-Net tunes, as they are before, by the names that its bundles use."""
    base = {f"clip.{name}": p.detach() for name, p in backbones.clip.named_parameters()}
    if config.use_sam and config.pretrained_sam:
        state = sam_decoder_state(backbones.sam)
        for index in range(config.blocks):
            base |= {f"blocks.{index}.sam.pretrained.{name}": t for name, t in state.items()}
    return base


def label_map(
    prediction: Prediction, threshold: float | None = None, size: tuple[int, int] | None = None
) -> np.ndarray:
    """The class of each pixel: the one with the highest logit, the first of equals.

    Args:
        prediction: logits are enlarged class by class, since those of hundreds of classes at the
            image's own size would not fit into memory.
        threshold: a pixel whose best logit is not above it is background, −1; ``None`` gives
            every pixel to a class, as in the paper's benchmarks.
        size: (H, W); ``None`` takes the image's own.

    Returns:
        int64 (H, W), index into the prediction's classes.
    """
    best = prediction.class_logits(0, size)
    labels = np.zeros(best.shape, np.int64)
    for index in range(1, len(prediction.results)):
        logits = prediction.class_logits(index, size)
        labels[logits > best] = index
        best = np.maximum(best, logits)
    if threshold is not None:
        labels[best <= threshold] = -1
    return labels


def _enlarge(x: Tensor, side: int) -> Tensor:
    """(h, w) → (side, side), bilinearly."""
    return F.interpolate(x[None, None], (side, side), mode="bilinear", align_corners=False)[0, 0]
