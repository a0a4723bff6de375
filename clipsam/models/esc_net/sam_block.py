"""SAM's mask-decoder layers inside CLIP: image features refined by each class's prompts.

Paper: the SAM block, Eq. 2. The layers are segment-anything's own, with its own weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from segment_anything.modeling import PromptEncoder, Sam
from segment_anything.modeling.common import LayerNorm2d
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock
from torch import Tensor, nn

from ..sam_model import PROMPT_DIM
from .config import EscNetConfig, PromptKind
from .prompts import PseudoPrompts, generate_prompts

MASK_LOGIT = 6.9
"""Logit of 0.999, the value of pseudo masks, as SAM's mask inputs are logits."""

FIRST_TEMPERATURE = 0.05
"""Initial temperature; cosines of present and absent classes differ by a few hundredths."""


def sam_neck(channels: int) -> nn.Sequential:
    """Build a neck like SAM's: CLIP's features (B, channels, h, w) → F_a (B, 256, h, w)."""
    return nn.Sequential(
        nn.Conv2d(channels, PROMPT_DIM, 1, bias=False),
        LayerNorm2d(PROMPT_DIM),
        nn.Conv2d(PROMPT_DIM, PROMPT_DIM, 3, padding=1, bias=False),
        LayerNorm2d(PROMPT_DIM),
    )


class SamLayer(TwoWayAttentionBlock):
    """segment-anything's layer with its weights and results, but less work and memory.

    The image is by far the largest of what it reads, and both attentions between tokens and image
    read the same one: it is projected for both at once, positions, which all classes share, beside
    it, and no attention writes its scores down.
    """

    def forward(
        self, queries: Tensor, keys: Tensor, query_pe: Tensor, key_pe: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Apply attention to tokens (R, P, 256) and image (R, h·w, 256), in both directions.

        Args:
            queries: the tokens.
            keys: the image.
            query_pe: positions of the tokens (R, P, 256).
            key_pe: of the cells (h·w, 256).
        """
        own, first = self.self_attn, self.skip_first_layer_pe
        placed = queries if first else queries + query_pe
        attended = _attend(own, own.q_proj(placed), own.k_proj(placed), own.v_proj(queries))
        queries = self.norm1(attended if first else queries + attended)

        to_image, to_token = self.cross_attn_token_to_image, self.cross_attn_image_to_token
        as_key, as_query, value = _project_image(keys, key_pe, to_image, to_token)
        query = to_image.q_proj(queries + query_pe)
        queries = self.norm2(queries + _attend(to_image, query, as_key, value))
        queries = self.norm3(queries + self.mlp(queries))

        key, value = to_token.k_proj(queries + query_pe), to_token.v_proj(queries)
        return queries, self.norm4(keys + _attend(to_token, as_query, key, value))


def _project_image(
    image: Tensor, positions: Tensor, to_image: Attention, to_token: Attention
) -> tuple[Tensor, Tensor, Tensor]:
    """Project the image (R, h·w, 256) to keys and queries of two attentions, and values."""
    placed = to_image.k_proj, to_token.q_proj
    layers = *placed, to_image.v_proj
    weight, bias = (torch.cat([getattr(f, name) for f in layers]) for name in ("weight", "bias"))
    placed_weight = torch.cat([layer.weight for layer in placed])
    widths = [layer.out_features for layer in layers]
    together, value = F.linear(image, weight, bias).split((sum(widths[:2]), widths[2]), dim=-1)
    return *(together + F.linear(positions, placed_weight)).split(widths[:2], dim=-1), value


def _attend(attention: Attention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Compute segment-anything's attention from projections (R, N, C) and keys (R, M, C)."""
    heads = (
        x.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for x in (query, key, value)
    )
    mixed = F.scaled_dot_product_attention(*heads)
    return attention.out_proj(mixed.transpose(1, 2).flatten(2))


class SamLayers(nn.Module):
    """The parts from SAM: two decoder layers, output tokens, prompt encoder.

    The rest of SAM's decoder (last token-to-image attention, upscaling, hypernetworks, IoU head)
    never touches the image embedding, which is all that ESC-Net reads; so it is left out.
    """

    def __init__(self, grid: int, prompts: Sequence[PromptKind]) -> None:
        """Build the layers.

        Args:
            grid: side of the image embedding, cells.
            prompts: kinds of prompts in use; embeddings of others are frozen, since
                they would get no gradient.
        """
        super().__init__()
        self.prompts = frozenset(prompts)
        self.layers = nn.ModuleList(
            SamLayer(PROMPT_DIM, num_heads=8, mlp_dim=2048, skip_first_layer_pe=first)
            for first in (True, False)
        )
        self.iou_token = nn.Embedding(1, PROMPT_DIM)
        self.mask_tokens = nn.Embedding(4, PROMPT_DIM)
        # With the input as large as the embedding, the centre of cell (x, y) is (x, y) + 0.5, and
        # a point there is encoded exactly as the cell is.
        self.prompt_encoder = PromptEncoder(PROMPT_DIM, (grid, grid), (grid, grid), 16)
        encoder = self.prompt_encoder
        negative, positive, *corners = encoder.point_embeddings
        negative.requires_grad_(False)
        positive.requires_grad_("point" in self.prompts)
        for corner in corners:
            corner.requires_grad_("box" in self.prompts)
        encoder.not_a_point_embed.requires_grad_(bool(self.prompts & {"point", "box"}))
        encoder.mask_downscaling.requires_grad_("mask" in self.prompts)
        encoder.no_mask_embed.requires_grad_("mask" not in self.prompts)

    def forward(self, image: Tensor, prompts: PseudoPrompts, text: Tensor) -> Tensor:
        """Compute image features after attention to the prompts of each class (Eq. 2).

        Args:
            image: F_a (B, 256, h, w).
            prompts: of n classes, leading dimensions (B, n).
            text: a token for each class (n, 256).

        Returns:
            F'^n (B, n, h·w, 256).
        """
        batch, classes = prompts.valid.shape[:2]
        positions = self.positions()
        # Output tokens first, though their answers are not read: SAM's attention expects them. The
        # class text comes last (Eq. 2). Tokens are made anew in each block, as maps have changed.
        output = torch.cat((self.iou_token.weight, self.mask_tokens.weight))
        tokens = torch.cat(
            (
                output.expand(batch, classes, -1, -1),
                self.sparse_tokens(prompts, positions),
                text[:, None].expand(batch, -1, -1, -1),
            ),
            dim=2,
        ).flatten(0, 1)
        keys = image.flatten(2).transpose(1, 2)[:, None] + self.dense_prompt(prompts)
        keys, queries = keys.expand(-1, classes, -1, -1).flatten(0, 1), tokens
        for layer in self.layers:
            queries, keys = layer(queries, keys, query_pe=tokens, key_pe=positions)
        return keys.unflatten(0, (batch, classes))

    def positions(self) -> Tensor:
        """Return SAM's positional encoding of every cell, float32 (h·w, 256), row-major."""
        device = self.iou_token.weight.device
        # Sines of large angles: in half precision they would be noise.
        with torch.autocast(device.type, enabled=False):
            return self.prompt_encoder.get_dense_pe()[0].flatten(1).T

    def sparse_tokens(self, prompts: PseudoPrompts, positions: Tensor) -> Tensor:
        """Return point and box tokens, (B, n, P, 256), equal to those of SAM's prompt encoder.

        Its own code selects by boolean masks, which makes a GPU wait; reading the encoding of a
        cell from ``positions`` gives the same.
        """
        encoder, width = self.prompt_encoder, prompts.regions.shape[-1]
        nothing = encoder.not_a_point_embed.weight[0]

        def encode(cells: Tensor, kind: Tensor) -> Tensor:
            encoded = positions[cells[..., 1] * width + cells[..., 0]] + kind
            # A cluster that got no cell is to SAM what a padding point is.
            return torch.where(prompts.valid[..., None], encoded, nothing)

        _, positive, low, high = (embedding.weight[0] for embedding in encoder.point_embeddings)
        tokens = []
        if "point" in self.prompts:
            tokens.append(encode(prompts.points, positive))
            if "box" not in self.prompts:  # SAM pads points that come without a box
                tokens.append(nothing.expand(*prompts.valid.shape[:2], 1, -1))
        if "box" in self.prompts:
            corners = encode(prompts.boxes[..., :2], low), encode(prompts.boxes[..., 2:], high)
            tokens.append(torch.stack(corners, dim=3).flatten(2, 3))
        if not tokens:
            return positions.new_zeros(*prompts.valid.shape[:2], 0, PROMPT_DIM)
        return torch.cat(tokens, dim=2)

    def dense_prompt(self, prompts: PseudoPrompts) -> Tensor:
        """Encode the union of each class's pseudo masks: (B, n, h·w, 256), or (256,) for none.

        One mask per class: SAM's mask encoding sees one cell at a time, so the mean over the
        encodings of N_o disjoint masks would say the same with less contrast.
        """
        if "mask" not in self.prompts:
            return self.prompt_encoder.no_mask_embed.weight[0]
        union = prompts.regions.any(2).flatten(0, 1)[:, None]
        logits = torch.where(union, MASK_LOGIT, -MASK_LOGIT)
        encoded = self.prompt_encoder.mask_downscaling(F.interpolate(logits, scale_factor=4))
        return encoded.flatten(2).transpose(1, 2).unflatten(0, prompts.valid.shape[:2])


class SamBlock(nn.Module):
    """Pseudo prompts, SAM's layers, and fusion of all classes' image embeddings.

    Eq. 2 convolves over the N_c class-wise features, which fixes N_c. Here their mean, weighted
    at each cell by how well the class fits there, takes the convolution's place: any number of
    classes in any order. Weights are a softmax of the map, for in a plain mean the few classes
    that are present would drown among those that are not. What is fused is added to the image
    features that SAM's layers began with, so that they are whole where no class fits; Eq. 2 has no
    such residual.
    """

    def __init__(self, config: EscNetConfig, text_dim: int, grid: int) -> None:
        """Build the layers.

        Args:
            config: of the network.
            text_dim: D, channels of CLIP's joint space.
            grid: side of CLIP's grid, cells.
        """
        super().__init__()
        self.config = config
        # Each block has a copy of its own: four of SAM's decoders beside CLIP are the parameters
        # that the paper reports.
        self.pretrained = SamLayers(grid, config.prompts)
        # Eq. 2's text token is new to SAM's layers: at first it says nothing.
        self.text_token = nn.Linear(text_dim, PROMPT_DIM)
        nn.init.zeros_(self.text_token.weight)
        nn.init.zeros_(self.text_token.bias)
        self.fuse = nn.Conv2d(PROMPT_DIM, PROMPT_DIM, 1)
        self.log_temperature = None
        if config.fuse == "softmax":  # in logarithms, so that it stays positive
            self.log_temperature = nn.Parameter(torch.tensor(math.log(FIRST_TEMPERATURE)))

    def forward(
        self,
        image: Tensor,
        maps: Sequence[Tensor],
        texts: Sequence[Tensor],
        between: Callable[[], None] = lambda: None,
    ) -> tuple[Tensor, PseudoPrompts]:
        """Compute F'_v from F_a over all classes, with the memory of one chunk at a time.

        Args:
            image: F_a (B, 256, h, w).
            maps: M^{k-1} (B, n, h, w) of each chunk of n classes.
            texts: F_l (n, D) of each chunk.
            between: called after each chunk.

        Returns:
            F'_v (B, 256, h, w) = F_a + Conv1×1(Σ_n w_n · F'^n), and the SAM prompts of every
            class, leading dimensions (B, N_c).
        """
        config = self.config
        weights = self.class_weights(torch.cat(tuple(maps), 1)).flatten(2)
        shares = weights.split([len(text) for text in texts], dim=1)
        block_prompts, fused = [], image.new_zeros(())
        for chunk, text, share in zip(maps, texts, shares, strict=True):
            prompts = generate_prompts(chunk, config.num_points, config.alpha, config.standardise)
            aware = self.pretrained(image, prompts, self.text_token(text))
            with torch.autocast(image.device.type, enabled=False):
                fused = fused + torch.einsum("bnp,bnpc->bcp", share, aware.float())
            block_prompts.append(prompts)
            between()
        fused = self.fuse(fused.unflatten(2, image.shape[2:]))
        return image + fused, PseudoPrompts.cat(block_prompts, dim=1)

    def class_weights(self, maps: Tensor) -> Tensor:
        """Compute each class's share w of each cell, float32 (B, N_c, h, w), from M^{k-1}."""
        if self.log_temperature is None:
            return torch.full_like(maps, 1 / maps.shape[1])
        return (maps / self.log_temperature.exp()).softmax(dim=1)


def sam_decoder_state(sam: Sam) -> dict[str, Tensor]:
    """Return the part of a SAM's weights that :class:`SamLayers` uses, by its names.

    SAM ViT-B, -L and -H have decoders of one shape: any of them will do.
    """
    decoder = sam.mask_decoder
    parts = {
        "layers": decoder.transformer.layers,
        "iou_token": decoder.iou_token,
        "mask_tokens": decoder.mask_tokens,
        "prompt_encoder": sam.prompt_encoder,
    }
    return {
        f"{part}.{name}": tensor
        for part, module in parts.items()
        for name, tensor in module.state_dict().items()
    }
