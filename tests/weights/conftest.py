"""Reduced-size networks in the published formats, and a stand-in hub that has them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPConfig, CLIPModel, SamModel
from transformers import SamConfig as TransformersSamConfig

from clipsam.models.sizes import ClipSizes, SamConfig
from clipsam.weights import hub as hub_module
from clipsam.weights.presets import PRESETS, Preset
from clipsam.weights.published import CLIP_EXTRAS, PublishedWeights
from tests.weights.standin_hub import Files, StandinHub

LETTERS = sorted(ByteLevel.alphabet())
MERGES = [("c", "a"), ("ca", "t</w>"), ("d", "o"), ("do", "g</w>")]
VOCABULARY = [
    *LETTERS,
    *(f"{letter}</w>" for letter in LETTERS),
    *("".join(pair) for pair in MERGES),
    "<|startoftext|>",
    "<|endoftext|>",
]
SMALL_SAM = SamConfig(
    image_size=64, embed_dim=32, depth=3, num_heads=2, global_blocks=(2,), window_size=3
)
SMALL_CLIP = ClipSizes(
    image_size=32,
    surgery_size=64,
    patch_size=8,
    projection_dim=24,
    vision_width=32,
    vision_layers=3,
    vision_heads=2,
    text_width=32,
    text_layers=2,
    text_heads=2,
    vocab_size=len(VOCABULARY),
    context_length=77,
    surgery_layers=2,
)
SMALL = replace(
    PRESETS["base"],
    name="small",
    sam=SMALL_SAM,
    clip=SMALL_CLIP,
    sam_source=PublishedWeights("someone/small-sam", 1, "MIT"),
    clip_source=PublishedWeights("someone/small-clip", 1, "MIT", CLIP_EXTRAS),
)


def transformers_sam(sizes: SamConfig, seed: int = 0) -> SamModel:
    """A SAM of random weights by transformers; its own start has almost no noise in it."""
    torch.manual_seed(seed)
    square = dict(image_size=sizes.image_size, patch_size=sizes.patch_size)
    vision = dict(
        hidden_size=sizes.embed_dim,
        num_hidden_layers=sizes.depth,
        num_attention_heads=sizes.num_heads,
        global_attn_indexes=list(sizes.global_blocks),
        window_size=sizes.window_size,
        **square,
    )
    config = TransformersSamConfig(vision_config=vision, prompt_encoder_config=square)
    sam = SamModel(config).eval().requires_grad_(False)
    for parameter in sam.parameters():
        parameter += 0.03 * torch.randn(parameter.shape)
    return sam


def transformers_clip(sizes: ClipSizes) -> CLIPModel:
    """A CLIP of random weights with the configuration as OpenAI's are published."""
    torch.manual_seed(1)
    vision = dict(
        image_size=sizes.image_size,
        patch_size=sizes.patch_size,
        hidden_size=sizes.vision_width,
        intermediate_size=4 * sizes.vision_width,
        num_hidden_layers=sizes.vision_layers,
        num_attention_heads=sizes.vision_heads,
    )
    text = dict(
        vocab_size=sizes.vocab_size,
        hidden_size=sizes.text_width,
        intermediate_size=4 * sizes.text_width,
        num_hidden_layers=sizes.text_layers,
        num_attention_heads=sizes.text_heads,
        max_position_embeddings=sizes.context_length,
        # OpenAI's files give these three wrongly, and transformers then looks for the largest id.
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
    )
    config = CLIPConfig(projection_dim=sizes.projection_dim, vision_config=vision, text_config=text)
    clip = CLIPModel(config).eval().requires_grad_(False)
    for parameter in clip.parameters():
        parameter += 0.02 * torch.randn(parameter.shape)
    return clip


def save_tokenizer(folder: Path) -> None:
    """``vocab.json`` and ``merges.txt`` as published."""
    vocabulary = {token: index for index, token in enumerate(VOCABULARY)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in MERGES)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def repositories(tmp_path_factory) -> Path:
    """A folder ``owner/name/…`` with a small SAM and a small CLIP, saved by transformers."""
    folder = tmp_path_factory.mktemp("repositories")
    transformers_sam(SMALL_SAM).save_pretrained(folder / SMALL.sam_source.repo)
    clip_folder = folder / SMALL.clip_source.repo
    transformers_clip(SMALL_CLIP).save_pretrained(clip_folder)
    save_tokenizer(clip_folder)
    return folder


@pytest.fixture
def small() -> Preset:
    """The preset of those two."""
    return SMALL


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty home of the hub's cache, without network: nothing answers at its endpoint."""
    home = tmp_path / "huggingface"
    monkeypatch.setattr(constants, "HF_HOME", str(home))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    point_at("http://127.0.0.1:9", monkeypatch)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(hub_module, "SPARE", 0)
    return home / "hub"


@pytest.fixture
def hub(repositories, cache, monkeypatch) -> Iterator[StandinHub]:
    """A hub that has the two, and is asked instead of the real one."""
    files: Files = {
        repo: {path.name: path.read_bytes() for path in (repositories / repo).iterdir()}
        for repo in (SMALL.sam_source.repo, SMALL.clip_source.repo)
    }
    server = StandinHub(files)
    point_at(server.endpoint, monkeypatch)
    yield server
    server.close()


def point_at(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT does, which is read once when the library is imported."""
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
