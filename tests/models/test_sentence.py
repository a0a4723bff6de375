"""The sentence encoder as a text tower, against transformers' BERT."""

from __future__ import annotations

import torch
from transformers import BertConfig, BertModel

from clipsam.models.sentence import SentenceEncoder


def test_mean_of_words_without_padding():
    torch.manual_seed(0)
    encoder = SentenceEncoder(50, width=24, layers=2, heads=3, context_length=12).eval()
    config = BertConfig(
        vocab_size=50,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=96,
        max_position_embeddings=12,
    )
    bert = BertModel(config, add_pooling_layer=False).eval()
    bert.load_state_dict(encoder.bert.state_dict())
    short = torch.tensor([[5, 9, 7]])
    with torch.no_grad():
        words = bert(input_ids=short).last_hidden_state[0]
        expected = words.mean(0) / words.mean(0).norm()
        batch = torch.tensor([[5, 9, 7, 0, 0], [3, 4, 8, 11, 2]])
        found = encoder(input_ids=batch).pooler_output
    torch.testing.assert_close(found[0], expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(2))
