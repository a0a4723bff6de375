"""Alignment of the bundled CLIP: its patches learn where the text tower puts what they show.

Three teachers: masks, the trunk's own classifier (at every cell, for a thousand names and for
common words that are sums of them), and photographs with a name. The skip from the classifier and
the text tower are frozen, so that names which no mask teaches keep their meaning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel, PreTrainedTokenizerBase

from ..data.samples import VOID
from ..data.stream import Domain, Vocabulary
from ..models.clip import SurgeryVision, encode_text
from ..models.trunk import SemanticStem
from .common_words import COMMON_WORDS
from .loop import Batch
from .sources import Classifier
from .tiny_data import SINGLE_OBJECT

POSITION_SCALE = 0.12
"""Amplitude of the waves that position embeddings start as."""

RESIDUAL_SCALE = 0.002
"""Standard deviation with which the projection of what the transformer finds starts."""


@dataclass(frozen=True)
class AlignmentRecipe:
    """How the alignment is trained.

    Attributes:
        lr: of the vision tower.
        scalar_lr: of the scales and the offset of the logits.
        weight_decay: on matrices.
        candidates: names asked of an image with masks, present and absent.
        most_present: of those at most so many are present.
        distilled_cells: cells of an image at which the classifier teaches.
        teacher_classes: of the classifier's classes so many, the likeliest, are taught at a cell.
        sure: highest logit of the classifier above which a cell counts fully.
        distillation, words, named, whole: weights of the terms, see :meth:`AlignmentStage.loss`.
    """

    lr: float = 1e-3
    scalar_lr: float = 3e-3
    weight_decay: float = 0.05
    candidates: int = 16
    most_present: int = 7
    distilled_cells: int = 64
    teacher_classes: int = 20
    sure: float = 7.0
    distillation: float = 0.6
    words: float = 0.5
    named: float = 0.1
    whole: float = 0.1


class AlignmentScales(nn.Module):
    """Scales and offset of the logits that cosines and products become; trained, then dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.mask_scale = nn.Parameter(torch.tensor(20.0))
        self.mask_offset = nn.Parameter(torch.tensor(0.25))
        self.name_scale = nn.Parameter(torch.tensor(16.0))


class AlignmentStage:
    """Trains the vision tower on :class:`FrozenViews`, read with CLIP Surgery."""

    name = "clip"

    def __init__(
        self,
        clip: CLIPModel,
        tokenizer: PreTrainedTokenizerBase,
        classifier: Classifier,
        domains: Mapping[str, Domain],
        surgery_layers: int,
        recipe: AlignmentRecipe,
        without: Sequence[str] = (),
    ) -> None:
        """Prepare the stage.

        Args:
            clip: with its frozen parts filled; its transformer is trained.
            tokenizer: of the text tower.
            classifier: the trunk's own.
            domains: where the views come from.
            surgery_layers: as the tower will be read.
            recipe: see :class:`AlignmentRecipe`.
            without: sets whose masks are not seen, to know what a word is worth that no mask
                teaches; their photographs stay.
        """
        self.recipe, self.classifier = recipe, classifier
        nn.init.normal_(clip.visual_projection.weight, std=RESIDUAL_SCALE)
        clip.requires_grad_(False)
        vision = clip.vision_model
        vision.requires_grad_(True)
        self.stem: SemanticStem = vision.embeddings.patch_embedding
        self.stem.trunk.requires_grad_(False)
        self.stem.skip.requires_grad_(False)
        clip.visual_projection.requires_grad_(True)
        clip.logit_scale.requires_grad_(True)
        self.vision = SurgeryVision(clip, surgery_layers)
        self.scales = AlignmentScales()
        self.module = nn.ModuleDict({"vision": self.vision, "scales": self.scales})
        self.logit_scale: nn.Parameter = clip.logit_scale
        self.module.register_parameter("logit_scale", self.logit_scale)

        self.vocabulary = Vocabulary(domains)
        domain_names = list(domains)
        self.single_object = torch.tensor([name in SINGLE_OBJECT for name in domain_names])
        self.without = torch.tensor([name in without for name in domain_names])
        self.class_texts = encode_all(clip, tokenizer, classifier.names)
        self.word_texts = encode_all(clip, tokenizer, tuple(COMMON_WORDS))
        members = torch.zeros(len(COMMON_WORDS), len(classifier.names))
        for row, ranges in zip(members, COMMON_WORDS.values(), strict=True):
            for first, last in ranges:
                row[first : last + 1] = 1
        self.members = members
        # Two sets may share a name; a text is asked once.
        texts = [name.lower() for name in self.vocabulary.names]
        self.texts = tuple(dict.fromkeys((*texts, *(n.lower() for n in classifier.names))))
        place = {text: index for index, text in enumerate(self.texts)}
        self.text_of = torch.tensor([place[text] for text in texts])
        self.features = encode_all(clip, tokenizer, self.texts)
        self.classes_of = torch.tensor([place[n.lower()] for n in classifier.names])
        self.alike = self.features @ self.features.T

    def parameter_groups(self) -> list[dict]:
        """See :class:`Stage`."""
        recipe = self.recipe
        trained = [p for p in self.vision.parameters() if p.requires_grad]
        scalars = [p for n, p in self.module.named_parameters() if not n.startswith("vision.")]
        matrices = [p for p in trained if p.ndim > 1]
        vectors = [p for p in trained if p.ndim <= 1]
        return [
            {"params": matrices, "lr": recipe.lr, "weight_decay": recipe.weight_decay},
            {"params": vectors, "lr": recipe.lr, "weight_decay": 0.0},
            {"params": scalars, "lr": recipe.scalar_lr, "weight_decay": 0.0},
        ]

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Masks, distillation at cells, common words, names of photographs, whole images."""
        recipe, features = self.recipe, batch["features"].float()
        tokens = self.vision(features).float()
        whole, cells = tokens[:, 0], tokens[:, 1:]
        masks = self._mask_loss(cells, batch)
        heads = self.stem.skip.head_features(features)
        distilled, words = self._distillation(cells, heads)
        named, right = self._named_loss(cells, batch["name"])
        image = self._whole_loss(whole, heads, batch["name"])
        total = (
            masks
            + recipe.distillation * distilled
            + recipe.words * words
            + recipe.named * named
            + recipe.whole * image
        )
        return total, {
            "masks": masks.item(),
            "distilled": distilled.item(),
            "words": words.item(),
            "named": named.item(),
            "top1": right,
            "image": image.item(),
            "scale": self.scales.mask_scale.item(),
            "offset": self.scales.mask_offset.item(),
        }

    def _mask_logits(self, cosines: Tensor) -> Tensor:
        return self.scales.mask_scale * (cosines - self.scales.mask_offset)

    def _mask_loss(self, cells: Tensor, batch: Batch) -> Tensor:
        """2 × BCE + Dice of present and absent names, and who of the present it is."""
        masked = (batch["name"] == VOID) & ~self.without[batch["domain"]]
        rows = masked.nonzero()[:, 0]
        if not len(rows):
            return cells.sum() * 0
        side = round(cells.shape[1] ** 0.5)
        labels = batch["classes"][rows].long()
        domains = batch["domain"][rows].tolist()
        chosen = [self._candidates(*pair) for pair in zip(labels, domains, strict=True)]
        classes = torch.stack([classes for classes, _ in chosen])
        texts = torch.stack([texts for _, texts in chosen])
        units = F.normalize(cells[rows], dim=-1)
        cosines = torch.einsum("bnd,bkd->bkn", units, self.features[texts])
        cosines = cosines.unflatten(-1, (side, side))
        cosines = F.interpolate(cosines, labels.shape[1:], mode="bilinear", align_corners=False)
        logits = self._mask_logits(cosines)
        present = (classes >= 0).float()
        targets = (labels[:, None] == classes[..., None, None]) & (classes >= 0)[..., None, None]
        targets = targets.float()
        valid = (labels != VOID)[:, None].float()
        area = valid.sum((2, 3)).clamp(min=1)
        losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none") * valid
        losses = losses.sum((2, 3)) / area
        bce = (losses * present).sum() / present.sum().clamp(min=1)
        bce = bce + (losses * (1 - present)).sum() / (1 - present).sum().clamp(min=1)
        shown = logits.sigmoid() * valid
        overlap = (shown * targets).sum((2, 3))
        dice = 1 - (2 * overlap + 1) / (shown.sum((2, 3)) + targets.sum((2, 3)) + 1)
        dice = (dice * present).sum() / present.sum().clamp(min=1)
        who = logits.masked_fill(present[..., None, None] == 0, -1e4)
        known = targets.amax(1) > 0
        several = (present.sum(1) > 1)[:, None, None] & known
        who = F.cross_entropy(who, targets.argmax(1), reduction="none")
        who = (who * several).sum() / several.sum().clamp(min=1)
        return 2 * bce + dice + 0.5 * who

    def _candidates(self, labels: Tensor, domain: int) -> tuple[Tensor, Tensor]:
        """Names to ask of an image: their class values (K,), VOID for absent ones; texts (K,)."""
        recipe = self.recipe
        present = [int(value) for value in labels.unique() if value >= 0]
        order = torch.randperm(len(present)).tolist()[: recipe.most_present]
        asked = [present[index] for index in order]
        there = self.text_of[present] if present else self.text_of[:0]
        first, last = self.vocabulary.ranges[domain]
        pool = self.text_of[first:last]
        if self.single_object[domain]:
            pool = torch.cat((pool, self.classes_of))
        if len(there):
            # Of what is nearly the same word nobody can say that it is absent.
            limit = 0.4 if self.single_object[domain] else 0.95
            alike = self.alike[pool][:, there].amax(1)
            pool, alike = pool[alike < limit], alike[alike < limit]
        else:
            alike = torch.zeros(len(pool))
        wanted = recipe.candidates - len(asked)
        hard = alike.topk(min(wanted // 3, len(pool))).indices
        rest = torch.randperm(len(pool))[: wanted - len(hard)]
        absent = pool[torch.cat((hard, rest))]
        if len(absent) < wanted:  # a small vocabulary: ask what ImageNet names instead
            other = self.classes_of[torch.randperm(len(self.classes_of))]
            if len(there):
                other = other[self.alike[other][:, there].amax(1) < 0.35]
            absent = torch.cat((absent, other[: wanted - len(absent)]))
        classes = torch.tensor(asked + [VOID] * wanted)
        return classes, torch.cat((self.text_of[asked] if asked else there, absent))

    def _distillation(self, cells: Tensor, heads: Tensor) -> tuple[Tensor, Tensor]:
        """Return the classifier's opinion of some cells: of its classes, and of common words."""
        recipe, count = self.recipe, cells.shape[1]
        some = torch.randperm(count)[: recipe.distilled_cells]
        cells, heads = cells[:, some].flatten(0, 1), heads[:, some].flatten(0, 1)
        with torch.no_grad():
            teacher = heads @ self.classifier.weight.T + self.classifier.bias
            top, index = teacher.topk(recipe.teacher_classes)
            share = top.softmax(-1)
            weight = 0.1 + (top[:, 0] > recipe.sure).float()
            words = teacher.softmax(-1) @ self.members.T
        student = (self.scales.name_scale * cells @ self.class_texts.T).log_softmax(-1)
        loss = -(share * student.gather(1, index)).sum(-1)
        by_class = (loss * weight).sum() / weight.sum()
        # On the level of masks: apart, words that no mask teaches stay lower than the others.
        logits = self._mask_logits(F.normalize(cells, dim=-1) @ self.word_texts.T)
        loss = F.binary_cross_entropy_with_logits(logits, words, reduction="none").sum(-1)
        return by_class, (loss * weight).sum() / weight.sum() / 10

    def _named_loss(self, cells: Tensor, names: Tensor) -> tuple[Tensor, float]:
        """Cross-entropy of a photograph's name over all names, from each one's ten best cells.

        By product, where a cell's length says how sure it is.
        """
        rows = (names >= 0).nonzero()[:, 0]
        if not len(rows):
            return cells.sum() * 0, 0.0
        target = self.text_of[names[rows]]
        scores = self.scales.name_scale * cells[rows] @ self.features.T
        pooled = scores.topk(10, dim=1).values.mean(1)
        right = (pooled.argmax(1) == target).float().mean().item()
        return F.cross_entropy(pooled, target), right

    def _whole_loss(self, whole: Tensor, heads: Tensor, names: Tensor) -> Tensor:
        """Compute the CLS token's loss: the classifier's opinion of the image, or its name."""
        units = F.normalize(whole, dim=-1)
        scale = self.logit_scale.exp().clamp(max=100)
        with torch.no_grad():
            teacher = heads.mean(1) @ self.classifier.weight.T + self.classifier.bias
            top, index = teacher.topk(self.recipe.teacher_classes)
        student = (scale * units @ self.class_texts.T).log_softmax(-1)
        distilled = -(top.softmax(-1) * student.gather(1, index)).sum(-1).mean()
        rows = (names >= 0).nonzero()[:, 0]
        if not len(rows):
            return distilled
        logits = scale * units[rows] @ self.features.T
        return distilled + F.cross_entropy(logits, self.text_of[names[rows]])


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


@torch.no_grad()
def encode_all(
    clip: CLIPModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], batch: int = 128
) -> Tensor:
    """Unit-norm features (N, T) of texts as they stand."""
    parts = [texts[start : start + batch] for start in range(0, len(texts), batch)]
    features = [encode_text(clip, tokenizer, part) for part in parts]
    return F.normalize(torch.cat(features), dim=-1)
