"""A sentence encoder as CLIP's text tower: bidirectional, its words averaged."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertConfig, BertModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

PADDING = 0
"""Id of the token that fills up a batch."""


class SentenceEncoder(nn.Module):
    """MiniLM's form (arXiv 2002.10957, as in Sentence-BERT, arXiv 1908.10084) as a text tower.

    BERT whose tokens are averaged and brought to unit length. Called as CLIP's own text tower is.
    """

    def __init__(
        self, vocab_size: int, width: int, layers: int, heads: int, context_length: int
    ) -> None:
        super().__init__()
        config = BertConfig(
            vocab_size=vocab_size,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * width,
            max_position_embeddings=context_length,
            pad_token_id=PADDING,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.bert = BertModel(config, add_pooling_layer=False)

    def forward(self, input_ids: Tensor) -> BaseModelOutputWithPooling:
        """Ids (B, N), padded with 0 → ``pooler_output``, unit-norm (B, width)."""
        mask = input_ids != PADDING
        hidden = self.bert(input_ids=input_ids, attention_mask=mask.long()).last_hidden_state
        weights = mask[..., None].to(hidden.dtype)
        pooled = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
        return BaseModelOutputWithPooling(hidden, F.normalize(pooled, dim=-1))
