"""Conversion between the names of published weights and ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

_SAM_POSITIONS = (
    "shared_image_embedding.positional_embedding",
    "prompt_encoder.shared_embedding.positional_embedding",
)
"""A matrix that transformers uses twice; a file may contain it under either name or both."""

_ADAPTER_NAMES = (
    (r"Space_Adapter\.", "attention_adapter."),
    (r"MLP_Adapter\.", "mlp_adapter."),
    (r"D_fc1\.", "down."),
    (r"D_fc2\.", "up."),
    (r"vis_projection\.", "vision_projection."),
    (r"linear_a_q\.", "query_down."),
    (r"linear_b_q\.", "query_up."),
    (r"linear_a_v\.", "value_down."),
    (r"linear_b_v\.", "value_up."),
)

_CLIP_NAMES = (
    (r"^visual\.class_embedding$", "vision_model.embeddings.class_embedding"),
    (r"^visual\.positional_embedding$", "vision_model.embeddings.position_embedding.weight"),
    (r"^visual\.conv1\.", "vision_model.embeddings.patch_embedding."),
    (r"^visual\.ln_pre\.", "vision_model.pre_layrnorm."),
    (r"^visual\.ln_post\.", "vision_model.post_layernorm."),
    (r"^visual\.transformer\.resblocks\.", "vision_model.encoder.layers."),
    (r"^transformer\.resblocks\.", "text_model.encoder.layers."),
    (r"^token_embedding\.", "text_model.embeddings.token_embedding."),
    (r"^positional_embedding$", "text_model.embeddings.position_embedding.weight"),
    (r"^ln_final\.", "text_model.final_layer_norm."),
    (r"\.attn\.out_proj\.", ".self_attn.out_proj."),
    (r"\.ln_1\.", ".layer_norm1."),
    (r"\.ln_2\.", ".layer_norm2."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)

_MASK_NAMES = (
    (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
    (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
    (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
    (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
    (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
    (r"\.output_upscaling\.0\.", ".upscale_conv1."),
    (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
    (r"\.output_upscaling\.3\.", ".upscale_conv2."),
)
"""Names of the mask prompt and of the decoder's mask layers, the same in SAM and SAM 2."""

_SAM_NAMES = (
    (r"^image_encoder\.", "vision_encoder."),
    (r"^vision_encoder\.blocks\.", "vision_encoder.layers."),
    (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
    (r"\.neck\.0\.", ".neck.conv1."),
    (r"\.neck\.1\.", ".neck.layer_norm1."),
    (r"\.neck\.2\.", ".neck.conv2."),
    (r"\.neck\.3\.", ".neck.layer_norm2."),
    (r"\.norm(\d|_final_attn)\.", r".layer_norm\1."),
    (r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$", _SAM_POSITIONS[0]),
    (r"\.point_embeddings\.", ".point_embed."),
    *_MASK_NAMES,
    (r"(_head|_mlps\.\d)\.layers\.0\.", r"\1.proj_in."),
    (r"(_head|_mlps\.\d)\.layers\.1\.", r"\1.layers.0."),
    (r"(_head|_mlps\.\d)\.layers\.2\.", r"\1.proj_out."),
)

_SAM2_HEADS = ("_head", *(f"_mlps.{token}" for token in range(4)))
"""Suffixes of the decoder's heads, which have three layers."""

_SAM2_NAMES = (
    (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"^image_encoder\.neck\.", "vision_encoder.neck."),
    (r"^sam_prompt_encoder\.", "prompt_encoder."),
    (r"^sam_mask_decoder\.", "mask_decoder."),
    (r"^no_mem_embed$", "no_memory_embedding"),
    (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
    (r"\.norm", ".layer_norm"),
    (r"\.out_proj\.", ".o_proj."),
    (r"\.mlp\.layers\.0\.", ".mlp.proj_in."),
    (r"\.mlp\.layers\.1\.", ".mlp.proj_out."),
    (r"\.pe_layer\.positional_encoding_gaussian_matrix$", ".shared_embedding.positional_embedding"),
    *_MASK_NAMES,
    *((rf"\.convs\.{level}\.conv\.", f".convs.{level}.") for level in range(4)),
    *(
        (re.escape(f"{head}.layers.{layer}."), f"{head}.{name}.")
        for head in _SAM2_HEADS
        for layer, name in enumerate(("proj_in", "layers.0", "proj_out"))
    ),
)

_SAM2_POINTS = "prompt_encoder.point_embed.weight"
"""Embeddings (4, 256) of background, foreground and corners; Meta's file has one per kind."""

_SAM2_VIDEO = (
    "mask_downsample.",
    "memory_attention.",
    "memory_encoder.",
    "memory_temporal_positional_encoding",
    "no_memory_positional_encoding",
    "no_object_pointer",
    "object_pointer_proj.",
    "occlusion_spatial_embedding_parameter",
    "temporal_positional_encoding_projection_layer.",
)
"""Prefixes of weights that only videos need: memory, and object pointers."""


def _rename(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _turned_round(rules: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Reverse the rules, whose two sides are literal except for anchors."""
    return tuple((re.escape(new), re.sub(r"[\\^$]", "", old)) for old, new in reversed(rules))


def adapters_from_reference(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the authors' image-encoder names (CLIP-Guided SAM, SAM-PTx, SU-SAM) to ours.

    SU-SAM's ``Depth_Adapter`` is left out: it is never used on images.
    """
    return {
        _rename(name, _ADAPTER_NAMES): tensor
        for name, tensor in state.items()
        if "Depth_Adapter" not in name
    }


def adapters_to_reference(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert our image-encoder names to those of the authors' code."""
    rules = _turned_round(_ADAPTER_NAMES)
    return {_rename(name, rules): tensor for name, tensor in state.items()}


def clip_from_openai(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert OpenAI's CLIP names to transformers' ``CLIPModel`` names.

    The fused ``in_proj`` is split into q, k and v; the two projections are transposed. Attention
    may also be named as CLIP Surgery does after its first run (``qkv``, ``proj``).
    """
    converted: dict[str, Tensor] = {}
    for name, tensor in state.items():
        name = re.sub(r"\.attn\.qkv\.(weight|bias)$", r".attn.in_proj_\1", name)
        name = re.sub(r"\.attn\.proj\.", ".attn.out_proj.", name)
        if name in ("visual.proj", "text_projection"):
            target = "visual_projection" if name == "visual.proj" else "text_projection"
            converted[f"{target}.weight"] = tensor.T.contiguous()
            continue
        target = _rename(name, _CLIP_NAMES)
        if ".attn.in_proj_" in target:
            for part, chunk in zip("qkv", tensor.chunk(3), strict=True):
                renamed = target.replace(".attn.in_proj_", f".self_attn.{part}_proj.")
                converted[renamed] = chunk.contiguous()
        else:
            converted[target] = tensor
    return converted


def clip_to_openai(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert transformers' ``CLIPModel`` names to OpenAI's; inverts :func:`clip_from_openai`."""
    rules = _turned_round(_CLIP_NAMES)
    converted: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name in ("visual_projection.weight", "text_projection.weight"):
            target = "visual.proj" if name.startswith("visual") else "text_projection"
            converted[target] = tensor.T.contiguous()
        elif ".self_attn.q_proj." in name:
            parts = [state[name.replace(".q_proj.", f".{part}_proj.")] for part in "qkv"]
            fused = _rename(name, rules).replace(".self_attn.q_proj.", ".attn.in_proj_")
            converted[fused] = torch.cat(parts)
        elif not re.search(r"\.self_attn\.[kv]_proj\.", name):
            converted[_rename(name, rules)] = tensor
    return converted


def clip_from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove the position counters that older published ``CLIPModel`` files contain."""
    return {
        name: tensor
        for name, tensor in state.items()
        if not name.endswith(".embeddings.position_ids")
    }


def sam_to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert Meta's names (segment-anything's ``Sam``) to transformers' ``SamModel`` names."""
    return {_rename(name, _SAM_NAMES): tensor for name, tensor in state.items()}


def sam_from_transformers(state: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """Convert transformers' ``SamModel`` names to Meta's.

    Args:
        state: by transformers' names; a name that is none of theirs is kept as it is.
        names: all that the wanted SAM has; the translation is theirs, turned round.
    """
    ours = {_rename(name, _SAM_NAMES): name for name in names}
    first, second = _SAM_POSITIONS
    ours[second] = ours[first]
    return {ours.get(name, name): tensor for name, tensor in state.items()}


def sam2_to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert Meta's names (image parts of ``SAM2Base``) to transformers' ``Sam2Model`` names.

    The points' four embeddings become one matrix; the positions appear in both places.
    """
    converted: dict[str, Tensor] = {}
    points: dict[str, Tensor] = {}
    for name, tensor in state.items():
        part = points if ".point_embeddings." in name else converted
        part[_rename(name, _SAM2_NAMES)] = tensor
    converted[_SAM2_POINTS] = torch.cat([points[name] for name in sorted(points)])
    first, second = _SAM_POSITIONS
    converted[first] = converted[second]
    return converted


def sam2_from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert transformers' ``Sam2Model`` names to Meta's; inverts :func:`sam2_to_transformers`.

    Also ``Sam2VideoModel``'s, as published: what only videos need is left out. Other names stay.
    """
    rules = _turned_round(_SAM2_NAMES)
    shared, used = _SAM_POSITIONS
    converted: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name == _SAM2_POINTS:
            for kind, row in enumerate(tensor.split(1)):
                converted[f"sam_prompt_encoder.point_embeddings.{kind}.weight"] = row
        elif not name.startswith(_SAM2_VIDEO):
            converted[_rename(used if name == shared else name, rules)] = tensor
    return converted
