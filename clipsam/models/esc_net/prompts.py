"""The Pseudo Prompt Generator: from a correlation map to points, boxes and a mask for SAM.

Paper: the Pseudo Prompt Generator (PPG). Nothing here has a gradient. Every map is treated on its
own, all at once: any leading dimensions, no data-dependent shapes, nothing that makes a GPU wait
for the host. All is elementwise float32 or integer, hence the same under autocast and however maps
are batched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ITERATIONS = 10
"""Iterations of Lloyd's algorithm, of which the paper gives no number.

On 24 × 24 cells most maps have converged by then, about one in ten has not.
"""


@dataclass(frozen=True)
class PseudoPrompts:
    """SAM prompts of each class, one per pseudo mask.

    Attributes:
        points: int64 (..., N_o, 2), cell of highest density (x, y) of each region.
        boxes: int64 (..., N_o, 4), its outermost cells (x0, y0, x1, y1), inclusive.
        valid: bool (..., N_o); where not, the region is empty, point and box are 0.
        regions: bool (..., N_o, h, w), the pseudo masks, disjoint.
    """

    points: Tensor
    boxes: Tensor
    valid: Tensor
    regions: Tensor

    @staticmethod
    def cat(parts: Sequence[PseudoPrompts], dim: int) -> PseudoPrompts:
        """Concatenate the prompts of several sets of classes."""
        return PseudoPrompts(
            *(
                torch.cat([getattr(part, name) for part in parts], dim)
                for name in ("points", "boxes", "valid", "regions")
            )
        )


@torch.no_grad()
def generate_prompts(
    maps: Tensor, count: int = 5, alpha: float = 1.0, standardise: bool = True
) -> PseudoPrompts:
    """Cluster the foreground of each map into ``count`` regions with a prompt each.

    Args:
        maps: correlation M (..., h, w).
        count: N_o.
        alpha, standardise: say which cells are foreground, see :class:`EscNetConfig`.
    """
    height, width = maps.shape[-2:]
    density, inside = foreground(maps.float().flatten(-2), alpha, standardise)
    cells = torch.arange(height * width, device=maps.device)
    x, y = cells % width, cells // width
    regions = cluster_cells(density, inside, x, y, count)

    valid = regions.any(-1)
    best = first_argmax(torch.where(regions, density[..., None, :], -1.0), -1)
    far = torch.full_like(x, height * width)
    low = [torch.where(regions, axis, far).amin(-1) for axis in (x, y)]
    high = [torch.where(regions, axis, -far).amax(-1) for axis in (x, y)]
    kept = valid[..., None]
    return PseudoPrompts(
        points=torch.stack((x[best], y[best]), -1) * kept,
        boxes=torch.stack((*low, *high), -1) * kept,
        valid=valid,
        regions=regions.unflatten(-1, (height, width)),
    )


def foreground(maps: Tensor, alpha: float, standardise: bool) -> tuple[Tensor, Tensor]:
    """Return the density of each map (..., HW) up to a factor, and the foreground cells.

    The paper's mask is softmax(M) ≥ α over space. A softmax of raw cosines is uniform but for its
    third digit, while later maps have a learned scale: standardising makes one α fit both, and
    the uniform density (α = 1) is the only level that means the same on every grid.
    """
    if standardise:
        deviation = maps.std(-1, correction=0, keepdim=True)
        maps = (maps - maps.mean(-1, keepdim=True)) / (deviation + 1e-6)
    # Without its denominator, so that a constant map is exactly 1, and inside, everywhere.
    density = (maps - maps.amax(-1, keepdim=True)).exp()
    level = density.mean(-1, keepdim=True) if standardise else density.sum(-1, keepdim=True)
    cells = torch.arange(maps.shape[-1], device=maps.device)
    # The best cell is always inside: with a high α a flat map would have no foreground.
    peak = cells == first_argmax(density, -1)[..., None]
    return density, (density >= alpha * level) | peak


def cluster_cells(density: Tensor, inside: Tensor, x: Tensor, y: Tensor, count: int) -> Tensor:
    """Cluster the cells (x, y) of each foreground (..., HW) by k-means → bool (..., count, HW).

    Deterministic: it starts at the cell of highest density and adds the farthest cell each time,
    so separate blobs get a centre each. Where there are fewer cells than clusters, a centre falls
    on an earlier one and, as ties go to the earlier, its region stays empty.
    """
    centres = _farthest_cells(density, inside, x, y, count)
    for _ in range(ITERATIONS):
        regions = _assign(inside, centres, x, y)
        size = regions.sum(-1)
        means = [(regions * axis).sum(-1) / size.clamp(min=1) for axis in (x, y)]
        centres = torch.where(size[..., None] > 0, torch.stack(means, -1), centres)
    return _assign(inside, centres, x, y)


def _farthest_cells(density: Tensor, inside: Tensor, x: Tensor, y: Tensor, count: int) -> Tensor:
    """Choose initial centres, float (..., count, 2), with integer values for exact distances."""
    chosen = [first_argmax(density, -1)]
    nearest = torch.full_like(density, torch.inf)
    for _ in range(count - 1):
        last = chosen[-1][..., None]
        nearest = torch.minimum(nearest, (x - x[last]) ** 2 + (y - y[last]) ** 2)
        chosen.append(first_argmax(torch.where(inside, nearest, -1.0), -1))
    index = torch.stack(chosen, -1)
    return torch.stack((x[index], y[index]), -1).float()


def _assign(inside: Tensor, centres: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Assign each cell inside (..., HW) to its nearest centre (..., K, 2) → bool (..., K, HW)."""
    distance = (x - centres[..., 0, None]) ** 2 + (y - centres[..., 1, None]) ** 2
    clusters = torch.arange(centres.shape[-2], device=centres.device)[:, None]
    nearest = first_argmax(-distance, -2)[..., None, :]
    return inside[..., None, :] & (nearest == clusters)


def first_argmax(values: Tensor, dim: int) -> Tensor:
    """Compute ``argmax`` with the first index of ties on every device, unlike torch's own."""
    places = torch.arange(values.shape[dim], 0, -1, device=values.device)
    places = places.view(-1, *(1 for _ in range(-1 - dim)))
    return torch.where(values == values.amax(dim, keepdim=True), places, 0).argmax(dim)
