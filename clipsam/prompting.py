"""From a similarity map to SAM prompts: points, a dense prompt, and presence.

Source: CLIP-Guided SAM (arXiv 2605.24807), section 3.1, and its authors' code ("reference").
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from .geometry import SquareTransform
from .names import canonical_names

PointSampling = Literal["spread", "reference"]


@dataclass(frozen=True)
class Calibration:
    """Calibration of the similarities of one CLIP.

    Attributes:
        point_threshold: min–max-scaled similarity above which points are taken; 0.8 in the paper.
        presence_midpoint: maximum raw similarity at which presence is one half;
            ``None`` if not measured.
        presence_slope: steepness of the logistic curve there.
    """

    point_threshold: float = 0.8
    presence_midpoint: float | None = None
    presence_slope: float = 1.0

    def presence(self, similarity: np.ndarray) -> float:
        """Return the probability that the class is present, given its raw map; NaN if unknown."""
        if self.presence_midpoint is None:
            return float("nan")
        excess = float(similarity.max()) - self.presence_midpoint
        return 1 / (1 + math.exp(min(50.0, -self.presence_slope * excess)))


@dataclass(frozen=True)
class PromptSettings:
    """How SAM prompts are made from a similarity map; a bundle stores those of its training.

    Attributes:
        num_points: points sampled per class (K = 5 in the paper).
        sampling: how points are sampled, see :func:`sample_points`.
        point_threshold: on the min–max-scaled map, for points and the dense prompt.
        dense_logit: strength of the dense prompt, see :func:`dense_prompt`.
    """

    num_points: int = 5
    sampling: PointSampling = "spread"
    point_threshold: float = 0.8
    dense_logit: float = 8.0


REFERENCE_PROMPTS = PromptSettings(
    num_points=5, sampling="reference", point_threshold=0.8, dense_logit=255.0
)
"""How the code of CLIP-Guided SAM's authors prompts SAM, in training and after it."""

FLAT = 1e-6
"""Range below which a map counts as constant: the rounding error of a cosine in float32."""


def min_max(similarity: Tensor) -> Tensor:
    """Scale each map to 0..1 over its last two axes; a constant map becomes 0."""
    low = similarity.amin((-2, -1), keepdim=True)
    span = similarity.amax((-2, -1), keepdim=True) - low
    return torch.where(span > FLAT, (similarity - low) / span.clamp(min=FLAT), 0.0)


def similarity_map(similarity: Tensor, size: tuple[int, int]) -> Tensor:
    """Scale raw maps (B, h, w) to 0..1 and resize them bilinearly: (B, *size)."""
    scaled = min_max(similarity)[:, None]
    return F.interpolate(scaled, size, mode="bilinear", align_corners=False)[:, 0]


def sample_points(
    inside: Tensor, count: int, generator: torch.Generator, sampling: PointSampling = "spread"
) -> Tensor:
    """Sample points where a map is above its threshold.

    Args:
        inside: bool (H, W).
        count: points wanted (K = 5 in the paper).
        generator: random generator.
        sampling: ``spread`` gives every connected region its share and draws no pixel twice;
            ``reference`` draws uniformly with replacement, as the authors' code does.

    Returns:
        int64 (K, 2) as (x, y); fewer than ``count`` with ``spread`` if there are fewer pixels,
        none if ``inside`` is empty.
    """
    width = inside.shape[-1]
    flat = inside.flatten()
    if not flat.any():
        return torch.zeros((0, 2), dtype=torch.int64)
    if sampling == "reference":
        pixels = torch.nonzero(flat)[:, 0]
        index = pixels[torch.randint(len(pixels), (count,), generator=generator)]
    else:
        index = torch.cat(
            [
                pixels[torch.randperm(len(pixels), generator=generator)[:share]]
                for pixels, share in _regions(inside, count)
            ]
        )
    return torch.stack((index % width, index // width), dim=1)


def _regions(inside: Tensor, count: int) -> list[tuple[Tensor, int]]:
    """Return the largest connected regions as flat pixel indices, each with its share of ``count``.

    Shares go to the region with most pixels per point so far (D'Hondt's rule), after one each.
    """
    labels, _ = ndimage.label(inside.cpu().numpy())
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    largest = np.argsort(-areas, kind="stable")[: min(count, np.count_nonzero(areas))]
    shares = np.ones(len(largest), int)
    for _ in range(min(count, int(areas[largest].sum())) - len(largest)):
        room = shares < areas[largest]
        shares[np.argmax(np.where(room, areas[largest] / (shares + 1), -1))] += 1
    flat = torch.from_numpy(labels.ravel())
    return [
        (torch.nonzero(flat == int(region))[:, 0], int(share))
        for region, share in zip(largest, shares, strict=True)
    ]


def points_in_mask(mask: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Sample pixel centres of a mask, bool (H, W), with replacement: float32 (count, 2), (x, y).

    They simulate a user's clicks.
    """
    rows, columns = np.nonzero(mask)
    chosen = rng.integers(len(rows), size=count)
    return np.stack((columns[chosen], rows[chosen]), axis=1).astype(np.float32) + 0.5


def points_from_similarity(
    similarity: Tensor,
    transform: SquareTransform,
    threshold: float,
    count: int,
    seed: int,
    sampling: PointSampling = "spread",
) -> np.ndarray:
    """Sample foreground points from one class's raw map.

    Args:
        similarity: float (h, w), over the whole image.
        transform: how the image lies in SAM's square; the map is read at that resolution.
        threshold: on the min–max-scaled map.
        count: points wanted.
        seed: the same image, class and seed give the same points.
        sampling: see :func:`sample_points`.

    Returns:
        float32 (K, 2), (x, y) in pixels of the original image; none if the map is constant.
    """
    scaled = similarity_map(similarity[None].float().cpu(), transform.content)[0]
    generator = torch.Generator().manual_seed(seed)
    points = sample_points(scaled > threshold, count, generator, sampling).numpy()
    # SAM's prompt encoder adds the half pixel that leads to a pixel's centre.
    return transform.coordinates_back(points.astype(np.float32))


def map_in_square(similarity: Tensor, transform: SquareTransform, side: int) -> Tensor:
    """Scale raw maps to 0..1 and read them at the cells of SAM's mask prompt.

    Args:
        similarity: float (B, h, w), over the whole image.
        transform: how the image lies in SAM's square.
        side: of SAM's mask prompt, 4 × its embedding's.

    Returns:
        float (B, 1, side, side); the padding continues the image's edge.
    """
    scaled = min_max(similarity)[:, None]
    grid = transform.sampling_grid(side)
    if grid is None:
        return F.interpolate(scaled, (side, side), mode="bilinear", align_corners=False)
    grid = grid.to(scaled).expand(len(scaled), -1, -1, -1)
    return F.grid_sample(scaled, grid, padding_mode="border", align_corners=False)


def dense_prompt(
    similarity: Tensor, transform: SquareTransform, side: int, threshold: float, logit: float
) -> Tensor:
    """Build SAM's mask prompt from raw maps: foreground where the scaled map exceeds the threshold.

    Args:
        similarity, transform, side: see :func:`map_in_square`.
        threshold: on the scaled map.
        logit: 255 gives the reference's 255·[map > threshold]; a smaller k gives ±k, which is
            what SAM's mask inputs are.

    Returns:
        float (B, 1, side, side).
    """
    inside = map_in_square(similarity, transform, side) > threshold
    grid = transform.sampling_grid(side)
    if grid is not None:
        inside &= (grid.abs() <= 1).all(-1)[:, None].to(inside.device)
    low = 0.0 if logit == REFERENCE_DENSE_LOGIT else -float(logit)
    return torch.where(inside, float(logit), low)


REFERENCE_DENSE_LOGIT = 255.0
"""Value of the authors' dense prompt inside; outside it is 0."""


def class_seed(names: Sequence[str], seed: int) -> int:
    """Return a seed that depends on a class, whatever the case and order of its synonyms."""
    return stable_seed("; ".join(canonical_names(names)), seed)


def stable_seed(text: str, seed: int) -> int:
    """Return a seed that depends on a text and is the same in every process."""
    digest = hashlib.sha256(f"{seed}/{text}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:7], "big")
