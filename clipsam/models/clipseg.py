"""CLIPSeg on transformers' network: a map of a named class.

Source: CLIPSeg (arXiv 2112.10003).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from transformers import CLIPSegForImageSegmentation, CLIPTokenizer, ViTImageProcessor

from ..memory import MAX_CACHED_TEXTS, LRUCache
from .clip import exceeds


class ClipSeg(nn.Module):
    """CLIPSeg with cached names, encoding an image once for many classes."""

    def __init__(
        self,
        model: CLIPSegForImageSegmentation,
        tokenizer: CLIPTokenizer,
        processor: ViTImageProcessor,
    ) -> None:
        """Wrap the network.

        Args:
            model: the network.
            tokenizer: of its text tower.
            processor: resizes an image to the square input of the network.
        """
        super().__init__()
        self.model = model
        self._tokenizer = tokenizer
        self._processor = processor
        self._texts: LRUCache[Tensor] = LRUCache(MAX_CACHED_TEXTS)

    @torch.no_grad()
    def read_image(self, image: np.ndarray) -> Tensor:
        """Encode an image, uint8 (H, W, 3), to the decoder's activations (L, 1 + N, D)."""
        # A picture of few pixels does not tell by its shape which axis is colour.
        batch = self._processor(image, input_data_format="channels_last", return_tensors="pt")
        vision = self.model.clip.vision_model(
            batch["pixel_values"].to(self.model.device), output_hidden_states=True
        )
        # The first state is what enters the first layer.
        return torch.cat([vision.hidden_states[1 + layer] for layer in self.model.extract_layers])

    @torch.no_grad()
    def read_text(self, name: str) -> Tensor:
        """Encode a name without template to a condition (T,), cached."""

        def compute() -> Tensor:
            batch = self._tokenizer(
                name,
                truncation=True,
                max_length=self.model.config.text_config.max_position_embeddings,
                return_tensors="pt",
            ).to(self.model.device)
            return self.model.get_conditional_embeddings(batch_size=1, **batch)[0]

        return self._texts.get(name, compute).to(self.model.device)

    def is_cut(self, name: str) -> bool:
        """Return whether a name is longer than what the network reads."""
        limit = self.model.config.text_config.max_position_embeddings
        return exceeds(self._tokenizer, name, limit)

    @torch.no_grad()
    def logits(self, activations: Tensor, texts: Tensor) -> Tensor:
        """Decode activations of one image and conditions (B, T) to logits (B, S, S)."""
        states = [layer.expand(len(texts), -1, -1) for layer in activations]
        return self.model.decoder(states, texts).logits
