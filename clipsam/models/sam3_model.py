"""SAM 3 on transformers' network: all instances of a short phrase, or of what boxes show.

Sources: SAM 3 (arXiv 2511.16719); SAM3-LiteText (arXiv 2602.12173), the same network with a smaller
text tower.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from types import MethodType

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import box_convert
from transformers import CLIPTokenizer, PreTrainedConfig, PreTrainedModel, Sam3Model
from transformers.models.sam3.modeling_sam3 import Sam3VisionEncoderOutput

try:
    from transformers import Sam3ImageProcessor
except ImportError:  # what transformers 5.0 calls it
    from transformers import Sam3ImageProcessorFast as Sam3ImageProcessor

from ..memory import LRUCache
from .clip import exceeds

MAX_PHRASES = 512
"""Phrases with cached features of every token: 100 MB in all."""

MAX_TOKENS = 32
"""Length to which texts are padded, as transformers' ``Sam3Processor`` does.

SAM 3's text tower reads no more. That of SAM3-LiteText could, but sees the padding.
"""


@dataclass(frozen=True)
class Sam3Answer:
    """What SAM 3 finds for one phrase.

    Attributes:
        logits: float (Q, h, w) over the square input, one mask per instance, likely or not.
        scores: float (Q,), probability of each instance.
        boxes: float (Q, 4), (x0, y0, x1, y1) as fractions of the image's width and height, possibly
            beyond its border.
        presence: probability that the image contains an instance.
        semantic: float (h, w) over the square input, the logits of the semantic head: whether a
            pixel belongs to any instance.
    """

    logits: Tensor
    scores: Tensor
    boxes: Tensor
    presence: float
    semantic: Tensor


class TextOnce(PreTrainedModel):
    """What makes a SAM 3 of transformers cache its text features.

    It does so below ``forward``, for what ``forward`` takes as ``text_embeds`` has changed within
    transformers 5: first a tensor, now an output that holds one.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self._texts: LRUCache[object] = LRUCache(MAX_PHRASES)

    def get_text_features(self, input_ids: Tensor, *args: object, **kwargs: object) -> object:
        """Encode one text as the base class does; its padding follows from its tokens."""
        compute = partial(super().get_text_features, input_ids, *args, **kwargs)
        return self._texts.get((input_ids.device, *input_ids.flatten().tolist()), compute)


class TextOnceSam3Model(TextOnce, Sam3Model):
    """SAM 3 with cached text features."""


class Sam3(nn.Module):
    """SAM 3, encoding an image once for many phrases, and a phrase once for many images."""

    def __init__(self, model: TextOnce, tokenizer: CLIPTokenizer) -> None:
        """Wrap the network.

        Args:
            model: SAM 3 without its video parts, or SAM3-LiteText.
            tokenizer: of its text tower.
        """
        super().__init__()
        self.model = model
        self._tokenizer = tokenizer
        self._processor = Sam3ImageProcessor(size={"height": self.side, "width": self.side})
        # transformers remembers a decoder's coordinates, and with them the decoder itself, for
        # good: as weights lie in one mapped file, all of it would stay in memory.
        decoder = model.detr_decoder
        decoder._get_coords = MethodType(type(decoder)._get_coords.__wrapped__, decoder)

    @property
    def side(self) -> int:
        """Side of the square to which an image is resized, pixels."""
        return self.model.config.image_size

    @property
    def mask_side(self) -> int:
        """Side of the masks' logits, that of the finest features."""
        return self._level_sides[0]

    @property
    def _level_sides(self) -> list[int]:
        """Sides of the feature maps, the finest first."""
        config = self.model.config.vision_config
        cells = self.side // config.backbone_config.patch_size
        return [int(cells * scale) for scale in config.scale_factors]

    @torch.no_grad()
    def read_image(self, image: np.ndarray) -> Tensor:
        """Encode an image, uint8 (H, W, 3), to features (N,), all levels as one tensor."""
        # A picture of few pixels does not tell by its shape which axis is colour.
        batch = self._processor(image, input_data_format="channels_last", return_tensors="pt")
        vision = self.model.get_vision_features(batch["pixel_values"].to(self.model.device))
        return torch.cat([level.flatten() for level in vision.fpn_hidden_states])

    @torch.no_grad()
    def find(self, features: Tensor, phrase: str, boxes: Tensor | None = None) -> Sam3Answer:
        """Find every instance of a phrase in the result of :meth:`read_image`.

        Scores are as transformers' ``post_process_instance_segmentation`` has them.

        Args:
            features: of the image.
            phrase: a name.
            boxes: float (K, 4), around examples of what the phrase means: (x0, y0, x1, y1) as
                fractions of the image's width and height; ``None`` without any.
        """
        batch = self._tokenizer(
            phrase,
            padding="max_length",
            truncation=True,
            max_length=self._tokens,
            return_tensors="pt",
        )
        if boxes is not None:
            batch["input_boxes"] = box_convert(boxes, "xyxy", "cxcywh")[None]
        batch = batch.to(self.model.device)
        found = self.model(vision_embeds=self._unpacked(features), **batch)
        presence = found.presence_logits[0].sigmoid()
        return Sam3Answer(
            logits=found.pred_masks[0],
            scores=found.pred_logits[0].sigmoid() * presence,
            boxes=found.pred_boxes[0],
            presence=float(presence),
            semantic=found.semantic_seg[0, 0],
        )

    def is_cut(self, phrase: str) -> bool:
        """Return whether a name is longer than what the network reads."""
        return exceeds(self._tokenizer, phrase, self._tokens)

    @property
    def _tokens(self) -> int:
        """Length to which texts are padded or cut."""
        return min(MAX_TOKENS, self.model.config.text_config.max_position_embeddings)

    def _unpacked(self, features: Tensor) -> Sam3VisionEncoderOutput:
        """Restore the features in the network's format, with positions common to all images."""
        neck = self.model.vision_encoder.neck
        channels = self.model.config.vision_config.fpn_hidden_size
        shapes = [(1, channels, side, side) for side in self._level_sides]
        parts = features.split([channels * side * side for side in self._level_sides])
        levels = [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
        return Sam3VisionEncoderOutput(
            fpn_hidden_states=tuple(levels),
            fpn_position_encoding=tuple(
                neck.position_encoding(level.shape, level.device, level.dtype) for level in levels
            ),
        )
