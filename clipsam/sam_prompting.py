"""SAM prompting for one class: points and boxes as tensors, and masks as a result."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .geometry import SquareTransform
from .prompting import PromptSettings, dense_prompt, points_from_similarity
from .types import NOTHING, ConceptResult, Instance, SamPrompts


def map_points(
    similarity: Tensor, transform: SquareTransform, settings: PromptSettings, seed: int
) -> np.ndarray:
    """Sample foreground points where one class's similarity map is high.

    Args:
        similarity: raw map (1, h, w) over the whole image.
        transform: how the image lies in SAM's square input.
        settings: number of points, threshold and sampling.
        seed: of the class in this prediction.

    Returns:
        float32 (K, 2), (x, y) in pixels of the original image; K is 0 for a constant map.
    """
    return points_from_similarity(
        similarity[0],
        transform,
        settings.point_threshold,
        settings.num_points,
        seed,
        settings.sampling,
    )


def map_mask(
    similarity: Tensor, transform: SquareTransform, settings: PromptSettings, side: int
) -> Tensor:
    """Convert one class's raw map (1, h, w) to SAM's mask prompt (1, 1, side, side), logits."""
    threshold, logit = settings.point_threshold, settings.dense_logit
    return dense_prompt(similarity, transform, side, threshold, logit)


def prompt_tensors(
    prompts: SamPrompts, transform: SquareTransform, device: torch.device
) -> tuple[tuple[Tensor, Tensor] | None, Tensor | None]:
    """Convert one class's points and boxes to tensors for SAM's prompt encoder.

    Each of B boxes yields a mask of its own; without a box, B is 1.

    Args:
        prompts: in pixels of the original image.
        transform: how the image lies in SAM's square input.
        device: of the tensors.

    Returns:
        Points, as coordinates (B, K, 2) and labels (B, K), or ``None`` without any; boxes (B, 4),
        or ``None`` without any. All in pixels of SAM's square.
    """
    count = max(1, len(prompts.boxes))
    points = boxes = None
    if len(prompts.points):
        coordinates = torch.from_numpy(transform.coordinates(prompts.points)).to(device)
        labels = torch.from_numpy(prompts.labels).to(device)
        points = coordinates.expand(count, -1, -1), labels.expand(count, -1)
    if len(prompts.boxes):
        corners = transform.coordinates(prompts.boxes.reshape(-1, 2))
        boxes = torch.from_numpy(corners).to(device).reshape(-1, 4)
    return points, boxes


def class_result(
    logits: Tensor,
    scores: Tensor,
    prompts: SamPrompts,
    box_scores: np.ndarray | None = None,
    **fields: Any,
) -> ConceptResult:
    """Build one class's result from SAM's masks, the union over its boxes.

    Args:
        logits: (B, 1 + 3, h, w), the single mask and the candidates for each box.
        scores: (B, 1 + 3), their IoU predicted by SAM.
        prompts: the SAM prompts.
        box_scores: float (B,), of the boxes if each shows one object; ``None`` if not.
        fields: further ones of the :class:`ConceptResult`.
    """
    masks, predicted = logits.float().cpu().numpy(), scores.float().cpu().numpy()
    single = len(masks) == 1
    if box_scores is not None:
        found = masks[:, 0].copy()  # A view would keep the candidates of all boxes in memory.
        parts = zip(found, prompts.boxes, box_scores.tolist(), strict=True)
        fields["instances"] = tuple(Instance(*part) for part in parts)
    return ConceptResult(
        logits=masks[:, 0].max(0),
        prompts=prompts,
        candidates=masks[0, 1:] if single else None,
        candidate_scores=predicted[0, 1:] if single else None,
        **fields,
    )


def empty_result(
    side: int,
    similarity: np.ndarray | None = None,
    note: str = "Empty mask: CLIP's similarity map is constant.",
    presence: float = 0.0,
    instances: tuple[Instance, ...] | None = None,
) -> ConceptResult:
    """Build an empty result for a class without SAM prompts.

    Args:
        side: of the logits, all of them :data:`~clipsam.types.NOTHING`.
        similarity: float32 (gh, gw), raw similarity map, if there is one.
        note: one sentence for the user.
        presence: probability that the class is in the image.
        instances: ``()`` if the method looked for objects.
    """
    return ConceptResult(
        logits=np.full((side, side), NOTHING, np.float32),
        prompts=SamPrompts(),
        presence=presence,
        similarity=similarity,
        note=note,
        instances=instances,
    )
