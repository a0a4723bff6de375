"""The convolutional trunk: timm's features, packed; and stems that project them to tokens."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from clipsam.models.clip import SurgeryVision
from clipsam.models.image_encoder import embed_patches
from clipsam.models.trunk import (
    ARCHITECTURE,
    LEVELS,
    SemanticSkip,
    Trunk,
    TrunkStem,
    fold_batch_norms,
    own_state,
)
from clipsam.weights.backbones import build_networks
from clipsam.weights.presets import HYBRID, PRESETS

PIXELS = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def timms() -> nn.Module:
    """timm's own network with statistics that folding could get wrong."""
    torch.manual_seed(0)
    network = timm.create_model(ARCHITECTURE, features_only=True, out_indices=(1, 2, 3, 4)).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return network


@pytest.fixture(scope="module")
def trunk(timms) -> Trunk:
    folded = copy.deepcopy(timms)
    fold_batch_norms(folded)
    ours = Trunk()
    ours.network.load_state_dict(folded.state_dict())
    return ours


def level(packed: torch.Tensor, stride: int) -> torch.Tensor:
    """One level out of the packed features, pixel by pixel of its grid."""
    strides = list(LEVELS)
    first = sum(LEVELS[s] * (32 // s) ** 2 for s in strides if s < stride)
    own = packed[:, first : first + LEVELS[stride] * (32 // stride) ** 2]
    if stride == 32:
        return own
    return F.pixel_shuffle(F.pixel_shuffle(own, 2), 16 // stride)


@torch.no_grad()
def test_packed_features_are_timms(timms, trunk):
    packed = trunk(PIXELS)
    assert packed.shape == (2, 3136, 4, 4)
    for stride, expected in zip(LEVELS, timms(PIXELS), strict=True):
        scale = expected.abs().max()
        assert (level(packed, stride) - expected).abs().max() < 1e-4 * scale


@torch.no_grad()
@pytest.mark.parametrize(("patch", "strides"), [(16, (4, 8, 16, 32)), (32, (16, 32)), (16, (32,))])
def test_stem_projects_every_level(trunk, timms, patch, strides):
    """A projection of unpacked levels by hand, cell by cell."""
    torch.manual_seed(1)
    stem = TrunkStem(trunk, 10, patch, strides)
    tokens = stem(PIXELS)
    assert tokens.shape == (2, 10, 128 // patch, 128 // patch)
    levels = dict(zip(LEVELS, timms(PIXELS), strict=True))
    coarse = F.conv2d(levels[32], stem.coarse.weight, stem.coarse.bias)
    if patch == 16:
        coarse = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    row, column = 1, 2
    expected = coarse[0, :, row, column]
    if stem.fine is not None:
        # Channels of a cell: of each level all that lies in it, rows before columns.
        parts = []
        for s in strides[:-1]:
            n = 16 // s
            blocks = []
            for i in range(patch // 16):
                for j in range(patch // 16):
                    top, left = (row * (patch // 16) + i) * n, (column * (patch // 16) + j) * n
                    blocks.append(levels[s][0, :, top : top + n, left : left + n].flatten())
            parts.append(torch.stack(blocks, dim=1).flatten())
        seen = torch.cat(parts)
        expected = expected + stem.fine.weight[:, :, 0, 0] @ seen + stem.fine.bias
    torch.testing.assert_close(tokens[0, :, row, column], expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(stem(trunk(PIXELS)), tokens)


def test_stem_refuses_gaps_and_other_patches(trunk):
    for patch, strides in ((16, (4, 32)), (8, (32,)), (16, (4, 8))):
        with pytest.raises(ValueError, match="16 or 32 pixels wide"):
            TrunkStem(trunk, 4, patch, strides)


@torch.no_grad()
def test_skip_is_the_head_of_every_cell_and_of_their_mean(trunk):
    torch.manual_seed(2)
    skip = SemanticSkip(6)
    coarse = level(trunk(PIXELS), 32)
    head = (coarse.flatten(2).transpose(1, 2) @ skip.head.weight[:, :, 0, 0].T) + skip.head.bias
    head = head.clamp(0, 6)
    out = skip(trunk(PIXELS))
    torch.testing.assert_close(out[:, 1:], head @ skip.project.weight.T, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        out[:, 0], head.mean(1) @ skip.project.weight.T, atol=1e-4, rtol=1e-3
    )


def test_one_trunk_for_both_networks_and_all_copies():
    sam, clip = build_networks(HYBRID)
    trunk = sam.image_encoder.patch_embed.proj.trunk
    vision = SurgeryVision(clip, 1).tunable_copy()
    for other in (clip, vision, copy.deepcopy(clip)):
        assert other.vision_model.embeddings.patch_embedding.trunk is trunk
    assert not any(".trunk." in name for name in (*own_state(sam), *own_state(clip)))
    assert not any(p.requires_grad for p in trunk.parameters())


@torch.no_grad()
def test_networks_take_features_for_images():
    torch.manual_seed(3)
    sam, clip = (network.eval() for network in build_networks(HYBRID))
    pixels = torch.randn(1, 3, 512, 512)
    features = sam.image_encoder.patch_embed.proj.trunk(pixels)
    tokens = embed_patches(sam.image_encoder, pixels)
    assert tokens.shape == (1, 32, 32, 192)
    torch.testing.assert_close(embed_patches(sam.image_encoder, features), tokens)
    vision = SurgeryVision(clip, 1)
    torch.testing.assert_close(vision(features), vision(pixels))
    assert vision(pixels).shape == (1, 257, 384)


@torch.no_grad()
def test_remembered_features_are_the_same_in_half_precision(timms):
    trunk = Trunk()
    plain = trunk(PIXELS)
    trunk.remember(2)
    for _ in range(2):
        scale = plain.abs().max()
        assert (trunk(PIXELS) - plain).abs().max() < 2e-3 * scale


def test_real_presets_have_no_trunk():
    assert not any(preset.has_trunk for preset in PRESETS.values() if preset.sources)
