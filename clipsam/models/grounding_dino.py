"""Grounding DINO (arXiv 2303.05499) on transformers' classes: boxes for a phrase."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import box_convert
from transformers import (
    BatchEncoding,
    BertTokenizer,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
)

from .clip import exceeds

MAX_ASPECT_RATIO = 32
"""Largest ratio of an image's long to its short side; beyond it, the image is padded.

The detector's queries start from different cells of its feature maps: of a more slender image the
published one would have fewer cells than its 900 queries.
"""


class GroundingDino(nn.Module):
    """The detector with the preparation of its input.

    Its layers mix image and text from the encoder on, so every phrase takes a run of its own.
    """

    def __init__(
        self,
        model: GroundingDinoForObjectDetection,
        tokenizer: BertTokenizer,
        image_processor: GroundingDinoImageProcessor,
    ) -> None:
        """Wrap the network.

        Args:
            model: the network.
            tokenizer: uncased BERT's.
            image_processor: sizes and normalisation as published.
        """
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.image_processor = image_processor

    def tokens(self, phrase: str) -> BatchEncoding:
        """Tokenise a phrase to ``input_ids``, ``token_type_ids`` and ``attention_mask`` (1, L)."""
        return self.tokenizer(
            caption(phrase),
            truncation=True,
            max_length=self.model.config.max_text_len,
            return_tensors="pt",
        )

    def is_cut(self, phrase: str) -> bool:
        """Return whether a name is longer than what the network reads."""
        return exceeds(self.tokenizer, caption(phrase), self.model.config.max_text_len)

    def detect(self, image: np.ndarray, phrase: str) -> Tensor:
        """Detect a phrase with each query.

        Args:
            image: uint8 (H, W, 3).
            phrase: one class.

        Returns:
            float (queries, 5) on the network's device: score in [0, 1], the highest of the text's
            tokens as in the authors' inference and in transformers', and (x0, y0, x1, y1) in
            pixels of the image, beyond whose rim they may reach.
        """
        image = pad_slender(image)
        # The format is not left to be guessed: an image of three rows looks like three channels.
        pixels = self.image_processor(
            image, input_data_format="channels_last", return_tensors="pt"
        ).to(self.model.device)
        output = self.model(**pixels, **self.tokens(phrase).to(self.model.device))
        scores = output.logits[0].sigmoid().amax(dim=1, keepdim=True)
        height, width = image.shape[:2]
        boxes = box_convert(output.pred_boxes[0], "cxcywh", "xyxy")
        scale = torch.tensor([width, height, width, height], device=boxes.device)
        return torch.cat((scores, boxes * scale), dim=1)


def caption(phrase: str) -> str:
    """Format a phrase as the authors' code does: lower case, with a full stop."""
    text = phrase.lower().strip()
    return text if text.endswith(".") else f"{text}."


def pad_slender(image: np.ndarray) -> np.ndarray:
    """Pad an image, uint8 (H, W, 3), with black if beyond :data:`MAX_ASPECT_RATIO`."""
    height, width = image.shape[:2]
    below = max(0, -(-width // MAX_ASPECT_RATIO) - height)
    right = max(0, -(-height // MAX_ASPECT_RATIO) - width)
    return np.pad(image, ((0, below), (0, right), (0, 0)))
