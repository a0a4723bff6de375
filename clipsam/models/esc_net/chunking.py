"""Number of classes that ESC-Net processes at a time within a memory budget.

Estimates from the sizes of the network's tensors, in float32; from some ten classes on, measured
peaks are within a factor of 2 of them. What does not grow with the classes is left out: about 50 MB
in addition to the weights.
"""

from __future__ import annotations

from ..sam_model import PROMPT_DIM
from .config import EscNetConfig

MAX_MAPS = 32
"""Largest number of maps (images × classes) at a time on a CPU.

More are not faster, and with enough memory all machines use the same chunks.
"""

MAX_MAPS_ON_GPU = 256
"""Largest number of maps at a time on a GPU, enough to saturate any (estimated, not measured)."""

SLACK = 2
"""Safety factor for memory that the estimate misses; measured: 1.5 to 2.5.

Convolutions copy their input to another layout, half as much again, and the allocator holds freed
tensors of other sizes.
"""

BYTES = 4


def classes_at_a_time(
    config: EscNetConfig,
    grid: int,
    images: int,
    classes: int,
    budget: int,
    most: int = MAX_MAPS,
) -> int:
    """Return the largest chunk whose forward pass stays within the budget, as far as possible.

    Args:
        config: of the network.
        grid: side of CLIP's grid, cells.
        images: in the batch.
        classes: N_c.
        budget: bytes in addition to the weights; if it is too small, one class is taken at a time.
        most: maps (images × classes) at a time, however large the budget.

    Returns:
        At least 1, at most ``classes`` and ``most`` / ``images``.
    """
    left = budget - images * classes * kept_bytes(config, grid)
    fitting = left // (images * working_bytes(config, grid))
    return max(1, min(fitting, most // images, classes))


def kept_bytes(config: EscNetConfig, grid: int) -> int:
    """Return the bytes held per class and image from the first block to the result."""
    seen = BYTES
    if config.use_sam:
        seen += config.num_points  # the regions, a byte per cell each
    # E, M⁰, M^{k-1} and M^k; what each block saw; logits, of chunks and put together.
    per_cell = BYTES * (config.hidden + 3) + config.blocks * seen + 2 * BYTES * 16
    return per_cell * grid**2


def working_bytes(config: EscNetConfig, grid: int) -> int:
    """Return the temporary bytes per class and image at the most expensive step."""
    # The MLP of a Swin block: its hidden layer twice, the state and what it is made from.
    fusion = 15 * config.hidden
    # Keys, projected for both attentions, attended and normalised.
    sam = 7 * PROMPT_DIM if config.use_sam else 0
    # The last convolutions at 4h × 4w: 64 channels enlarged, and twice 32 made of them.
    decoder = 16 * (64 + 2 * 32)
    return SLACK * BYTES * max(fusion, sam, decoder) * grid**2
