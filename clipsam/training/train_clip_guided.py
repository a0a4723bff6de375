"""Training of CLIP-Guided SAM (arXiv 2605.24807, section 3.4).

A sample is an image and a class present in it; the loss is BCE + Dice + IoU on SAM's single mask.
Half of the samples are prompted with points from CLIP's map (semi-automatic), half with points
from the truth (manual), so that one bundle is aligned with both kinds of use.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.samples import VOID
from ..data.stream import Vocabulary
from ..geometry import SquareTransform, normalize
from ..methods.clip_guided_sam import ClipGuidedSamPredictor
from ..models.clip import normalize_tokens, similarity_grid
from ..models.image_encoder import embed_patches, run_plain_blocks
from ..models.sam import decode_masks
from ..prompting import dense_prompt, points_from_similarity, points_in_mask
from .loop import Batch
from .losses import combined_loss
from .pretrain_sam import content_mask


@dataclass(frozen=True)
class ClipGuidedRecipe:
    """What the paper and its ablations set; defaults are the tiny bundle's.

    Attributes:
        lr: of adapters, decoder and prompt encoder (5e-5 in the paper, from pretrained SAM).
        clip_lr: of CLIP's vision attention (1e-7 in the paper).
        weight_decay: of all but CLIP.
        classes_per_image: samples drawn from one image of a batch.
        num_points: K, points per sample.
        manual_share: share of samples with points from the truth.
        dense_logit: strength of the dense prompt, see ``prompting.dense_prompt``.
    """

    lr: float = 4e-4
    clip_lr: float = 2e-5
    weight_decay: float = 1e-3
    classes_per_image: int = 2
    num_points: int = 5
    manual_share: float = 0.5
    dense_logit: float = 8.0


class ClipGuidedStage:
    """Stage 3 of the tiny bundle."""

    def __init__(
        self,
        name: str,
        predictor: ClipGuidedSamPredictor,
        vocabulary: Vocabulary,
        recipe: ClipGuidedRecipe,
    ) -> None:
        """
        Args:
            name: of the run.
            predictor: holds the network to train; points and dense prompts are made at its
                calibrated threshold.
            vocabulary: class names of the stream.
            recipe: learning rates and prompts.
        """
        self.name, self.recipe = name, recipe
        self.model = self.module = predictor.model
        self.preset = predictor.backbones.preset
        self.threshold = predictor.calibration.point_threshold
        self.text = predictor.backbones.text([(name,) for name in vocabulary.names])

    def parameter_groups(self) -> list[dict]:
        """SAM's side with weight decay, CLIP's attention slower and without."""
        clip = {id(p) for p in self.model.vision.parameters()}
        ours = [p for p in self.model.parameters() if p.requires_grad and id(p) not in clip]
        theirs = [p for p in self.model.vision.parameters() if p.requires_grad]
        recipe = self.recipe
        return [
            {"params": ours, "lr": recipe.lr, "weight_decay": recipe.weight_decay},
            {"params": theirs, "lr": recipe.clip_lr, "weight_decay": 0.0},
        ]

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Equal-weight BCE + Dice + IoU over the samples of a batch."""
        owners, classes = self._choose_classes(batch["classes"])
        if not len(owners):
            return 0.0 * sum(p.sum() for p in self.model.mask_decoder.parameters()), {}
        preset, model = self.preset, self.model
        pixels = normalize(batch["clip"], preset.clip_mean, preset.clip_std)
        tokens = normalize_tokens(model.vision(pixels).float(), preset.feature_norm)[owners]
        text = self.text[classes]
        similarity = similarity_grid(tokens, text).detach()
        masks = (batch["classes"][owners] == classes[:, None, None]).float()
        transforms = [
            SquareTransform((int(h), int(w)), preset.sam.image_size, preset.fit)
            for h, w in batch["content"][owners].tolist()
        ]
        points, labels = self._points(similarity, masks, transforms)
        dense = torch.cat(
            [
                dense_prompt(
                    similarity[i : i + 1],
                    transform,
                    preset.sam.mask_side,
                    self.threshold,
                    self.recipe.dense_logit,
                )
                for i, transform in enumerate(transforms)
            ]
        )
        prefix = self._prefix(batch)[owners]
        grid = torch.cat([t.cell_positions(prefix.shape[1]) for t in transforms]).to(prefix.device)
        embeddings = model.encode(prefix, model.condition(tokens, text, grid))
        logits, _ = decode_masks(
            model.mask_decoder, model.prompt_encoder, embeddings, (points, labels), dense=dense
        )
        targets = F.avg_pool2d(masks[:, None], 2)
        valid = F.max_pool2d((batch["classes"] != VOID)[owners, None].float(), 2)
        logits = F.interpolate(
            logits[:, :1].float(), targets.shape[-2:], mode="bilinear", align_corners=False
        )
        loss = combined_loss(logits, targets, valid)
        with torch.no_grad():
            predicted, real = (logits > 0) & (valid > 0), (targets > 0.5) & (valid > 0)
            union = (predicted | real).flatten(1).sum(1).clamp(min=1)
            iou = ((predicted & real).flatten(1).sum(1) / union).mean().item()
        return loss, {"iou": iou}

    @torch.no_grad()
    def _prefix(self, batch: Batch) -> Tensor:
        """Tokens before the first adapted block: plain, frozen SAM."""
        encoder, preset = self.model.image_encoder, self.preset
        pixels = normalize(batch["sam"], preset.sam_mean, preset.sam_std)
        pixels = pixels * content_mask(batch["content"], pixels.shape[-1])
        return run_plain_blocks(encoder, embed_patches(encoder, pixels), 0, encoder.first_adapted)

    def _choose_classes(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Images and classes of the samples: (N,), (N,)."""
        owners, classes = [], []
        for image, values in enumerate(maps):
            present, areas = values.unique(return_counts=True)
            present = present[(present >= 0) & (areas > 16)]
            order = torch.randperm(len(present))[: self.recipe.classes_per_image]
            for value in present[order.to(present.device)].tolist():
                owners.append(image)
                classes.append(value)
        return tuple(
            torch.tensor(x, device=maps.device, dtype=torch.int64) for x in (owners, classes)
        )

    def _points(
        self, similarity: Tensor, masks: Tensor, transforms: list[SquareTransform]
    ) -> tuple[Tensor, Tensor]:
        """Points (N, K, 2) as (x, y) in input pixels and labels (N, K), short rows padded."""
        count = self.recipe.num_points
        points = torch.zeros(len(masks), count, 2)
        labels = torch.full((len(masks), count), -1)
        for i, transform in enumerate(transforms):
            seed = int(torch.randint(2**31, ()))
            if torch.rand(()) < self.recipe.manual_share:
                wanted = int(torch.randint(1, count + 1, ()))
                inside = masks[i].cpu().numpy() > 0
                drawn = points_in_mask(inside, wanted, np.random.default_rng(seed))
                chosen = torch.from_numpy(drawn)
            else:
                found = points_from_similarity(
                    similarity[i], transform, self.threshold, count, seed
                )
                chosen = torch.from_numpy(transform.coordinates(found))
            points[i, : len(chosen)] = chosen
            labels[i, : len(chosen)] = 1
        return points.to(masks.device), labels.to(masks.device)
