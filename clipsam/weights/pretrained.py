"""Published networks, read from files and validated against a preset."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from tokenizers.models import BPE
from torch import Tensor
from transformers import (
    CLIPConfig,
    CLIPTokenizer,
    Sam2HieraDetConfig,
    Sam2MaskDecoderConfig,
    Sam2PromptEncoderConfig,
    Sam2VisionConfig,
)

from ..models.clip import build_clip
from ..models.sam2_model import STRIDE, Sam2Config, Sam2Image, build_sam2
from ..models.sam_model import build_sam
from ..models.sizes import ClipSizes, SamConfig
from .bundle import WeightsError, check_fit, load_into
from .convert import clip_from_transformers, sam2_from_transformers, sam_from_transformers
from .files import read_state
from .local_files import LocalFiles

START, END = "<|startoftext|>", "<|endoftext|>"

_UNREADABLE = (OSError, ValueError, TypeError)
"""Errors raised for a configuration that is missing, not JSON, or of another kind."""

_SAM2_KINDS = ("sam2_video", "sam2")
"""Accepted model types; the published ones are the video models."""

_SAM2_FIXED = {
    "backbone_config": (
        "model_type",
        "patch_stride",
        "patch_padding",
        "query_stride",
        "num_query_pool_stages",
        "hidden_act",
        "layer_norm_eps",
    ),
    "vision_config": ("fpn_stride", "fpn_padding", "fpn_top_down_levels", "num_feature_levels"),
    "prompt_encoder_config": ("patch_size", "hidden_act", "layer_norm_eps"),
    "mask_decoder_config": (
        "num_attention_heads",
        "dynamic_multimask_via_stability",
        "dynamic_multimask_stability_delta",
        "dynamic_multimask_stability_thresh",
    ),
}
"""Settings common to all published SAM 2s that the shapes of weights do not show."""


def read_sam(files: LocalFiles, config: SamConfig) -> dict[str, Tensor]:
    """Read SAM's weights by Meta's names, from a file in Meta's or transformers' naming.

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


def read_sam2(files: LocalFiles) -> Sam2Image:
    """Read SAM 2.1 without its video parts, frozen and in evaluation mode.

    Args:
        files: weights in transformers' naming, and their ``config.json``.

    Raises:
        WeightsError: they are damaged, another network's, or do not fit each other.
    """
    network = build_sam2(read_sam2_config(files.extras["config.json"]))
    state = sam2_from_transformers(read_state(files.weights))
    load_into(network, state, str(files.weights), whole=True)
    return network.eval().requires_grad_(False)


def read_sam2_config(path: Path) -> Sam2Config:
    """Read the sizes of a SAM 2.1 from a ``config.json`` of transformers.

    A part that the file leaves out is as transformers has it by default: Hiera-T's.

    Raises:
        WeightsError: it is damaged, another network's, or of a SAM 2 that is not as published.
    """
    try:
        return _sam2_config(path, json.loads(path.read_text(encoding="utf-8")))
    except WeightsError:
        raise
    except (*_UNREADABLE, AttributeError, LookupError, StrictDataclassError) as error:
        raise WeightsError(f"{path} is not a configuration of SAM 2 ({error})") from None


def _sam2_config(path: Path, content: dict) -> Sam2Config:
    """Convert JSON content to sizes.

    Raises:
        WeightsError: a setting differs from our implementation; others: see the caller.
    """
    if content.get("model_type") not in _SAM2_KINDS:
        kinds = " or ".join(_SAM2_KINDS)
        raise WeightsError(f"{path}: expected model_type {kinds}, got {content.get('model_type')}")
    vision = content.get("vision_config") or {}
    backbone = Sam2HieraDetConfig.from_dict(vision.get("backbone_config") or {})
    prompts = Sam2PromptEncoderConfig.from_dict(content.get("prompt_encoder_config") or {})
    parts = {
        "backbone_config": backbone,
        "vision_config": Sam2VisionConfig.from_dict({**vision, "backbone_config": None}),
        "prompt_encoder_config": prompts,
        "mask_decoder_config": Sam2MaskDecoderConfig.from_dict(
            content.get("mask_decoder_config") or {}
        ),
    }
    config = Sam2Config(
        image_size=prompts.image_size,
        embed_dim=backbone.hidden_size,
        num_heads=backbone.num_attention_heads_per_stage[0],
        stages=tuple(backbone.blocks_per_stage),
        global_att_blocks=tuple(backbone.global_attention_blocks),
        window_spec=tuple(backbone.window_size_per_stage),
        window_pos_embed_bkg_spatial_size=tuple(
            backbone.window_positional_embedding_background_size
        ),
    )
    wanted = {
        (part, name): getattr(type(parts[part])(), name)
        for part, names in _SAM2_FIXED.items()
        for name in names
    }
    heads = [config.num_heads * 2**stage for stage in range(4)]
    wanted["backbone_config", "num_attention_heads_per_stage"] = heads
    sides = (config.image_size // stride for stride in (4, 8, STRIDE))
    wanted["vision_config", "backbone_feature_sizes"] = [[side, side] for side in sides]
    for (part, name), value in wanted.items():
        _expect(path, f"{part}.{name}", value, getattr(parts[part], name))
    for name in ("blocks_per_stage", "window_size_per_stage"):
        _expect(path, f"number of backbone_config.{name}", 4, len(getattr(backbone, name)))
    return config


def read_clip(files: LocalFiles, sizes: ClipSizes) -> dict[str, Tensor]:
    """Read CLIP's weights by transformers' names.

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
    """Read CLIP's tokenizer from its published vocabulary and merges.

    Raises:
        WeightsError: they are damaged, or do not fit the text tower.
    """
    return read_bpe_tokenizer(
        files.extras["vocab.json"], files.extras["merges.txt"], sizes.vocab_size
    )


def read_bpe_tokenizer(path: Path, merges: Path, size: int) -> CLIPTokenizer:
    """Read the byte-pair tokenizer of CLIP and of networks with its text tower.

    Args:
        path: ``vocab.json``.
        merges: ``merges.txt``.
        size: tokens that the text tower knows; the last two are start and end.

    Raises:
        WeightsError: they are damaged, or do not fit the text tower.
    """
    try:
        vocabulary, pairs = BPE.read_file(str(path), str(merges))
    except Exception as error:  # the class that tokenizers raises
        raise WeightsError(f"{path} and {merges.name} are not a vocabulary ({error})") from None
    return _bpe_tokenizer(vocabulary, pairs, size, path, str(merges))


def read_tokenizer_json(path: Path, size: int) -> CLIPTokenizer:
    """Read the same from ``tokenizer.json``, as transformers 5 saves it.

    Raises:
        WeightsError: it is damaged, or does not fit a text tower that knows ``size`` tokens.
    """
    try:
        model = json.loads(path.read_text(encoding="utf-8"))["model"]
        vocabulary = dict(model["vocab"])
        # Older releases of tokenizers write a pair as one text.
        pairs = [tuple(p.split(" ") if isinstance(p, str) else p) for p in model["merges"]]
    except (*_UNREADABLE, LookupError) as error:
        raise WeightsError(f"{path} is not a byte-pair tokenizer ({error})") from None
    return _bpe_tokenizer(vocabulary, pairs, size, path, f"{path}: model.merges")


def _bpe_tokenizer(
    vocabulary: dict[str, int], pairs: list[tuple[str, str]], size: int, path: Path, merges: str
) -> CLIPTokenizer:
    """Build CLIP's tokenizer from what was read.

    Args:
        vocabulary: ids of the tokens.
        pairs: tokens that are merged, in order.
        size: tokens that the text tower knows; the last two are start and end.
        path: from where the vocabulary was read, for messages.
        merges: from where the pairs were read, for messages.

    Raises:
        WeightsError: they do not fit the text tower.
    """
    expected = {START: size - 2, END: size - 1}
    found = {token: vocabulary.get(token) for token in expected}
    if len(vocabulary) != size or found != expected:
        raise WeightsError(
            f"{path}: expected {size:,} tokens, the last two {START} and {END}, got "
            f"{len(vocabulary):,} with these as {found[START]} and {found[END]}"
        )
    try:
        return CLIPTokenizer(vocab=vocabulary, merges=pairs)
    except Exception as error:  # again
        raise WeightsError(f"{merges} does not fit {path.name} ({error})") from None


def _check_clip_config(path: Path, expected: CLIPConfig) -> None:
    """Check the settings that the shapes of weights do not show.

    Raises:
        WeightsError: a setting differs from our implementation.
    """
    try:
        found = CLIPConfig.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except _UNREADABLE as error:
        raise WeightsError(f"{path} is not a configuration of CLIP ({error})") from None
    for part in ("text_config", "vision_config"):
        for name in ("num_attention_heads", "hidden_act"):
            wanted = getattr(getattr(expected, part), name)
            _expect(path, f"{part}.{name}", wanted, getattr(getattr(found, part), name))


def _expect(path: Path, name: str, wanted: object, given: object) -> None:
    """Check one setting.

    Raises:
        WeightsError: it has another value.
    """
    if given != wanted:
        raise WeightsError(f"{path}: expected {name} {wanted}, got {given}")
