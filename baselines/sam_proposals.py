"""SAM's automatic masks: a grid of points, filtered by quality (arXiv 2304.02643, section 5).

The steps are those of segment_anything's ``SamAutomaticMaskGenerator``, on an image embedding that
other methods may have computed already. Two things differ. Masks are filtered at the resolution of
SAM's input, not at the image's own, so that a large photograph takes no more memory than a small
one. And masks rejected by their predicted IoU are never enlarged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from segment_anything.modeling import Sam
from segment_anything.utils.amg import (
    batched_mask_to_box,
    build_point_grid,
    calculate_stability_score,
)
from torch import Tensor
from torchvision.ops import nms

from clipsam.geometry import SquareTransform
from clipsam.models.sam_model import decode_masks


@dataclass(frozen=True)
class ProposalConfig:
    """Filter of the proposed masks; the defaults are segment_anything's.

    Attributes:
        points_per_side: of the grid of points.
        points_per_batch: points that SAM's decoder takes at a time.
        iou_threshold: masks with a predicted IoU up to it are dropped.
        stability_threshold: so are masks whose stability is below this: the IoU of the masks at
            logits above ± ``stability_offset``.
        nms_threshold: of two masks whose boxes' IoU is above this, the one with the higher
            predicted IoU stays.
    """

    points_per_side: int = 32
    points_per_batch: int = 64
    iou_threshold: float = 0.88
    stability_threshold: float = 0.95
    stability_offset: float = 1.0
    nms_threshold: float = 0.7


@dataclass(frozen=True)
class Proposals:
    """Masks that SAM proposes for an image, highest predicted IoU first.

    Attributes:
        logits: float (N, 4h, 4w) over SAM's square.
        boxes: float (N, 4), around the masks, (x0, y0, x1, y1) in pixels of SAM's square; the last
            column and row lie inside.
        points: float (N, 2), the prompts, (x, y) in pixels of SAM's square.
    """

    logits: Tensor
    boxes: Tensor
    points: Tensor

    def packed(self) -> Tensor:
        """Pack all fields into one tensor (N, …), for the feature cache."""
        return torch.cat((self.boxes, self.points, self.logits.flatten(1)), dim=1)

    @classmethod
    def unpacked(cls, packed: Tensor, side: int) -> Proposals:
        """Restore the result of :meth:`packed`, with masks of (``side``, ``side``)."""
        boxes, points, logits = packed.split([4, 2, side * side], dim=1)
        return cls(logits.unflatten(1, (side, side)), boxes, points)


def propose_masks(
    sam: Sam, embedding: Tensor, transform: SquareTransform, config: ProposalConfig
) -> Proposals:
    """Prompt SAM with a grid of points and keep masks that are confident, stable and distinct.

    Args:
        sam: its prompt encoder and mask decoder are used.
        embedding: (1, 256, h, w), of the image.
        transform: how the image lies in SAM's square.
        config: see :class:`ProposalConfig`.
    """
    height, width = transform.image_size
    grid = build_point_grid(config.points_per_side) * np.array([width, height])
    points = torch.from_numpy(transform.coordinates(grid)).to(embedding.device)
    parts = [
        _judged(sam, embedding, transform, config, batch)
        for batch in points.split(config.points_per_batch)
    ]
    logits, boxes, scores, points = (torch.cat(column) for column in zip(*parts, strict=True))
    kept = nms(boxes, scores, config.nms_threshold)
    return Proposals(logits[kept], boxes[kept], points[kept])


def _judged(
    sam: Sam, embedding: Tensor, transform: SquareTransform, config: ProposalConfig, points: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Segment points (B, 2); return logits, boxes, predicted IoUs and points of good masks."""
    labels = torch.ones(len(points), 1, dtype=torch.int64, device=points.device)
    logits, scores = decode_masks(
        sam.mask_decoder,
        sam.prompt_encoder,
        embedding.expand(len(points), -1, -1, -1),
        (points[:, None], labels),
    )
    candidates = logits.shape[1] - 1
    logits, scores = logits[:, 1:].flatten(0, 1).float(), scores[:, 1:].flatten().float()
    points = points.repeat_interleave(candidates, dim=0)
    sure = scores > config.iou_threshold
    logits, scores, points = logits[sure], scores[sure], points[sure]
    if not len(logits):
        return logits, logits.new_zeros(0, 4), scores, points
    large = transform.to_image(logits[None], transform.content)[0]
    stable = calculate_stability_score(large, sam.mask_threshold, config.stability_offset)
    kept = stable >= config.stability_threshold
    boxes = batched_mask_to_box(large[kept] > sam.mask_threshold).float()
    return logits[kept], boxes, scores[kept], points[kept]
