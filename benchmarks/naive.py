"""CLIP-Guided SAM without sharing: all is recomputed per class, on segment_anything's blocks.

As the authors' code does it: the image goes through CLIP and through all of SAM's encoder for each
class, and the 85 empty prompts through CLIP's text side. It is what the fast path must equal, and
what its speed is compared with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from unittest.mock import patch

import torch
import torch.nn.functional as F
from segment_anything.modeling.image_encoder import (
    Attention,
    window_partition,
    window_unpartition,
)
from torch import Tensor, nn
from transformers import CLIPModel, PreTrainedTokenizerBase

from clipsam.encoded_image import EncodedImage
from clipsam.methods.clip_guided_sam import ClipGuidedSamPredictor
from clipsam.models import clip as clip_module
from clipsam.models import image_encoder as encoder_module
from clipsam.models.adapters import Adapter, SemanticCondition
from clipsam.models.clip import ClassTextEncoder
from clipsam.models.tuned_sam_model import TunedSam
from clipsam.types import Concept, ConceptResult
from clipsam.weights.backbones import Backbones


class NaiveClipGuidedSam(ClipGuidedSamPredictor):
    """CLIP-Guided SAM that shares nothing between classes; for comparison only."""

    def _predict_all(
        self,
        encoded: EncodedImage,
        concepts: Sequence[Concept],
        modes: Sequence[str],
        *rest: object,
    ) -> list[ConceptResult]:
        shared, results = self.backbones, []
        for concept, mode in zip(concepts, modes, strict=True):
            self.backbones = unread(shared)
            with plain_networks():
                results += super()._predict_all(
                    EncodedImage(encoded.image), (concept,), (mode,), *rest
                )
        self.backbones = shared
        return results


def unread(backbones: Backbones) -> Backbones:
    """Return the same networks with an empty text cache."""
    return replace(backbones, text=ClassTextEncoder(backbones.clip, backbones.text.tokenizer))


@contextmanager
def plain_networks() -> Iterator[None]:
    """Compute as the authors' networks do, inside the block."""
    with ExitStack() as stack:
        for place, name, plain in (
            (encoder_module, "attend", _attend_in_sam),
            (encoder_module, "_run_mlp", lambda mlp, tokens: mlp(tokens)),
            (clip_module, "_attend", _attend_in_clip),
            (clip_module, "encode_text", _encode_text),
            (Adapter, "forward", _adapt),
            (TunedSam, "see_patches", _see_nothing),
        ):
            stack.enter_context(patch.object(place, name, plain))
        yield


def _attend_in_sam(
    attention: Attention, tokens: Tensor, window: int, padding: Tensor | None = None
) -> Tensor:
    """Compute segment_anything's attention, with padded windows."""
    if padding is not None:
        raise NotImplementedError("the authors' order of norm and windows")
    if not window:
        return attention(tokens)
    windows, padded = window_partition(tokens, window)
    return window_unpartition(attention(windows), window, padded, tuple(tokens.shape[1:3]))


def _attend_in_clip(attention: nn.Module, x: Tensor, kinds: Sequence[str]) -> Tensor:
    """Compute CLIP's attention with explicit weights."""
    heads = (*x.shape[:2], attention.num_heads, attention.head_dim)
    query, key, value = (
        projection(x).view(heads).transpose(1, 2)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    if tuple(kinds) == ("value-value",):
        query = key = value
    weights = (attention.scale * query @ key.transpose(-2, -1)).softmax(dim=-1)
    return attention.out_proj((weights @ value).transpose(1, 2).reshape(x.shape))


def _encode_text(clip: CLIPModel, tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> Tensor:
    """Encode texts padded to CLIP's whole context, as its own tokenizer does."""
    batch = tokenizer(
        list(texts),
        padding="max_length",
        truncation=True,
        max_length=clip.config.text_config.max_position_embeddings,
        return_tensors="pt",
    )
    ids = batch["input_ids"].to(clip.text_projection.weight.device)
    return clip.text_projection(clip.text_model(input_ids=ids).pooler_output)


def _see_nothing(model: TunedSam, *_: Tensor | None) -> Tensor:
    """Precompute nothing: each adapter projects the patches itself."""
    return torch.empty(len(model.image_encoder.blocks), 0)


def _adapt(
    adapter: Adapter, x: Tensor, condition: SemanticCondition | None = None, _: Tensor | None = None
) -> Tensor:
    """Add all conditions at full width, then apply the bottleneck."""
    if adapter.text_projection is not None:
        x = x + F.gelu(adapter.text_projection(condition.text))[:, None, None]
    if adapter.vision_projection is not None:
        seen = condition.vision + condition.similarity[:, None]
        seen = adapter.vision_projection(seen.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        if condition.sampling_grid is None:
            seen = F.interpolate(seen, tuple(x.shape[1:3]), mode="bilinear")
        else:
            grid = condition.sampling_grid
            seen = F.grid_sample(seen, grid, padding_mode="border", align_corners=False)
        x = x + seen.permute(0, 2, 3, 1)
    return adapter.up(F.gelu(adapter.down(x)))
