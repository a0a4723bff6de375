"""SAM 2.1 (arXiv 2408.00714) on single images, alone or instead of a pipeline's SAM."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from clipsam.encoded_image import EncodedImage
from clipsam.geometry import SquareTransform, normalize
from clipsam.models.sam2_model import STRIDE, Sam2Image, decode_masks, embed
from clipsam.registry import METHODS
from clipsam.weights.backbones import Backbones
from clipsam.weights.presets import IMAGENET_MEAN, IMAGENET_STD

from .prompted_sam import SamPrompter
from .sam import SamPredictor


class Sam2Prompter(SamPrompter):
    """Mixin that replaces SAM by SAM 2.1; precedes a pipeline among the bases of a class."""

    def __init__(self, backbones: Backbones, *given: object) -> None:
        """Fetch SAM 2.1.

        Args:
            backbones: the preset's networks.
            given: the pipeline's other arguments.
        """
        super().__init__(backbones, *given)
        self.sam2: Sam2Image = backbones.extra_network(backbones.preset.sam2_source, self.info.id)

    @property
    def _sam(self) -> nn.Module:
        return self.sam2

    @property
    def _mask_side(self) -> int:
        return self.sam2.config.mask_side

    def _transform(self, encoded: EncodedImage) -> SquareTransform:
        """Return the resizing to a square, as in SAM 2."""
        return SquareTransform(encoded.size, self.sam2.config.image_size, "squash", direct=True)

    @torch.no_grad()
    def _embed(self, encoded: EncodedImage) -> tuple[Tensor, Tensor, Tensor]:
        """Embed the image, see :func:`~clipsam.models.sam2_model.embed`."""
        side = self.sam2.config.image_size
        shapes = ((256, side // STRIDE), (32, side // 4), (64, side // 8))

        def compute() -> Tensor:
            square = torch.from_numpy(self._transform(encoded).image(encoded.image))
            pixels = normalize(square.permute(2, 0, 1)[None], IMAGENET_MEAN, IMAGENET_STD)
            maps = embed(self.sam2, pixels.to(self.backbones.device))
            return torch.cat([one.flatten() for one in maps])

        # A scene remembers one tensor under one name.
        packed = encoded.cached(("sam 2", self.backbones.preset.sam2_source), compute)
        parts = packed.split([channels * cells**2 for channels, cells in shapes])
        return tuple(
            part.view(1, channels, cells, cells)
            for part, (channels, cells) in zip(parts, shapes, strict=True)
        )

    def _decode_masks(
        self,
        embedding: Any,
        points: tuple[Tensor, Tensor] | None,
        boxes: Tensor | None,
        dense: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Decode masks from the result of :meth:`_embed`."""
        image, *finer = embedding
        return decode_masks(self.sam2, image, finer, points, boxes, dense)


class Sam2Predictor(Sam2Prompter, SamPredictor):
    """SAM 2.1; one point selects the best of three candidates, more points or a box one mask."""

    info = METHODS["sam2"]
