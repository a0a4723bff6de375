"""CLIP's tokens from its published vocabulary."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import pytest
from open_clip.tokenizer import SimpleTokenizer
from transformers import CLIPTokenizer

from clipsam.models.clip import PROMPT_TEMPLATES
from clipsam.weights.local_files import LocalFiles
from clipsam.weights.presets import CLIP_B16
from clipsam.weights.pretrained import read_clip_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    """Read from files as the hub has them, made of the vocabulary that open_clip ships."""
    folder = tmp_path_factory.mktemp("clip")
    known = SimpleTokenizer()
    files = {name: folder / name for name in ("vocab.json", "merges.txt")}
    renamed = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {renamed.get(token, token): index for token, index in known.encoder.items()}
    files["vocab.json"].write_text(json.dumps(vocabulary))
    merges = [" ".join(pair) for pair in known.bpe_ranks]
    files["merges.txt"].write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    return read_clip_tokenizer(LocalFiles(Path("unused"), files), CLIP_B16)


def tokens(tokenizer: CLIPTokenizer, texts: list[str]) -> list[list[int]]:
    """From start to end, without padding."""
    return tokenizer(texts)["input_ids"]


def unpadded(rows) -> list[list[int]]:
    """OpenAI pads with 0, which no text of the reference ends with."""
    return [row[: row.nonzero().max() + 1].tolist() for row in rows]


def test_words(golden, tokenizer):
    reference = golden("clip_tokens")
    assert tokens(tokenizer, reference.config["words"]) == unpadded(reference.outputs["words"])


def test_templates(golden, tokenizer):
    expected = unpadded(golden("clip_tokens").outputs["templates_empty"])
    found = tokens(tokenizer, [template.format("") for template in PROMPT_TEMPLATES])
    assert len(found) == 85
    assert found == expected


def test_other_texts_as_open_clip(tokenizer):
    texts = ["naïve façade", "  Two   spaces\tand TABS ", "日本語", "x" * 30, "it's 50% off!", "🙂"]
    assert tokens(tokenizer, texts) == unpadded(open_clip.tokenize(texts))
