"""Losses on mask logits, as CLIP-Guided SAM defines them (section 3.4), and SAM's focal loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-6


def bce_loss(logits: Tensor, targets: Tensor, valid: Tensor | None = None) -> Tensor:
    """Binary cross-entropy, the mean over the batch of each sample's mean over valid pixels.

    (B, …) logits and 0/1 targets. A mean of samples, so that parts of a batch add up to it.
    """
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    counted = _flat(torch.ones_like(loss), valid).sum(1).clamp(min=1)
    return (_flat(loss, valid).sum(1) / counted).mean()


def dice_loss(logits: Tensor, targets: Tensor, valid: Tensor | None = None) -> Tensor:
    """1 − mean over the batch of 2Σpg / (Σp + Σg + ε), p = sigmoid of the logits."""
    return (1 - dice_scores(logits, targets, valid)).mean()


def iou_loss(logits: Tensor, targets: Tensor, valid: Tensor | None = None) -> Tensor:
    """1 − mean over the batch of (I + ε) / (U + ε), soft intersection and union."""
    p, g = _flat(logits.sigmoid(), valid), _flat(targets, valid)
    intersection = (p * g).sum(1)
    union = p.sum(1) + g.sum(1) - intersection
    return 1 - ((intersection + EPS) / (union + EPS)).mean()


def structure_loss(logits: Tensor, targets: Tensor, valid: Tensor | None = None) -> Tensor:
    """Compute the loss of camouflaged object detection (F3Net, arXiv 1911.11445).

    BCE and IoU with pixels near the border of the truth counting up to six times, each the mean
    over the batch: (B, 1, H, W) logits and 0/1 targets.
    """
    weights = 1 + 5 * (F.avg_pool2d(targets, 31, stride=1, padding=15) - targets).abs()
    weights = weights if valid is None else weights * valid
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    bce = _flat(entropy, weights).sum(1) / weights.flatten(1).sum(1).clamp(min=1)
    p = logits.sigmoid()
    intersection = _flat(p * targets, weights).sum(1)
    total = _flat(p + targets, weights).sum(1)
    return (bce + 1 - (intersection + 1) / (total - intersection + 1)).mean()


def dice_scores(logits: Tensor, targets: Tensor, valid: Tensor | None = None) -> Tensor:
    """Soft Dice of each sample: (B, …) → (B,)."""
    p, g = _flat(logits.sigmoid(), valid), _flat(targets, valid)
    return 2 * (p * g).sum(1) / (p.sum(1) + g.sum(1) + EPS)


def focal_scores(logits: Tensor, targets: Tensor, valid: Tensor, gamma: float = 2.0) -> Tensor:
    """Focal loss of each sample (SAM's mask loss, without class balance): (B, …) → (B,)."""
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    missed = 1 - torch.exp(-entropy)
    weighted = _flat(missed**gamma * entropy, valid).sum(1)
    return weighted / _flat(torch.ones_like(logits), valid).sum(1).clamp(min=1)


def combined_loss(
    logits: Tensor,
    targets: Tensor,
    valid: Tensor | None = None,
    weights: tuple[float, ...] = (1.0, 1.0, 1.0),
) -> Tensor:
    """Weighted sum of BCE, Dice, IoU and, if a fourth weight is given, structure losses.

    Equal weights of the first three in the paper. (B, 1, H, W) logits and targets.
    """
    terms = (bce_loss, dice_loss, iou_loss, structure_loss)[: len(weights)]
    weighted = (
        weight * term(logits, targets, valid)
        for weight, term in zip(weights, terms, strict=True)
        if weight
    )
    return sum(weighted, start=torch.zeros(()))


def _flat(values: Tensor, valid: Tensor | None) -> Tensor:
    return (values if valid is None else values * valid).flatten(1)
