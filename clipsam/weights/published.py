"""What is published where, and in which files."""

from __future__ import annotations

from dataclasses import dataclass

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Files that may hold a repository's weights in transformers' naming, the first is preferred.

Not every repository has the safe format; the other is only ever read as tensors, never as code.
"""


@dataclass(frozen=True)
class Published:
    """One published network.

    Attributes:
        repo: on the hub, ``owner/name``; holds one of :data:`WEIGHTS`.
        extras: what is needed besides the weights: file names in the repository.
        checkpoint: the authors' own file, which may take the place of the repository's weights;
            the part of its name after the last ``_`` is the start of its SHA-256.
    """

    repo: str
    extras: tuple[str, ...] = ()
    checkpoint: str | None = None


CLIP_EXTRAS = ("config.json", "vocab.json", "merges.txt")

SAM_VIT_B, SAM_VIT_L, SAM_VIT_H = (
    Published(f"facebook/sam-vit-{size}", checkpoint=checkpoint)
    for size, checkpoint in (
        ("base", "sam_vit_b_01ec64.pth"),
        ("large", "sam_vit_l_0b3195.pth"),
        ("huge", "sam_vit_h_4b8939.pth"),
    )
)
CLIP_VIT_B16 = Published("openai/clip-vit-base-patch16", CLIP_EXTRAS)
CLIP_VIT_L14_336 = Published("openai/clip-vit-large-patch14-336", CLIP_EXTRAS)
