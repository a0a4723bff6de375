"""SAM 2.1 for single images, built from sam2's classes, with batched decoding.

Of a video model's parts only those are here that an image passes through: there is no memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from sam2.modeling.backbones.hieradet import Hiera
from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
from sam2.modeling.sam.mask_decoder import MaskDecoder
from sam2.modeling.sam.prompt_encoder import PromptEncoder
from sam2.modeling.sam.transformer import TwoWayTransformer
from torch import Tensor, nn

from .sam_model import PROMPT_DIM


@dataclass(frozen=True)
class Sam2Config:
    """Sizes of a SAM 2.1, named as in sam2's configurations; the defaults are Hiera-T's.

    Attributes:
        image_size: side of the square input, pixels; a multiple of 32.
        embed_dim, num_heads: of the first stage; both double with every further stage.
        stages: blocks per stage.
        global_att_blocks: indices of the blocks with global attention; the others use windows.
        window_spec: side of a window per stage, in tokens of that stage.
        window_pos_embed_bkg_spatial_size: (height, width) of the learnt positions that are
            enlarged to the first stage's grid.
    """

    image_size: int = 1024
    embed_dim: int = 96
    num_heads: int = 1
    stages: tuple[int, ...] = (1, 2, 7, 2)
    global_att_blocks: tuple[int, ...] = (5, 7, 9)
    window_spec: tuple[int, ...] = (8, 4, 14, 7)
    window_pos_embed_bkg_spatial_size: tuple[int, int] = (7, 7)

    @property
    def mask_side(self) -> int:
        """Side of SAM 2's low-resolution masks and of its mask prompt."""
        return self.image_size // 4


STRIDE = 16
"""Pixels per token of the image embedding, in all published SAM 2s."""


class Sam2Image(nn.Module):
    """The image parts of SAM 2.1, used by :func:`embed` and :func:`decode_masks`.

    Attributes:
        config: its sizes.
        image_encoder, sam_prompt_encoder, sam_mask_decoder, no_mem_embed: as in ``SAM2Base``.
    """

    def __init__(self, config: Sam2Config) -> None:
        super().__init__()
        self.config = config
        self.image_encoder = _build_image_encoder(config)
        grid = config.image_size // STRIDE
        self.sam_prompt_encoder = PromptEncoder(
            embed_dim=PROMPT_DIM,
            image_embedding_size=(grid, grid),
            input_image_size=(config.image_size, config.image_size),
            mask_in_chans=16,
        )
        self.sam_mask_decoder = MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(
                depth=2, embedding_dim=PROMPT_DIM, mlp_dim=2048, num_heads=8
            ),
            transformer_dim=PROMPT_DIM,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
            use_high_res_features=True,
            iou_prediction_use_sigmoid=True,
            pred_obj_scores=True,
            pred_obj_scores_mlp=True,
            # The configurations leave these three to sam2's builder, which sets them.
            dynamic_multimask_via_stability=True,
            dynamic_multimask_stability_delta=0.05,
            dynamic_multimask_stability_thresh=0.98,
        )
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, PROMPT_DIM))
        nn.init.trunc_normal_(self.no_mem_embed, std=0.02)


def build_sam2(config: Sam2Config) -> Sam2Image:
    """Build a randomly initialised SAM 2.1 with state-dict names of Meta's files."""
    return Sam2Image(config)


def _build_image_encoder(config: Sam2Config) -> ImageEncoder:
    trunk = Hiera(
        embed_dim=config.embed_dim,
        num_heads=config.num_heads,
        stages=config.stages,
        global_att_blocks=config.global_att_blocks,
        window_pos_embed_bkg_spatial_size=config.window_pos_embed_bkg_spatial_size,
        window_spec=config.window_spec,
    )
    neck = FpnNeck(
        # Positions on the feature maps are for the memory; at full size they cost 90 MB.
        position_encoding=nn.Identity(),
        d_model=PROMPT_DIM,
        backbone_channel_list=trunk.channel_list,
        fpn_top_down_levels=[2, 3],
        fpn_interp_model="nearest",
    )
    return ImageEncoder(trunk, neck, scalp=1)


def embed(network: Sam2Image, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Embed B images for the mask decoder, as ``SAM2ImagePredictor.set_image`` does.

    Args:
        network: SAM 2.1.
        pixels: (B, 3, S, S), the image squashed to a square, normalised by ImageNet's mean and
            standard deviation.

    Returns:
        The image embedding (B, 256, S / 16, S / 16), and two feature maps of higher resolution:
        (B, 32, S / 4, S / 4) and (B, 64, S / 8, S / 8).
    """
    quarter, eighth, embedding = network.image_encoder(pixels)["backbone_fpn"]
    decoder = network.sam_mask_decoder
    no_memory = network.no_mem_embed.view(1, -1, 1, 1)
    return embedding + no_memory, decoder.conv_s0(quarter), decoder.conv_s1(eighth)


def decode_masks(
    network: Sam2Image,
    embedding: Tensor,
    high_resolution: Sequence[Tensor],
    points: tuple[Tensor, Tensor] | None = None,
    boxes: Tensor | None = None,
    dense: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Decode the masks of B prompts, all on one image or each on its own.

    Args:
        network: SAM 2.1.
        embedding: (1 or B, 256, h, w), of :func:`embed`.
        high_resolution: the two feature maps of :func:`embed`, for as many images.
        points: coordinates (B, N, 2) as (x, y) in input pixels, labels (B, N): 1 foreground,
            0 background, -1 padding.
        boxes: (B, 4) as (x0, y0, x1, y1) in input pixels.
        dense: (B, 1, 4h, 4w) mask logits.

    Returns:
        Logits (B, 4, 4h, 4w) and predicted IoU (B, 4). Mask 0 is SAM 2's single-mask output, for
        prompts that leave no doubt; where it wavers, it and its IoU are those of the best
        candidate. Masks 1..3 are the candidates for ambiguous prompts.
    """
    sparse, dense_embedding = network.sam_prompt_encoder(
        points=_with_corners(points, boxes), boxes=None, masks=dense
    )
    pairs = max(len(embedding), len(sparse))
    decoder = network.sam_mask_decoder
    logits, scores, _, _ = decoder.predict_masks(
        image_embeddings=embedding.expand(pairs, -1, -1, -1),
        image_pe=network.sam_prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse.expand(pairs, -1, -1),
        dense_prompt_embeddings=dense_embedding,
        repeat_image=False,
        high_res_features=high_resolution,
    )
    # The decoder's own call gives either the one mask or the candidates, never both.
    single, single_score = decoder._dynamic_multimask_via_stability(logits, scores)
    return torch.cat((single, logits[:, 1:]), 1), torch.cat((single_score, scores[:, 1:]), 1)


def _with_corners(
    points: tuple[Tensor, Tensor] | None, boxes: Tensor | None
) -> tuple[Tensor, Tensor] | None:
    """Prepend the boxes' corners, labelled 2 and 3, to points (B, N, 2) and labels (B, N).

    Given apart, the prompt encoder would leave out the padding point that SAM 2 always has.
    """
    if boxes is None:
        return points
    corners = boxes.reshape(-1, 2, 2)
    labels = torch.tensor([[2, 3]], device=boxes.device).expand(len(boxes), -1)
    if points is None:
        return corners, labels
    return torch.cat((corners, points[0]), dim=1), torch.cat((labels, points[1]), dim=1)
