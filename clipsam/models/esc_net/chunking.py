"""How many classes ESC-Net takes at a time, so that it stays within a memory budget.

Estimates from the sizes of the network's tensors, in float32; from some ten classes on, measured
peaks are within a factor of 2 of them. What does not grow with the classes is left out: about 50 MB
beside the weights.
"""

from __future__ import annotations

from ..sam_model import PROMPT_DIM
from .config import EscNetConfig

MOST_MAPS = 32
"""Maps (images × classes) at a time, however large the budget: on a CPU more are not faster, and
where memory is no concern every such machine takes the same chunks."""

MOST_MAPS_ON_GPU = 256
"""There many small chunks leave it idle; this many fill any (reckoned, not measured)."""

SLACK = 2
"""Convolutions copy what they read into another layout, which takes half as much again; and beside
the tensors in use an allocator holds freed ones of other sizes. Measured: 1.5 to 2.5."""

BYTES = 4


def classes_at_a_time(
    config: EscNetConfig,
    grid: int,
    images: int,
    classes: int,
    budget: int,
    most: int = MOST_MAPS,
) -> int:
    """The largest chunk with which a forward pass stays within the budget, as far as one can.

    Args:
        config: of the network.
        grid: side of CLIP's grid, cells.
        images: in the batch.
        classes: N_c.
        budget: bytes beside the weights; below what all classes keep, one is taken at a time.
        most: maps (images × classes) at a time, however large the budget.

    Returns:
        At least 1, at most ``classes`` and ``most`` / ``images``.
    """
    left = budget - images * classes * kept_bytes(config, grid)
    fitting = left // (images * working_bytes(config, grid))
    return max(1, min(fitting, most // images, classes))


def kept_bytes(config: EscNetConfig, grid: int) -> int:
    """What one class of one image holds from the first block to the answer."""
    seen = BYTES
    if config.use_sam:
        seen += config.num_points  # the regions, a byte per cell each
    # E, M⁰, M^{k-1} and M^k; what each block saw; logits, of chunks and put together.
    per_cell = BYTES * (config.hidden + 3) + config.blocks * seen + 2 * BYTES * 16
    return per_cell * grid**2


def working_bytes(config: EscNetConfig, grid: int) -> int:
    """What one class of one image needs in passing, at the step that needs most."""
    # The MLP of a Swin block: its hidden layer twice, the state and what it is made from.
    fusion = 15 * config.hidden
    # Keys, projected for both attentions, attended and normalised.
    sam = 7 * PROMPT_DIM if config.use_sam else 0
    # The last convolutions at 4h × 4w: 64 channels enlarged, and twice 32 made of them.
    decoder = 16 * (64 + 2 * 32)
    return SLACK * BYTES * max(fusion, sam, decoder) * grid**2
