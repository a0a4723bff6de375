"""Attention of SAM's encoder against segment_anything's, in every way of cutting it up."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from segment_anything.modeling.image_encoder import (
    Attention,
    Block,
    window_partition,
    window_unpartition,
)
from torch import Tensor, nn

from clipsam.models import attention as attention_module
from clipsam.models.adapters import LoraQkv
from clipsam.models.attention import attend
from clipsam.models.image_encoder import _compiled_block, encode_images
from clipsam.models.sam_model import build_sam
from clipsam.models.sizes import SamConfig
from tests.conftest import randomize

close = partial(torch.testing.assert_close, atol=1e-5, rtol=1e-5)
DIM, HEADS = 16, 2
GRIDS = {"square": (6, 6), "padded": (7, 7), "long": (5, 8)}


def make(window: int, grid: tuple[int, int], **settings) -> Attention:
    size = (window, window) if window else grid
    module = Attention(DIM, HEADS, use_rel_pos=True, input_size=size, **settings)
    randomize(module, seed=1)
    return module


def tokens_of(grid: tuple[int, int], batch: int = 2) -> Tensor:
    return torch.randn(batch, *grid, DIM, generator=torch.Generator().manual_seed(2))


def plain(module: Attention, tokens: Tensor, window: int) -> Tensor:
    """As segment_anything's block does it."""
    if not window:
        return module(tokens)
    windows, padded = window_partition(tokens, window)
    return window_unpartition(module(windows), window, padded, tuple(tokens.shape[1:3]))


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("window", [0, 3])
@pytest.mark.parametrize("budget", [4, 300, 3000, 2**24], ids=["row", "rows", "heads", "all"])
@torch.no_grad()
def test_equals_segment_anything(monkeypatch, grid, window, budget):
    """However few queries, heads and images have their bias made at a time."""
    monkeypatch.setattr(attention_module, "_bias_bytes", lambda device: budget)
    module, tokens = make(window, grid), tokens_of(grid)
    close(attend(module, tokens, window), plain(module, tokens, window))


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("window", [0, 3])
@pytest.mark.parametrize("most", [0, 1024], ids=["carried along", "written down"])
@torch.no_grad()
def test_a_gpu_in_half_precision_computes_the_same(monkeypatch, grid, window, most):
    """What its tensor cores are given, in single precision."""
    monkeypatch.setattr(attention_module, "_mix", attention_module._mix_on_tensor_cores)
    monkeypatch.setattr(attention_module, "MAX_BIAS_TOKENS", most)
    module, tokens = make(window, grid), tokens_of(grid)
    close(attend(module, tokens, window), plain(module, tokens, window))


@torch.no_grad()
def test_the_budget_bounds_the_bias(monkeypatch):
    """Blocks of 3000 bytes: 750 of the 2 · 2 · 49² values of a 7 × 7 grid at a time."""
    monkeypatch.setattr(attention_module, "_bias_bytes", lambda device: 3000)
    asked = []
    original = nn.functional.scaled_dot_product_attention

    def record(query, key, value, bias):
        asked.append(bias.numel())
        return original(query, key, value, bias)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", record)
    attend(make(0, (7, 7)), tokens_of((7, 7)), 0)
    assert max(asked) <= 750
    assert sum(asked) == 2 * HEADS * 49**2


@torch.no_grad()
def test_without_relative_positions():
    module = Attention(DIM, HEADS)
    close(attend(module, tokens_of((6, 6)), 0), module(tokens_of((6, 6))))


@torch.no_grad()
def test_relative_positions_of_another_size():
    """segment_anything interpolates them."""
    module = make(0, (9, 9))
    close(attend(module, tokens_of((6, 6)), 0), module(tokens_of((6, 6))))


@torch.no_grad()
def test_lora():
    module = make(3, (7, 7))
    module.qkv = LoraQkv(module.qkv, rank=2)
    randomize(module, seed=3)
    close(attend(module, tokens_of((7, 7)), 3), plain(module, tokens_of((7, 7)), 3))


@torch.no_grad()
def test_padding_before_the_norm():
    """The order of CLIP-Guided SAM's authors: windows are cut, then normalised."""
    block = Block(DIM, HEADS, use_rel_pos=True, window_size=3, input_size=(7, 7))
    randomize(block, seed=4)
    tokens = tokens_of((7, 7))
    windows, padded = window_partition(tokens, 3)
    expected = window_unpartition(block.attn(block.norm1(windows)), 3, padded, (7, 7))
    close(attend(block.attn, block.norm1(tokens), 3, padding=block.norm1.bias), expected)
    assert not torch.allclose(attend(block.attn, block.norm1(tokens), 3), expected, atol=1e-3)


@pytest.mark.parametrize("trainable", ["all", "lora", "input"])
@pytest.mark.parametrize("window", [0, 3])
def test_gradients_equal_segment_anything(window, trainable):
    """Also after the window order was first made in inference mode, and remembered."""
    attention_module._make_window_order.cache_clear()
    module = make(window, (7, 7)).requires_grad_(trainable == "all")
    if trainable == "lora":
        module.qkv = LoraQkv(module.qkv, rank=2)
        randomize(module, seed=3)
    with torch.inference_mode():
        attend(module, tokens_of((7, 7)), window)
    gradients = []
    for way in (attend, plain):
        tokens = tokens_of((7, 7)).requires_grad_(trainable == "input")
        module.zero_grad()
        way(module, tokens, window).square().sum().backward()
        found = [p.grad.clone() for p in module.parameters() if p.requires_grad]
        gradients.append([*found, tokens.grad] if trainable == "input" else found)
    assert len(gradients[0]) == {"all": 6, "lora": 4, "input": 1}[trainable]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_encoder_with_several_images(random_sam):
    images = torch.randn(3, 3, 128, 128, generator=torch.Generator().manual_seed(5))
    close(encode_images(random_sam.image_encoder, images), random_sam.image_encoder(images))


@torch.inference_mode()
def test_compiled_for_sizes_it_meets(monkeypatch, random_sam):
    """Traced, not turned into kernels, which takes a minute on a CPU."""
    traced = partial(torch.compile, backend="eager")
    monkeypatch.setattr(torch, "compile", traced)
    _compiled_block.cache_clear()
    encoder, generator = random_sam.image_encoder, torch.Generator().manual_seed(5)
    for count in (1, 3):
        images = torch.randn(count, 3, 128, 128, generator=generator)
        close(encode_images(encoder, images, compiled=True), encoder(images))
    _compiled_block.cache_clear()


@pytest.mark.slow
@torch.inference_mode()
def test_encoder_at_full_size():
    """1024 pixels, ViT-B's width, a windowed and a global block."""
    sam = build_sam(SamConfig(depth=2, global_blocks=(1,))).eval()
    randomize(sam, seed=6)
    image = torch.randn(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(7))
    close(encode_images(sam.image_encoder, image), sam.image_encoder(image))
