"""Names of published weights, translated to ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

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


def _rename(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def adapters_from_reference(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' image-encoder names (CLIP-Guided SAM, SAM-PTx, SU-SAM) → ours.

    SU-SAM's ``Depth_Adapter`` is left out: it is never used on images.
    """
    return {
        _rename(name, _ADAPTER_NAMES): tensor
        for name, tensor in state.items()
        if "Depth_Adapter" not in name
    }


def clip_from_openai(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """OpenAI's CLIP names → transformers' ``CLIPModel`` names.

    The fused ``in_proj`` is split into q, k and v; the two projections are transposed.
    """
    converted: dict[str, Tensor] = {}
    for name, tensor in state.items():
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
