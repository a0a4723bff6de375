"""Stage 1 of the tiny bundle: a small CLIP whose Surgery features localise.

Real CLIPs learn from hundreds of millions of captions. With about a thousand images the contrast
of images and captions alone leaves nothing to localise with, so a dense term teaches the Surgery
patches the names of what they show.

Left to themselves, text and vision wait for each other: while vision cannot tell two shapes apart,
the best texts for them are the same, and while their texts are the same vision has no reason to
learn. So facets ("star" for "striped star") are taught too, and texts are kept from crowding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel, PreTrainedTokenizerBase

from ..data.samples import BACKGROUND, VOID
from ..data.stream import Vocabulary
from ..geometry import normalize
from ..models.clip import (
    PROMPT_TEMPLATES,
    SurgeryVision,
    class_text_feature,
    encode_text,
    redundant_feature,
    tokens_to_grid,
)
from ..weights.presets import Preset
from .loop import Batch, matrix_decay_groups

REDUNDANT_EVERY = 25
"""Steps between two computations of the feature that all prompts share."""

DENSE_SAMPLES = 32
"""Side of the grid of pixels on which the dense term is taken."""

POSITION_SCALE = 0.12
"""Amplitude of the waves that position embeddings start as."""


@torch.no_grad()
def start_positions_as_waves(clip: CLIPModel) -> None:
    """Add waves of 4 to 32 cells' length to the patches' position embedding.

    What lies beside what, on which shapes depend, is then there to be used from the first step; a
    small training set is slow to find it from random positions.
    """
    embeddings = clip.vision_model.embeddings
    weight = embeddings.position_embedding.weight
    side = embeddings.image_size // embeddings.patch_size
    quarter = weight.shape[1] // 4
    frequencies = torch.logspace(math.log10(math.pi / 2), math.log10(math.pi / 16), quarter)
    phase = torch.arange(side)[:, None] * frequencies
    wave = torch.cat((phase.sin(), phase.cos()), dim=1)
    rows = wave[:, None].expand(-1, side, -1)
    columns = wave[None].expand(side, -1, -1)
    grid = torch.cat((rows, columns), dim=-1).flatten(0, 1)
    weight[1:, : 4 * quarter] += POSITION_SCALE * grid.to(weight)


class ClipStage:
    """Contrast of images with captions, plus cross-entropy of patches over class names."""

    name = "clip"

    def __init__(
        self,
        clip: CLIPModel,
        tokenizer: PreTrainedTokenizerBase,
        vocabulary: Vocabulary,
        preset: Preset,
        lr: float,
    ) -> None:
        self.preset, self.tokenizer, self.vocabulary, self.lr = preset, tokenizer, vocabulary, lr
        self.clip = clip
        # Similarity, in units of cosine, that a class must exceed to win over "none of them".
        self.background = nn.Parameter(torch.tensor(0.1))
        self.module = nn.ModuleDict({"clip": clip})
        self.module.register_parameter("background", self.background)
        self.surgery = SurgeryVision(clip, preset.clip.surgery_layers)
        self._redundant: Tensor | None = None
        self._calls = 0

    def parameter_groups(self) -> list[dict]:
        """See :class:`Stage`."""
        return matrix_decay_groups(self.module, self.lr, weight_decay=0.05)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Dense cross-entropy over names and over facets, contrast, and crowding of texts."""
        if self._calls % REDUNDANT_EVERY == 0:
            with torch.no_grad():
                self._redundant = redundant_feature(self.clip, self.tokenizer).float()
        self._calls += 1
        pixels = normalize(batch["clip"], self.preset.clip_mean, self.preset.clip_std)
        tokens = self.surgery(pixels).float()
        captions, shown = self._captions(batch)
        names = self.vocabulary.names
        words = [word for facet, _ in self.vocabulary.facets for word in facet]
        raw = encode_text(self.clip, self.tokenizer, [*names, *words, *captions]).float()
        text = class_text_feature(raw[: len(names) + len(words)], self._redundant)
        scale = self.clip.logit_scale.exp().clamp(max=60)

        grid = F.normalize(tokens_to_grid(tokens), dim=1)
        step = batch["clip_classes"].shape[-1] // DENSE_SAMPLES
        labels = batch["clip_classes"][:, step // 2 :: step, step // 2 :: step].long()
        dense = F.interpolate(grid, labels.shape[1:], mode="bilinear", align_corners=False)
        pooled, owners, targets = _pool_classes(dense, labels)
        regions = F.normalize(pooled, dim=-1)[:, None]
        pixel_cosines = torch.einsum("bchw,kc->bkhw", grid, text)
        pixel_cosines = F.interpolate(
            pixel_cosines, labels.shape[1:], mode="bilinear", align_corners=False
        )
        pixel_cosines = pixel_cosines.flatten(2).transpose(1, 2)

        def dense_loss(columns: slice, word_of: Tensor | None, allowed: Tensor) -> Tensor:
            """Cross-entropy of pixels and of regions over some of the texts."""
            return self._cross_entropy(
                pixel_cosines[..., columns], _renamed(labels, word_of), allowed, scale
            ) + self._cross_entropy(
                regions @ text[columns].T,
                _renamed(targets[:, None], word_of),
                allowed[owners],
                scale,
            )

        by_name = dense_loss(slice(len(names)), None, self._allowed(batch["domain"]))
        spread = _crowding(text[: len(names)], 0.7)
        by_facet, start = torch.zeros_like(by_name), len(names)
        for facet, word_of in self.vocabulary.facets:
            columns = slice(start, start + len(facet))
            every = torch.ones(len(labels), len(facet), dtype=torch.bool, device=labels.device)
            by_facet = by_facet + dense_loss(columns, word_of.to(labels.device), every)
            spread = spread + _crowding(text[columns], 0.3)
            start = columns.stop

        image = F.normalize(tokens[:, 0], dim=-1)
        caption = F.normalize(raw[start:], dim=-1)
        contrast = _contrast(scale * image @ caption.T, shown[:, None] == shown[None])
        total = by_name + 0.5 * by_facet + 0.2 * contrast + 20 * spread
        return total, {
            "spread": spread.item(),
            "names": by_name.item(),
            "facets": by_facet.item(),
            "contrast": contrast.item(),
        }

    def _allowed(self, domains: Tensor) -> Tensor:
        """Which names each image's data set could have labelled: bool (B, K)."""
        ranges = torch.tensor(self.vocabulary.ranges, device=domains.device)[domains]
        index = torch.arange(len(self.vocabulary.names), device=domains.device)
        return (index >= ranges[:, :1]) & (index < ranges[:, 1:])

    def _cross_entropy(
        self, cosines: Tensor, labels: Tensor, allowed: Tensor, scale: Tensor
    ) -> Tensor:
        """Mean over labelled places: (B, N, K) cosines, (B, …) labels, (B, K) allowed."""
        logits = cosines.masked_fill(~allowed[:, None], -10.0) * scale
        none = (self.background * scale).expand(*logits.shape[:2], 1)
        logits = torch.cat((logits, none), dim=-1)
        targets = labels.flatten(1)
        targets = torch.where(targets == BACKGROUND, cosines.shape[-1], targets)
        loss = F.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=VOID, reduction="sum"
        )
        return loss / (targets != VOID).sum().clamp(min=1)

    def _captions(self, batch: Batch) -> tuple[list[str], Tensor]:
        """A caption of up to four classes for each image, and a number for each distinct one."""
        captions = []
        for classes in batch["clip_classes"]:
            present = [int(i) for i in classes.unique() if i >= 0]
            order = torch.randperm(len(present))[:4].tolist()
            template = PROMPT_TEMPLATES[int(torch.randint(len(PROMPT_TEMPLATES), ()))]
            names = [self.vocabulary.names[present[i]] for i in order]
            captions.append(template.format(" and ".join(names) or "nothing"))
        distinct: Sequence[str] = sorted(set(captions))
        numbers = torch.tensor([distinct.index(c) for c in captions])
        return captions, numbers.to(batch["clip"].device)


def _crowding(text: Tensor, limit: float) -> Tensor:
    """Mean squared excess of the pairwise cosines of texts (K, T) over a limit."""
    excess = (text @ text.T - limit).clamp(min=0).square()
    return (excess.sum() - excess.diagonal().sum()) / (len(text) * (len(text) - 1))


def _renamed(labels: Tensor, word_of: Tensor | None) -> Tensor:
    """Class labels → words of a facet; unlabelled where the class has none."""
    if word_of is None:
        return labels
    return torch.where(labels >= 0, word_of[labels.clamp(min=0)], VOID)


def _pool_classes(dense: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean feature of each class in each image: (R, C), its image (R,), its class (R,)."""
    pooled, owners, targets = [], [], []
    for image, classes in enumerate(labels):
        for value in classes.unique():
            if value >= 0:
                pooled.append(dense[image][:, classes == value].mean(1))
                owners.append(image)
                targets.append(value)
    if not pooled:  # nothing labelled in the whole batch
        return dense.new_zeros(1, dense.shape[1]), labels.new_zeros(1), labels.new_full((1,), VOID)
    return torch.stack(pooled), labels.new_tensor(owners), torch.stack(targets)


def _contrast(similarity: Tensor, same: Tensor) -> Tensor:
    """Symmetric InfoNCE in which equal captions count as equally right."""
    target = same.float() / same.float().sum(1, keepdim=True)
    return 0.5 * (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target))
