"""Training of the bundled SAM, interactively as in the SAM paper.

A first prompt (a click, a few clicks or a box), then a click where the mask was wrong, with the
first mask as the dense prompt; of the three candidates the best is supervised (SAM, appendix A).
Most steps see images of half the side, which costs a quarter; :func:`grow_sam` takes the result to
the full side, where training ends.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from segment_anything.modeling import Sam
from torch import Tensor, nn

from ..data.samples import VOID
from ..geometry import normalize
from ..models.sam_model import PROMPT_DIM, decode_masks
from ..weights.presets import Preset
from .loop import Batch, matrix_decay_groups
from .losses import dice_scores, focal_scores

PROMPTS_PER_IMAGE = 3
SMALLEST_AREA = 1e-3
"""Share of the input below which an object is not asked for."""


class SamStage:
    """Promptable segmentation, plus an affinity term that teaches the encoder to group."""

    def __init__(self, name: str, sam: Sam, preset: Preset, lr: float) -> None:
        """Prepare the stage.

        Args:
            name: of the stage.
            sam: what is trained; its trunk, if it has one, stays frozen.
            preset: says how images are normalised.
            lr: peak learning rate.
        """
        self.name, self.sam, self.preset, self.lr = name, sam, preset, lr
        # All pairs of cells of an image say more than three prompts; dropped after training.
        self.affinity = nn.Conv2d(PROMPT_DIM, 64, 1)
        self.module = nn.ModuleDict({"sam": sam, "affinity": self.affinity})

    def parameter_groups(self) -> list[dict]:
        """See :class:`Stage`."""
        return matrix_decay_groups(self.module, self.lr, weight_decay=0.05)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Mask and IoU losses of two rounds of prompts, and the affinity loss."""
        pixels = normalize(batch["image"], self.preset.sam_mean, self.preset.sam_std)
        side = pixels.shape[-1]
        embeddings = self.sam.image_encoder(pixels)
        affinity = self._affinity_loss(embeddings, batch)
        owners, masks = _choose_objects(batch["segments"], PROMPTS_PER_IMAGE)
        if not len(owners):
            return affinity, {"affinity": affinity.item()}
        valid = (batch["classes"] != VOID)[owners] | (masks > 0)
        # The loss is taken at twice the side of SAM's masks.
        pool = masks.shape[-1] // (8 * embeddings.shape[-1])
        targets = F.avg_pool2d(masks[:, None], pool)
        valid = F.max_pool2d(valid[:, None].float(), pool)
        chosen = embeddings[owners]

        points, boxes = _first_prompt(masks, side)
        logits, quality = decode_masks(
            self.sam.mask_decoder, self.sam.prompt_encoder, chosen, points, boxes
        )
        first, first_iou = _round_loss(logits, quality, targets, valid)
        previous = logits.gather(
            1, quality.argmax(1)[:, None, None, None].expand(-1, 1, *logits.shape[2:])
        ).detach()
        click = _correcting_click(previous, targets, valid, side)
        if points is not None:
            click = torch.cat((points[0], click[0]), 1), torch.cat((points[1], click[1]), 1)
        logits, quality = decode_masks(
            self.sam.mask_decoder, self.sam.prompt_encoder, chosen, click, boxes, previous
        )
        second, second_iou = _round_loss(logits, quality, targets, valid)
        total = first + second + affinity
        return total, {
            "affinity": affinity.item(),
            "first": first.item(),
            "second": second.item(),
            "iou": first_iou,
            "iou_second": second_iou,
        }

    def _affinity_loss(self, embeddings: Tensor, batch: Batch) -> Tensor:
        """Do two cells show the same object? Balanced cross-entropy over all pairs of an image."""
        stride = batch["segments"].shape[-1] // embeddings.shape[-1]
        centres = (slice(None), slice(stride // 2, None, stride), slice(stride // 2, None, stride))
        objects = batch["segments"][centres].flatten(1)
        known = (batch["classes"][centres] != VOID).flatten(1)
        features = F.normalize(self.affinity(embeddings).flatten(2).float(), dim=1)
        logits = 10 * torch.einsum("bcn,bcm->bnm", features, features) - 5
        same = (objects[:, :, None] == objects[:, None]).float()
        pairs = (known[:, :, None] & known[:, None]).float()
        loss = F.binary_cross_entropy_with_logits(logits, same, reduction="none")
        positive, negative = same * pairs, (1 - same) * pairs
        return 0.5 * (
            (loss * positive).sum() / positive.sum().clamp(min=1)
            + (loss * negative).sum() / negative.sum().clamp(min=1)
        )


def grow_sam(state: Mapping[str, Tensor], sam: Sam) -> None:
    """Start a SAM from one that was trained on smaller images.

    Absolute positions are resized bilinearly, relative ones of global attention linearly.

    Args:
        state: of the smaller SAM.
        sam: same sizes but for the image's side.
    """
    own, grown = sam.state_dict(), {}
    for name, tensor in state.items():
        wanted = own[name].shape
        if tensor.shape == wanted:
            grown[name] = tensor
        elif name.endswith("pos_embed"):
            laid = tensor.permute(0, 3, 1, 2)
            laid = F.interpolate(laid, wanted[1:3], mode="bilinear", align_corners=False)
            grown[name] = laid.permute(0, 2, 3, 1)
        else:
            laid = F.interpolate(tensor.T[None], wanted[0], mode="linear", align_corners=True)
            grown[name] = laid[0].T
    sam.load_state_dict(grown)


def _choose_objects(segments: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Objects to ask for: their images (N,), their masks float (N, S, S).

    Drawn with probability proportional to the square root of the area.
    """
    owners, masks = [], []
    for image, numbers in enumerate(segments):
        values, areas = numbers.unique(return_counts=True)
        large = (values > 0) & (areas > SMALLEST_AREA * numbers.numel())
        values, areas = values[large], areas[large]
        if not len(values):
            continue
        chosen = torch.multinomial(areas.float().sqrt(), min(count, len(values)))
        for value in values[chosen]:
            owners.append(image)
            masks.append((numbers == value).float())
    if not owners:
        return segments.new_zeros(0), segments.new_zeros(0)
    return torch.tensor(owners, device=segments.device), torch.stack(masks)


def _random_points(masks: Tensor, count: int) -> Tensor:
    """Pixels drawn inside masks (N, S, S): (N, count, 2) as (x, y)."""
    flat = torch.multinomial(masks.flatten(1), count, replacement=True)
    side = masks.shape[-1]
    return torch.stack((flat % side, flat // side), dim=-1).float() + 0.5


def _first_prompt(
    masks: Tensor, input_side: int
) -> tuple[tuple[Tensor, Tensor] | None, Tensor | None]:
    """One kind of prompt for the whole batch, in input pixels: a click, five, or a loose box."""
    kind = torch.rand(()).item()
    side = masks.shape[-1]
    scale = input_side / side
    if kind < 0.8:
        points = scale * _random_points(masks, 1 if kind < 0.5 else 5)
        return (points, torch.ones(points.shape[:2], device=masks.device)), None
    index = torch.arange(side, device=masks.device)
    rows, columns = masks.amax(2) > 0, masks.amax(1) > 0
    box = torch.stack(
        [
            torch.where(columns, index, side).amin(1),
            torch.where(rows, index, side).amin(1),
            torch.where(columns, index, -1).amax(1) + 1,
            torch.where(rows, index, -1).amax(1) + 1,
        ],
        dim=1,
    ).float()
    extent = (box[:, 2:] - box[:, :2]).repeat(1, 2)
    box = box + torch.randn_like(box) * 0.07 * extent
    return None, scale * box.clamp(0, side)


def _correcting_click(
    logits: Tensor, targets: Tensor, valid: Tensor, side: int
) -> tuple[Tensor, Tensor]:
    """Sample a pixel where mask and truth differ: points (N, 1, 2), labels (N, 1)."""
    predicted = F.interpolate(logits, targets.shape[-2:], mode="bilinear", align_corners=False) > 0
    truth = targets > 0.5
    wrong = ((predicted != truth) & (valid > 0)).flatten(1).float()
    wrong = torch.where(wrong.sum(1, keepdim=True) > 0, wrong, truth.flatten(1).float() + 1e-6)
    index = torch.multinomial(wrong, 1)
    width = targets.shape[-1]
    points = torch.stack((index % width, index // width), dim=-1).float() + 0.5
    return points * (side / width), truth.flatten(1).float().gather(1, index)


def _round_loss(
    logits: Tensor, quality: Tensor, targets: Tensor, valid: Tensor
) -> tuple[Tensor, float]:
    """Loss of the single mask and of the best candidate, and of the predicted IoU of all four.

    Args:
        logits: (N, 4, h, w).
        quality: predicted IoU (N, 4).
        targets, valid: (N, 1, 2h, 2w).

    Returns:
        The loss, and the mean IoU of the masks that the model itself rates best.
    """
    size = targets.shape[-2:]
    logits = F.interpolate(logits.float(), size, mode="bilinear", align_corners=False)
    count = logits.shape[1]
    flat, truth = logits.flatten(0, 1), targets.expand_as(logits).flatten(0, 1)
    mask = valid.expand_as(logits).flatten(0, 1)
    losses = 20 * focal_scores(flat, truth, mask) + 1 - dice_scores(flat, truth, mask)
    losses = losses.view(-1, count)
    with torch.no_grad():
        predicted, real = (flat > 0).float() * mask, (truth > 0.5).float() * mask
        intersection = (predicted * real).flatten(1).sum(1)
        union = torch.maximum(predicted, real).flatten(1).sum(1)
        ious = (intersection / union.clamp(min=1)).view(-1, count)
    quality_loss = F.mse_loss(quality.float(), ious)
    own_choice = ious.gather(1, quality.argmax(1, keepdim=True)).mean().item()
    return losses[:, 0].mean() + losses[:, 1:].amin(1).mean() + quality_loss, own_choice
