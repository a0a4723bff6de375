"""Dense CLIP features, read out with CLIP Surgery or otherwise, on transformers' ``CLIPModel``.

Source: CLIP Surgery (arXiv 2304.05653), as used by CLIP-Guided SAM (arXiv 2605.24807, 3.1). The
other read-outs name theirs in ``baselines/``.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerBase

from ..memory import MAX_CACHED_TEXTS, LRUCache
from ..names import canonical_names
from .sentence import SentenceEncoder
from .sizes import ClipSizes, FeatureNorm
from .trunk import SemanticStem, Trunk, TrunkStem


def build_clip(sizes: ClipSizes, trunk: Trunk | None = None) -> CLIPModel:
    """Build a randomly initialised CLIP; the text feature is read at the largest id, the end token.

    Args:
        sizes: its sizes.
        trunk: what its tokens are projected from, if from a trunk; ``None`` makes one of its own.
    """
    end = sizes.vocab_size - 1
    clip = CLIPModel(
        CLIPConfig(
            projection_dim=sizes.projection_dim,
            vision_config=dict(
                image_size=sizes.image_size,
                patch_size=sizes.patch_size,
                hidden_size=sizes.vision_width,
                intermediate_size=4 * sizes.vision_width,
                num_hidden_layers=sizes.vision_layers,
                num_attention_heads=sizes.vision_heads,
            ),
            text_config=dict(
                vocab_size=sizes.vocab_size,
                hidden_size=sizes.text_width,
                intermediate_size=4 * sizes.text_width,
                num_hidden_layers=sizes.text_layers,
                num_attention_heads=sizes.text_heads,
                max_position_embeddings=sizes.context_length,
                bos_token_id=end - 1,
                eos_token_id=end,
                pad_token_id=0,
            ),
        )
    )
    if sizes.text_tower == "sentence":
        clip.text_model = SentenceEncoder(
            sizes.vocab_size,
            sizes.text_width,
            sizes.text_layers,
            sizes.text_heads,
            sizes.context_length,
        )
        clip.text_projection = nn.Identity()
    if sizes.trunk_strides:
        clip.vision_model.embeddings.patch_embedding = SemanticStem(
            trunk or Trunk(),
            sizes.vision_width,
            sizes.patch_size,
            sizes.trunk_strides,
            sizes.projection_dim,
        )
    return clip


AttentionKind = Literal["query-key", "query-query", "key-key", "value-value", "none"]
"""What a token is compared with others by; with ``none`` each attends to itself alone."""


@dataclass(frozen=True)
class Readout:
    """How patches are read from the last layers of CLIP's vision tower.

    The tower itself runs as it was trained and yields the CLS token. Before its last layers a
    second path branches off, which yields the patches: its attention acts on the values of the
    first path, with the same weights. The default is CLIP Surgery's (CS-ViT, arXiv 2304.05653).

    Attributes:
        layers: number of last layers with the second path; 0 reads the patches of plain CLIP.
        attention: how tokens are compared; the softmax weights of several kinds are added.
        residual: whether the second path starts with the tokens of the first, or with zeros.
        feed_forward: whether the layers' MLPs act on the second path.
    """

    layers: int
    attention: tuple[AttentionKind, ...] = ("value-value",)
    residual: bool = True
    feed_forward: bool = False


class SurgeryVision(nn.Module):
    """CLIP's vision tower with a second path for patches, by default CLIP Surgery's."""

    def __init__(self, clip: CLIPModel, surgery_layers: int = 6) -> None:
        """Wrap the network.

        Args:
            clip: its vision tower and visual projection are borrowed, not copied.
            surgery_layers: number of last layers read with CLIP Surgery; 0 reads plain CLIP.
        """
        super().__init__()
        self.vision_model = clip.vision_model
        self.visual_projection = clip.visual_projection
        self.readout = Readout(surgery_layers)

    @property
    def surgery_layers(self) -> int:
        """Number of last layers with the second path."""
        return self.readout.layers

    def with_layers(self, layers: int) -> SurgeryVision:
        """Return the same tower with another number of second-path layers, without copying."""
        return self.with_readout(replace(self.readout, layers=layers))

    def with_readout(self, readout: Readout) -> SurgeryVision:
        """Return the same tower, whose patches are read in another way, without copying."""
        view = copy.copy(self)
        view._modules = dict(self._modules)
        view.readout = readout
        return view

    def tunable_copy(self, last_layers: int | None = None) -> SurgeryVision:
        """Copy the tower with trainable attention (CLIP-Guided SAM, 3.4).

        Args:
            last_layers: tune the last C layers (the paper's Table 7); ``None`` tunes all.
        """
        clone = copy.deepcopy(self).requires_grad_(False)
        layers = clone.vision_model.encoder.layers
        for layer in layers[len(layers) - (last_layers or len(layers)) :]:
            layer.self_attn.requires_grad_(True)
        return clone

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode normalised images (B, 3, S, S), S divisible by the patch size → (B, 1 + N, T).

        Where tokens come from a trunk, its features of the images can be given instead.

        Token 0 is CLS, from the original path; the others are patches in row-major order, from
        the second path (from the original one without any). Not normalised.
        """
        return self.read(pixels)[0]

    def read(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Encode as in :meth:`forward`; also return the original path (B, 1 + N, W) per layer."""
        states = []
        stem = self.vision_model.embeddings.patch_embedding
        if isinstance(stem, TrunkStem):
            pixels = stem.see(pixels)
        original = self.vision_model.pre_layrnorm(self._embed(pixels))
        layers = self.vision_model.encoder.layers
        readout = self.readout
        split = len(layers) - readout.layers
        second = None
        for index, layer in enumerate(layers):
            if index == split:
                second = original if readout.residual else torch.zeros_like(original)
            hidden = layer.layer_norm1(original)
            if second is not None:
                second = second + _attend(layer.self_attn, hidden, readout.attention)
                if readout.feed_forward:
                    second = second + layer.mlp(layer.layer_norm2(second))
            original = original + _attend(layer.self_attn, hidden, ("query-key",))
            original = original + layer.mlp(layer.layer_norm2(original))
            states.append(original)
        if second is not None:
            original = torch.cat((original[:, :1], second[:, 1:]), dim=1)
        tokens = self.visual_projection(self.vision_model.post_layernorm(original))
        if isinstance(stem, SemanticStem):
            tokens = tokens + stem.skip(pixels)
        return tokens, states

    def _embed(self, pixels: Tensor) -> Tensor:
        """Embed patches, CLS and positions; positions are resized bilinearly on the fly.

        transformers' own interpolation is bicubic, which is not what CLIP Surgery does.
        """
        embeddings = self.vision_model.embeddings
        patches = embeddings.patch_embedding(pixels)
        rows, columns = patches.shape[-2:]
        class_token = embeddings.class_embedding.to(patches.dtype).expand(len(pixels), 1, -1)
        tokens = torch.cat((class_token, patches.flatten(2).transpose(1, 2)), dim=1)
        weight = embeddings.position_embedding.weight
        side = embeddings.image_size // embeddings.patch_size
        if (rows, columns) != (side, side):
            grid = weight[1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
            grid = F.interpolate(grid, (rows, columns), mode="bilinear", align_corners=False)
            weight = torch.cat((weight[:1], grid[0].flatten(1).T))
        return tokens + weight


def _attend(attention: Any, x: Tensor, kinds: Sequence[AttentionKind]) -> Tensor:
    """Compute CLIP's multi-head attention on (B, N, D), with the weights of these kinds added."""
    heads = (*x.shape[:2], attention.num_heads, attention.head_dim)
    compared = [name for kind in kinds if kind != "none" for name in kind.split("-")]
    projected = {
        name: getattr(attention, f"{name[0]}_proj")(x).view(heads).transpose(1, 2)
        for name in dict.fromkeys(("value", *compared))
    }

    def mix(kind: AttentionKind) -> Tensor:
        if kind == "none":
            return projected["value"]
        query, key = (projected[name] for name in kind.split("-"))
        return F.scaled_dot_product_attention(query, key, projected["value"])

    first, *others = map(mix, kinds)
    mixed = sum(others, start=first)
    return attention.out_proj(mixed.transpose(1, 2).reshape(x.shape))


def normalize_tokens(tokens: Tensor, norm: FeatureNorm = "cosine") -> Tensor:
    """Normalise CLIP tokens (B, 1 + N, T) before comparing them with text.

    ``cosine`` divides each token by its norm over channels (Eq. 1 of CLIP-Guided SAM).
    ``reference`` divides each channel by its norm over the tokens, as the authors' code does; the
    result depends on the number of tokens and is no cosine.
    """
    return F.normalize(tokens, dim=-1 if norm == "cosine" else 1)


def patch_similarity(normalized: Tensor, text: Tensor) -> Tensor:
    """Compute each token's similarity with a class (Eq. 1): (B, 1 + N, T), (B, T) → (B, 1 + N)."""
    return torch.einsum("bnt,bt->bn", normalized, text)


def similarity_grid(normalized: Tensor, text: Tensor) -> Tensor:
    """Compute the raw similarity map of a class: (B, 1 + N, T), (B, T) → (B, h, w), without CLS."""
    return tokens_to_grid(patch_similarity(normalized, text)[..., None])[:, 0]


def tokens_to_grid(tokens: Tensor) -> Tensor:
    """Drop CLS and arrange patches on their square grid: (B, 1 + N, C) → (B, C, √N, √N)."""
    patches = tokens[:, 1:]
    side = round(patches.shape[1] ** 0.5)
    return patches.transpose(1, 2).unflatten(2, (side, side))


def encode_text(
    clip: CLIPModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> Tensor:
    """Encode texts to raw features (len(texts), T), padded to the longest of them.

    Attention is causal and the feature is read at the end token, so shorter padding is exact.
    """
    batch = tokenizer(
        list(texts),
        padding=True,
        truncation=True,
        max_length=clip.config.text_config.max_position_embeddings,
        return_tensors="pt",
    )
    ids = batch["input_ids"].to(text_device(clip))
    return clip.text_projection(clip.text_model(input_ids=ids).pooler_output)


def exceeds(tokenizer: PreTrainedTokenizerBase | None, text: str, limit: int) -> bool:
    """Return whether a text has more tokens than a network reads, so that its end is dropped."""
    if tokenizer is None or len(text.encode()) + 2 <= limit:  # Every token has a byte or more.
        return False
    return len(tokenizer(text, verbose=False)["input_ids"]) > limit


def with_text_positions(clip: CLIPModel, positions: nn.Parameter) -> CLIPModel:
    """Return a CLIP that shares all weights but its position embedding of text.

    Args:
        clip: with CLIP's own text tower.
        positions: (N, W), used as it is.
    """
    shared = {id(tensor): tensor for tensor in (*clip.parameters(), *clip.buffers())}
    copied = copy.deepcopy(clip, shared)
    copied.text_model.embeddings.position_embedding.weight = positions
    return copied


def text_device(clip: CLIPModel) -> torch.device:
    """Return the device of the text tower; the vision tower may be on another one."""
    return next(clip.text_model.parameters()).device


def template_feature(clip: CLIPModel, tokenizer: PreTrainedTokenizerBase, name: str) -> Tensor:
    """Compute the feature of a name in 85 templates, each of unit norm, averaged → (T,), unit norm.

    Source: CLIP Surgery's prompt ensemble.
    """
    texts = [template.format(name) for template in PROMPT_TEMPLATES]
    features = F.normalize(encode_text(clip, tokenizer, texts), dim=-1)
    return F.normalize(features.mean(0), dim=0)


def redundant_feature(clip: CLIPModel, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """Compute the feature common to all classes: the empty name in 85 templates → (T,).

    Nothing for a sentence encoder: its names have no direction in common.
    """
    if isinstance(clip.text_model, SentenceEncoder):
        return torch.zeros(clip.config.projection_dim, device=text_device(clip))
    return template_feature(clip, tokenizer, "")


def class_text_feature(raw: Tensor, redundant: Tensor) -> Tensor:
    """Remove the redundant feature of classes: (…, T) raw, (T,) → (…, T) unit norm."""
    return F.normalize(raw - redundant, dim=-1)


class ClassTextEncoder:
    """Cached text features of class names for one frozen CLIP."""

    def __init__(self, clip: CLIPModel, tokenizer: PreTrainedTokenizerBase | None) -> None:
        self._clip = clip
        self.tokenizer = tokenizer
        self._redundant: Tensor | None = None
        self._features: LRUCache[Tensor] = LRUCache(MAX_CACHED_TEXTS)
        self._ensembles: LRUCache[Tensor] = LRUCache(MAX_CACHED_TEXTS)

    @torch.no_grad()
    def __call__(self, classes: Sequence[tuple[str, ...]]) -> Tensor:
        """Encode classes, each a tuple of synonyms, to unit-norm features (len(classes), T).

        Synonyms are averaged raw, before the redundant feature is removed; their case and order
        change nothing.
        """
        redundant = self._common()
        device = redundant.device

        def encode(synonyms: tuple[str, ...]) -> Tensor:
            raw = encode_text(self._clip, self.tokenizer, synonyms).mean(0)
            return class_text_feature(raw, redundant)

        names = [canonical_names(one) for one in classes]
        features = [self._features.get(one, partial(encode, one)) for one in names]
        return torch.stack([feature.to(device) for feature in features])

    @torch.no_grad()
    def ensemble(self, synonyms: tuple[str, ...]) -> Tensor:
        """Encode a class by templates, as CLIP Surgery's demo does: t − r, (T,), not normalised.

        Synonyms are averaged.
        """

        def encode(names: tuple[str, ...]) -> Tensor:
            each = [template_feature(self._clip, self.tokenizer, name) for name in names]
            return torch.stack(each).mean(0)

        redundant, names = self._common(), canonical_names(synonyms)
        return self._ensembles.get(names, partial(encode, names)).to(redundant.device) - redundant

    def _common(self) -> Tensor:
        """Return the redundant feature (T,), computed once."""
        if self._redundant is None:
            self._redundant = redundant_feature(self._clip, self.tokenizer)
        self._redundant = self._redundant.to(text_device(self._clip))  # CLIP may have been moved.
        return self._redundant

    def is_cut(self, text: str) -> bool:
        """Return whether a text is longer than what the encoder reads."""
        return exceeds(self.tokenizer, text, self._clip.config.text_config.max_position_embeddings)


PROMPT_TEMPLATES: tuple[str, ...] = (
    "a bad photo of a {}.",
    "a photo of many {}.",
    "a sculpture of a {}.",
    "a photo of the hard to see {}.",
    "a low resolution photo of the {}.",
    "a rendering of a {}.",
    "graffiti of a {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
    "a tattoo of a {}.",
    "the embroidered {}.",
    "a photo of a hard to see {}.",
    "a bright photo of a {}.",
    "a photo of a clean {}.",
    "a photo of a dirty {}.",
    "a dark photo of the {}.",
    "a drawing of a {}.",
    "a photo of my {}.",
    "the plastic {}.",
    "a photo of the cool {}.",
    "a close-up photo of a {}.",
    "a black and white photo of the {}.",
    "a painting of the {}.",
    "a painting of a {}.",
    "a pixelated photo of the {}.",
    "a sculpture of the {}.",
    "a bright photo of the {}.",
    "a cropped photo of a {}.",
    "a plastic {}.",
    "a photo of the dirty {}.",
    "a jpeg corrupted photo of a {}.",
    "a blurry photo of the {}.",
    "a photo of the {}.",
    "a good photo of the {}.",
    "a rendering of the {}.",
    "a {} in a video game.",
    "a photo of one {}.",
    "a doodle of a {}.",
    "a close-up photo of the {}.",
    "a photo of a {}.",
    "the origami {}.",
    "the {} in a video game.",
    "a sketch of a {}.",
    "a doodle of the {}.",
    "a origami {}.",
    "a low resolution photo of a {}.",
    "the toy {}.",
    "a rendition of the {}.",
    "a photo of the clean {}.",
    "a photo of a large {}.",
    "a rendition of a {}.",
    "a photo of a nice {}.",
    "a photo of a weird {}.",
    "a blurry photo of a {}.",
    "a cartoon {}.",
    "art of a {}.",
    "a sketch of the {}.",
    "a embroidered {}.",
    "a pixelated photo of a {}.",
    "itap of the {}.",
    "a jpeg corrupted photo of the {}.",
    "a good photo of a {}.",
    "a plushie {}.",
    "a photo of the nice {}.",
    "a photo of the small {}.",
    "a photo of the weird {}.",
    "the cartoon {}.",
    "art of the {}.",
    "a drawing of the {}.",
    "a photo of the large {}.",
    "a black and white photo of a {}.",
    "the plushie {}.",
    "a dark photo of a {}.",
    "itap of a {}.",
    "graffiti of the {}.",
    "a toy {}.",
    "itap of my {}.",
    "a photo of a cool {}.",
    "a photo of a small {}.",
    "a tattoo of the {}.",
    "there is a {} in the scene.",
    "there is the {} in the scene.",
    "this is a {} in the scene.",
    "this is the {} in the scene.",
    "this is one {} in the scene.",
)
"""CLIP's 80 ImageNet templates and CLIP Surgery's five for scenes."""
