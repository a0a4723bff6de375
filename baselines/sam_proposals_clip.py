"""SAM proposals + CLIP: two-stage segmentation, with masks classified by CLIP.

The family that ESC-Net (arXiv 2411.14723) starts from: class-agnostic masks first, then each is
cut out and classified. It is slow, since CLIP encodes every mask as a separate image, and a mask
cut out of its surroundings differs from CLIP's training images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from clipsam.encoded_image import EncodedImage
from clipsam.geometry import SquareTransform, normalize
from clipsam.measure import Stopwatch
from clipsam.memory import MAX_CACHED_TEXTS, LRUCache
from clipsam.models.clip import encode_text
from clipsam.names import canonical_names
from clipsam.predictor import JointPredictor, PredictOptions
from clipsam.registry import METHODS
from clipsam.types import NOTHING, Concept, ConceptResult, Instance, SamPrompts
from clipsam.weights.backbones import Backbones
from clipsam.weights.presets import Preset

from .sam_proposals import ProposalConfig, Proposals, propose_masks


@dataclass(frozen=True)
class NamingConfig:
    """Proposal and classification of masks.

    Attributes:
        proposals: which masks are proposed.
        margin: margin of a crop around a mask's box on each side, relative to its longer side.
        template: the text of a class, with ``{}`` for its name.
        neutral: names for regions of none of the classes, which compete with all of them.
        crops_per_batch: images that CLIP takes at a time.
    """

    proposals: ProposalConfig = field(default_factory=ProposalConfig)
    margin: float = 0.1
    template: str = "a photo of a {}."
    neutral: tuple[str, ...] = ("", "background")
    crops_per_batch: int = 64


class SamProposalsClipPredictor(JointPredictor):
    """SAM proposals + CLIP; each mask goes to its best class or to none, a class gets the union."""

    info = METHODS["sam-proposals-clip"]

    def __init__(self, backbones: Backbones, config: NamingConfig | None = None) -> None:
        """Prepare the method.

        Args:
            backbones: the preset's SAM and CLIP.
            config: ``None`` for the preset's default.
        """
        super().__init__(backbones)
        self.config = config or self.design(backbones.preset)
        self._texts: LRUCache[Tensor] = LRUCache(MAX_CACHED_TEXTS)

    @classmethod
    def design(cls, preset: Preset) -> NamingConfig:
        """Return segment_anything's settings for published SAMs.

        The tiny SAM sees a quarter of the pixels, and is less sure of itself: with those settings
        nothing would be left. With these, 18 of 19 objects of four training scenes have a mask of
        more than half their IoU among 20 proposals an image.
        """
        if not preset.bundled:
            return NamingConfig()
        return NamingConfig(
            ProposalConfig(
                points_per_side=16,
                iou_threshold=0.5,
                stability_threshold=0.5,
                stability_offset=0.5,
            )
        )

    def network(self) -> nn.Module:
        """Return both backbones, frozen."""
        return nn.ModuleList([self.backbones.sam, self.backbones.clip])

    def _predict_all(
        self,
        encoded: EncodedImage,
        concepts: Sequence[Concept],
        modes: Sequence[str],
        options: PredictOptions,
        watch: Stopwatch,
        progress: Callable[[int, int], None] | None,
    ) -> list[ConceptResult]:
        """Predict all classes together; each mask belongs to at most one class.

        ``presence`` is the highest probability of the class over all masks, among the requested
        and the neutral names.
        """
        proposals = self._proposals(encoded, watch)
        with watch.step("CLIP image"):
            shown = self._embed_crops(encoded, proposals)
        with watch.step("CLIP text"):
            names = [canonical_names(concept.synonyms) for concept in concepts]
            names += [(name,) for name in self.config.neutral]
            text = torch.stack([self._encode(synonyms) for synonyms in names])
        scale = self.backbones.clip.logit_scale.exp()
        probability = (scale * shown @ text.T).softmax(dim=-1).float()
        winners = probability.argmax(dim=-1)
        results = []
        for index in range(len(concepts)):
            won = winners == index
            results.append(self._result(encoded, proposals, won, probability[:, index]))
            if progress is not None:
                progress(len(results), len(concepts))
        return results

    def _result(
        self, encoded: EncodedImage, proposals: Proposals, won: Tensor, probability: Tensor
    ) -> ConceptResult:
        """Return the union of a class's masks, the highest logit at each pixel.

        Each mask is an object; its score is its probability of being of the class.
        """
        side = self.backbones.preset.sam.mask_side
        logits, note = np.full((side, side), NOTHING, np.float32), ""
        transform = encoded.sam_transform(self.backbones.preset)
        if won.any():
            logits = proposals.logits[won].amax(0).cpu().numpy()
        elif len(won):
            note = "Empty mask: every proposed mask matches another class better."
        else:
            note = "Empty mask: SAM proposed no mask in this image."
        prompts = torch.unique(proposals.points[won], dim=0).cpu().numpy()
        points = transform.coordinates_back(prompts)
        scores, order = probability[won].sort(descending=True, stable=True)
        masks = proposals.logits[won][order].cpu().numpy()
        corners = (proposals.boxes[won][order] + proposals.boxes.new_tensor([0, 0, 1, 1])).cpu()
        boxes = transform.coordinates_back(corners.reshape(-1, 2).numpy()).reshape(-1, 4)
        objects = zip(masks, boxes, scores.tolist(), strict=True)
        return ConceptResult(
            logits=logits,
            prompts=SamPrompts(points, np.ones(len(points), np.int64)),
            presence=float(probability.max()) if len(won) else float("nan"),
            note=note,
            instances=tuple(Instance(*one) for one in objects),
        )

    def _proposals(self, encoded: EncodedImage, watch: Stopwatch) -> Proposals:
        """Propose masks, once per image whatever the classes."""
        backbones, config = self.backbones, self.config.proposals
        preset = backbones.preset
        with watch.step("SAM encoder"):
            embedding = encoded.sam_embedding(backbones)
        with watch.step("SAM proposals"):
            transform = encoded.sam_transform(preset)
            packed = encoded.cached(
                ("sam proposals", preset.name, config),
                lambda: propose_masks(backbones.sam, embedding, transform, config).packed(),
            )
        return Proposals.unpacked(packed, preset.sam.mask_side)

    def _embed_crops(self, encoded: EncodedImage, proposals: Proposals) -> Tensor:
        """Encode the masked crops with CLIP, once per image: unit-norm features (N, T)."""
        plain, preset = self.backbones.vision.with_layers(0), self.backbones.preset

        def compute() -> Tensor:
            if not len(proposals.boxes):
                return proposals.boxes.new_zeros(0, preset.clip.projection_dim)
            transform = encoded.sam_transform(preset)
            pixels = crop_masks(encoded.image, proposals, transform, preset, self.config.margin)
            features = [plain(batch)[:, 0] for batch in pixels.split(self.config.crops_per_batch)]
            return F.normalize(torch.cat(features), dim=-1)

        return encoded.cached(("named proposals", preset.name, self.config), compute)

    def _is_cut(self, name: str) -> bool:
        return self.backbones.text.is_cut(self.config.template.format(name))

    def _encode(self, synonyms: tuple[str, ...]) -> Tensor:
        """Encode a class, cached: unit-norm text feature (T,), averaged over synonyms."""
        backbones = self.backbones

        def compute() -> Tensor:
            texts = [self.config.template.format(name) for name in synonyms]
            features = encode_text(backbones.clip, backbones.text.tokenizer, texts)
            return F.normalize(F.normalize(features, dim=-1).mean(0), dim=0)

        return self._texts.get(synonyms, compute).to(backbones.device)


def crop_masks(
    image: np.ndarray,
    proposals: Proposals,
    transform: SquareTransform,
    preset: Preset,
    margin: float,
) -> Tensor:
    """Crop every mask from an image, in a square around its box, on CLIP's mean colour.

    Args:
        image: uint8 (H, W, 3).
        proposals: the masks.
        transform: how the image lies in the square that they cover.
        preset: says what CLIP sees.
        margin: see :class:`NamingConfig`.

    Returns:
        CLIP's normalised input (N, 3, R, R), at the side at which it was trained.
    """
    device, side = proposals.logits.device, preset.clip.image_size
    low, high = proposals.boxes[:, :2], proposals.boxes[:, 2:] + 1
    middle, half = (low + high) / 2, (0.5 + margin) * (high - low)
    # The image may be squashed in SAM's square: the crop is a square in the image's own pixels.
    height, width = transform.content
    scale = torch.tensor([image.shape[1] / width, image.shape[0] / height], device=device)
    half = (half * scale).amax(1, keepdim=True) / scale
    boxes = torch.cat((middle - half, middle + half), dim=1)

    pixels = torch.from_numpy(image).to(device).permute(2, 0, 1)[None]
    pixels = normalize(pixels, preset.clip_mean, preset.clip_std)
    crops = roi_align(pixels, [boxes * scale.repeat(2)], side, aligned=True)
    index = torch.arange(len(boxes), device=device, dtype=boxes.dtype)[:, None]
    masks = roi_align(
        proposals.logits[:, None],
        torch.cat((index, boxes), dim=1),
        side,
        spatial_scale=proposals.logits.shape[-1] / transform.side,
        aligned=True,
    )
    return crops * (masks > 0)
