"""ESC-Net's inputs from CLIP: dense image features, skip features, class texts, correlation.

Paper: image and text features and their correlation (Eq. 1). How CLIP is read densely is CAT-Seg's
(arXiv 2303.11797) way.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPModel, PreTrainedTokenizerBase

from ..clip import SurgeryVision, encode_text, tokens_to_grid
from .config import EscNetConfig


@dataclass(frozen=True)
class ClipFeatures:
    """CLIP's features of a batch of images, on its grid of h × w cells.

    Attributes:
        dense: F_v, float (B, D, h, w), in CLIP's joint space, not normalised.
        skips: outputs of two earlier layers, float (B, W, h, w) each.
    """

    dense: Tensor
    skips: tuple[Tensor, Tensor]


def tunable_clip(clip: CLIPModel) -> CLIPModel:
    """Copy the q and v projections of a CLIP as trainable; everything else is shared and frozen.

    The weights of ``q_proj`` and ``v_proj`` of both towers are tuned, as in CAT-Seg.
    """
    tuned = {
        name
        for name, _ in clip.named_parameters()
        if name.endswith(("self_attn.q_proj.weight", "self_attn.v_proj.weight"))
    }
    # The last vision layer attends to nothing (see encode_image): its queries are never used, and
    # a trainable parameter without gradient stops distributed training.
    last = len(clip.vision_model.encoder.layers) - 1
    tuned.remove(f"vision_model.encoder.layers.{last}.self_attn.q_proj.weight")
    borrowed = {id(p): p for name, p in clip.named_parameters() if name not in tuned}
    clone = copy.deepcopy(clip, memo=borrowed)
    for name, parameter in clone.named_parameters():
        parameter.requires_grad_(name in tuned)
    return clone


def encode_image(clip: CLIPModel, pixels: Tensor, config: EscNetConfig) -> ClipFeatures:
    """Encode images to dense features of CLIP's vision tower.

    All layers but the last run as they are. The last one does not attend: each position keeps its
    own value, to which the CLS token is added, so that a patch stays where it is:
    z = OutProj(VProj(LN1 x)) + x_CLS; z ← z + MLP(LN2 z); F_v = proj(LN_post z).

    With ``config.surgery_layers`` the last layers are read with CLIP Surgery instead.

    Args:
        clip: transformers' CLIP.
        pixels: normalised images (B, 3, S, S); for another S than CLIP's own, its position
            embedding is resized bicubically.
        config: says how it is read, and the layers whose outputs are returned along.
    """
    if config.surgery_layers:
        tokens, states = SurgeryVision(clip, config.surgery_layers).read(pixels)
        first, second = (tokens_to_grid(states[number - 1]) for number in config.skip_layers)
        return ClipFeatures(tokens_to_grid(tokens), (first, second))
    vision = clip.vision_model
    hidden = vision.pre_layrnorm(vision.embeddings(pixels, interpolate_pos_encoding=True))
    *layers, last = vision.encoder.layers
    skips = {}
    for number, layer in enumerate(layers, start=1):
        hidden = layer(hidden, attention_mask=None)
        if number in config.skip_layers:
            skips[number] = tokens_to_grid(hidden)
    attention = last.self_attn
    values = attention.out_proj(attention.v_proj(last.layer_norm1(hidden)))
    tokens = values + hidden[:, :1]
    tokens = tokens + last.mlp(last.layer_norm2(tokens))
    dense = clip.visual_projection(vision.post_layernorm(tokens))
    first, second = (skips[number] for number in config.skip_layers)
    return ClipFeatures(tokens_to_grid(dense), (first, second))


def encode_classes(
    clip: CLIPModel, tokenizer: PreTrainedTokenizerBase, names: Sequence[str], template: str
) -> Tensor:
    """Encode class names to F_l, unit-norm text features (N_c, D), with gradient.

    Of a name such as ``door, double door`` only what precedes the first comma is used. Texts are
    padded to the longest of them, not to CLIP's 77: exact under causal attention, and about five
    times faster.
    """
    prompts = [template.format(name.split(", ")[0]) for name in names]
    return F.normalize(encode_text(clip, tokenizer, prompts), dim=-1)


def correlate(dense: Tensor, text: Tensor) -> Tensor:
    """Compute M⁰ (Eq. 1): cosine of every cell with every class, without CLIP's logit scale.

    Args:
        dense: F_v (B, D, h, w).
        text: F_l (N_c, D).

    Returns:
        float32 (B, N_c, h, w), in full precision also under autocast: cosines of different
        classes differ in their third digit.
    """
    with torch.autocast(dense.device.type, enabled=False):
        cells = F.normalize(dense.float(), dim=1)
        return torch.einsum("bdhw,nd->bnhw", cells, F.normalize(text.float(), dim=-1))
