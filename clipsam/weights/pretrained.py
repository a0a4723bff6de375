"""Published networks, read from files and compared with what a preset expects of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tokenizers.models import BPE
from torch import Tensor
from transformers import CLIPConfig, CLIPTokenizer

from ..models.clip import ClipSizes, build_clip
from ..models.sam import SamConfig, build_sam
from .bundle import WeightsError, check_fit
from .convert import clip_from_transformers, sam_from_transformers
from .files import read_state

START, END = "<|startoftext|>", "<|endoftext|>"


@dataclass(frozen=True)
class LocalFiles:
    """One published network on this machine.

    Attributes:
        weights: safetensors or a PyTorch file.
        extras: its other files, by their published names.
    """

    weights: Path
    extras: Mapping[str, Path] = field(default_factory=dict)


def read_sam(files: LocalFiles, config: SamConfig) -> dict[str, Tensor]:
    """SAM's weights by Meta's names, from a file in Meta's or transformers' naming.

    Raises:
        WeightsError: they are damaged, or another SAM's.
    """
    with torch.device("meta"):
        sam = build_sam(config)
    state = read_state(files.weights)
    if not any(name.startswith("image_encoder.") for name in state):
        state = sam_from_transformers(state, sam.state_dict())
    check_fit(sam, state, str(files.weights), whole=True)
    return state


def read_clip(files: LocalFiles, sizes: ClipSizes) -> dict[str, Tensor]:
    """CLIP's weights by transformers' names.

    Raises:
        WeightsError: they are damaged, or another CLIP's.
    """
    with torch.device("meta"):
        clip = build_clip(sizes)
    _check_clip_config(files.extras["config.json"], clip.config)
    state = clip_from_transformers(read_state(files.weights))
    check_fit(clip, state, str(files.weights), whole=True)
    return state


def read_clip_tokenizer(files: LocalFiles, sizes: ClipSizes) -> CLIPTokenizer:
    """CLIP's tokenizer from its published vocabulary and merges.

    Raises:
        WeightsError: they are damaged, or do not fit the text tower.
    """
    path, merges = files.extras["vocab.json"], files.extras["merges.txt"]
    try:
        vocabulary, pairs = BPE.read_file(str(path), str(merges))
    except Exception as error:  # the class that tokenizers raises
        raise WeightsError(f"{path} and {merges.name} should be a vocabulary ({error})") from None
    expected = {START: sizes.vocab_size - 2, END: sizes.vocab_size - 1}
    found = {token: vocabulary.get(token) for token in expected}
    if len(vocabulary) != sizes.vocab_size or found != expected:
        raise WeightsError(
            f"{path} should hold {sizes.vocab_size:,} tokens of which the last are {START} and "
            f"{END}, but holds {len(vocabulary):,}, and these as {found[START]} and {found[END]}"
        )
    return CLIPTokenizer(vocab=vocabulary, merges=pairs)


def _check_clip_config(path: Path, expected: CLIPConfig) -> None:
    """Raises WeightsError: what the shapes of weights do not show is not as we compute it."""
    try:
        found = CLIPConfig.from_dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"{path} should be CLIP's configuration ({error})") from None
    for part in ("text_config", "vision_config"):
        for name in ("num_attention_heads", "hidden_act"):
            wanted = getattr(getattr(expected, part), name)
            given = getattr(getattr(found, part), name)
            if given != wanted:
                raise WeightsError(f"{path}: {part}.{name} should be {wanted}, is {given}")
