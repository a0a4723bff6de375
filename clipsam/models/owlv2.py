"""OWLv2 (arXiv 2306.09683) on transformers' classes: boxes for a text."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import box_convert
from transformers import BatchEncoding, CLIPTokenizer, Owlv2ForObjectDetection, Owlv2ImageProcessor

from ..geometry import SquareTransform
from .clip import exceeds

TEMPLATE = "a photo of a {}"
"""Prompt template, as in transformers' documentation and OWL-ViT's training.

The authors' evaluation averages logits over seven others, at seven times the price.
"""

LONGEST_SIDE = 4096
"""Long side above which an image is reduced before the published preparation, pixels.

That lays the image in a square and blurs it in floating point, which takes 3 GB already here.
"""


class Owlv2(nn.Module):
    """The detector with the preparation of its input: one run per image, a small one per name."""

    def __init__(
        self,
        model: Owlv2ForObjectDetection,
        tokenizer: CLIPTokenizer,
        image_processor: Owlv2ImageProcessor,
    ) -> None:
        """Wrap the network.

        Args:
            model: the network.
            tokenizer: CLIP's, which fills up with the network's own padding.
            image_processor: size and normalisation as published.
        """
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.image_processor = image_processor

    def tokens(self, name: str) -> BatchEncoding:
        """Tokenise a name in :data:`TEMPLATE` to ``input_ids`` and ``attention_mask`` (1, L)."""
        return self.tokenizer(
            TEMPLATE.format(name),
            padding="max_length",
            truncation=True,
            max_length=self.model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        )

    def is_cut(self, name: str) -> bool:
        """Return whether a name is longer than what the network reads."""
        limit = self.model.config.text_config.max_position_embeddings
        return exceeds(self.tokenizer, TEMPLATE.format(name), limit)

    def features(self, image: np.ndarray) -> Tensor:
        """Encode an image, uint8 (H, W, 3), to (1, h, w, D) over its square."""
        if max(image.shape[:2]) > LONGEST_SIDE:
            image = SquareTransform(image.shape[:2], LONGEST_SIDE).image(image)
        # The format is not left to be guessed: an image of three rows looks like three channels.
        pixels = self.image_processor(
            image, input_data_format="channels_last", return_tensors="pt"
        )["pixel_values"]
        return self.model.image_embedder(pixels.to(self.model.device))[0]

    def detect(self, features: Tensor, name: str, size: tuple[int, int]) -> Tensor:
        """Detect texts in each cell.

        Args:
            features: of :meth:`features`.
            name: one class.
            size: (height, width) of the image, pixels.

        Returns:
            float (h · w, 5) on the network's device: score in [0, 1], and (x0, y0, x1, y1) in
            pixels of the image, beyond whose rim they may reach.
        """
        tokens = self.tokens(name).to(self.model.device)
        text = self.model.owlv2.text_projection(self.model.owlv2.text_model(**tokens)[1])
        cells = features.flatten(1, 2)
        scores = self.model.class_predictor(cells, text[None])[0][0].sigmoid()
        boxes = self.model.box_predictor(cells, features)[0]
        # Boxes are relative to the square, of which the image is the upper left part.
        return torch.cat((scores, box_convert(boxes, "cxcywh", "xyxy") * max(size)), dim=1)
