"""Configuration of ESC-Net: sizes, and a switch for every ablation of the paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PromptKind = Literal["point", "box", "mask"]


@dataclass(frozen=True)
class EscNetConfig:
    """ESC-Net on one CLIP; the defaults are the paper's network on CLIP ViT-L/14.

    Attributes:
        image_size: side of CLIP's square input, pixels.
        skip_layers: vision layers whose outputs the decoder sees, counted from 1; the first is
            read at twice CLIP's grid, the second at four times.
        surgery_layers: last vision layers read with CLIP Surgery (arXiv 2304.05653); 0 reads CLIP
            as CAT-Seg does.
        template: a class's text; CAT-Seg's only prompt, without a period.
        window: side of a Swin window, cells; divides the grid.
        blocks: N, ESC-Net blocks. With 0 the decoder reads the embedded correlation.
        hidden: channels of a class's state E.
        num_points: N_o, clusters and so pseudo prompts per class.
        alpha: a cell is foreground where its density is at least this many times the uniform
            one; without ``standardise``, where its probability is at least this.
        standardise: bring each map to mean 0 and deviation 1 before the spatial softmax.
        use_sam: image features see the classes through SAM. Without, this is CAT-Seg with another
            class attention and decoder.
        pretrained_sam: start from a SAM checkpoint, not from random weights.
        prompts: the kinds of SAM prompts made from the pseudo masks.
        fuse: how the classes' image features become one: weighted by the map, or their ``mean``.
    """

    image_size: int = 336
    skip_layers: tuple[int, int] = (8, 16)
    surgery_layers: int = 0
    template: str = "A photo of a {} in the scene"
    window: int = 12
    blocks: int = 4
    hidden: int = 128
    num_points: int = 5
    alpha: float = 1.0
    standardise: bool = True
    use_sam: bool = True
    pretrained_sam: bool = True
    prompts: tuple[PromptKind, ...] = ("point", "mask")
    fuse: Literal["softmax", "mean"] = "softmax"

    def __post_init__(self) -> None:
        unknown = set(self.prompts) - {"point", "box", "mask"}
        if unknown:
            raise ValueError(
                f"prompts must be among point, box and mask, got {', '.join(sorted(unknown))}"
            )
        if self.fuse not in ("softmax", "mean"):
            raise ValueError(f"fuse must be softmax or mean, got {self.fuse}")
        if self.blocks < 0 or self.num_points < 1:
            raise ValueError(
                f"blocks must be at least 0 and num_points at least 1, got {self.blocks} and "
                f"{self.num_points}"
            )

    def grid(self, patch_size: int) -> int:
        """Return the side of CLIP's grid, cells.

        Raises:
            ValueError: it does not fit the image, or the windows do not fit it.
        """
        cells, rest = divmod(self.image_size, patch_size)
        if rest or cells % self.window:
            raise ValueError(
                f"image_size must be a multiple of patch × window = {patch_size} × {self.window}, "
                f"got {self.image_size}"
            )
        return cells

    @classmethod
    def from_json(cls, content: dict) -> EscNetConfig:
        """Restore a configuration from the JSON of ``dataclasses.asdict``."""
        tuples = {name: tuple(content[name]) for name in ("skip_layers", "prompts")}
        return cls(**{**content, **tuples})
