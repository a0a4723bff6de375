"""The parts of ESC-Net, each against transformers, segment-anything or a formula written out."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from clipsam.models.clip import SurgeryVision, build_clip
from clipsam.models.esc_net.clip_features import (
    correlate,
    encode_classes,
    encode_image,
    tunable_clip,
)
from clipsam.models.esc_net.config import EscNetConfig
from clipsam.models.esc_net.decoder import Decoder
from clipsam.models.esc_net.fusion import HEADS, ClassAttention, SwinBlock
from clipsam.models.esc_net.prompts import generate_prompts
from clipsam.models.esc_net.sam_block import SamBlock, SamLayers, sam_decoder_state
from clipsam.models.sizes import ClipSizes
from tests.standins.bpe import train_tokenizer

SIZES = ClipSizes(
    image_size=32,
    patch_size=8,
    projection_dim=24,
    vision_width=32,
    vision_layers=5,
    vision_heads=2,
    text_width=16,
    text_layers=2,
    text_heads=2,
    vocab_size=400,
    context_length=20,
)
GRID = 6


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    return build_clip(SIZES).eval().requires_grad_(False)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def shaken(module: nn.Module, seed: int = 0) -> nn.Module:
    """With noise on every parameter, so that nothing hides behind an initial zero or one."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return module.eval()


# CLIP


@torch.no_grad()
@pytest.mark.parametrize("side", [32, 48])
def test_dense_features(clip, side):
    """Section 1 of the design, on the hidden states that transformers itself returns."""
    pixels = noise(2, 3, side, side)
    features = encode_image(clip, pixels, EscNetConfig(skip_layers=(2, 3)))
    vision, cells = clip.vision_model, side // 8
    states = vision(
        pixel_values=pixels, output_hidden_states=True, interpolate_pos_encoding=True
    ).hidden_states

    def grid(tokens: torch.Tensor) -> torch.Tensor:
        return tokens[:, 1:].transpose(1, 2).reshape(2, -1, cells, cells)

    torch.testing.assert_close(features.skips[0], grid(states[2]))
    torch.testing.assert_close(features.skips[1], grid(states[3]))
    # With a single key, attention is the value itself: transformers' own attention, per position.
    last, before = vision.encoder.layers[-1], states[4]
    alone = last.layer_norm1(before).reshape(-1, 1, SIZES.vision_width)
    value = last.self_attn(alone, attention_mask=None)[0].reshape(before.shape)
    z = value + before[:, :1]
    z = z + last.mlp(last.layer_norm2(z))
    expected = clip.visual_projection(vision.post_layernorm(z))
    torch.testing.assert_close(features.dense, grid(expected), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_dense_features_by_clip_surgery(clip):
    """The tiny CLIP has learnt to be read so; the skip features stay transformers' own."""
    pixels = noise(2, 3, 32, 32)
    features = encode_image(clip, pixels, EscNetConfig(skip_layers=(2, 4), surgery_layers=2))
    states = clip.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states
    for skip, number in zip(features.skips, (2, 4), strict=True):
        expected = states[number][:, 1:].transpose(1, 2).reshape(2, -1, 4, 4)
        torch.testing.assert_close(skip, expected)
    tokens = SurgeryVision(clip, 2)(pixels)
    torch.testing.assert_close(features.dense.flatten(2), tokens[:, 1:].transpose(1, 2))


def test_only_queries_and_values_are_tuned(clip):
    tuned = tunable_clip(clip)
    trainable = {name for name, p in tuned.named_parameters() if p.requires_grad}
    expected = {
        f"{tower}_model.encoder.layers.{layer}.self_attn.{part}_proj.weight"
        for tower, layers in (("vision", 5), ("text", 2))
        for layer in range(layers)
        for part in "qv"
    } - {"vision_model.encoder.layers.4.self_attn.q_proj.weight"}
    assert trainable == expected
    # What is tuned is a copy, the rest is the same memory.
    originals = dict(clip.named_parameters())
    for name, parameter in tuned.named_parameters():
        assert (parameter is originals[name]) == (name not in expected)
        assert parameter.equal(originals[name])
    assert not any(p.requires_grad for p in clip.parameters())


def test_class_texts(clip):
    names = ["cat", "door, double door", "a very long name of a thing"]
    prompts = [f"A photo of a {name} in the scene" for name in ("cat", "door", names[2])]
    tokenizer = train_tokenizer(prompts, SIZES.vocab_size)
    found = encode_classes(tunable_clip(clip), tokenizer, names, EscNetConfig().template)
    ids = tokenizer(prompts, padding="max_length", max_length=20, return_tensors="pt").input_ids
    pooled = clip.text_model(input_ids=ids).pooler_output
    expected = F.normalize(clip.text_projection(pooled), dim=-1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert found.requires_grad


def test_correlation_is_a_cosine():
    dense, text = noise(2, 24, 3, 3), noise(4, 24, seed=1)
    maps = correlate(dense, text)
    for b, n, y, x in ((0, 0, 0, 0), (1, 3, 2, 1)):
        expected = F.cosine_similarity(dense[b, :, y, x], text[n], dim=0)
        torch.testing.assert_close(maps[b, n, y, x], expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert correlate(dense.bfloat16(), text).dtype == torch.float32


# SAM


@pytest.fixture
def told():
    maps = noise(2, 3, GRID, GRID, seed=5)
    maps[0, 1] = 0
    maps[0, 1, 2, 3] = 1  # one cell: four empty clusters
    return generate_prompts(maps, 5)


@pytest.fixture(params=[("point", "mask"), ("box",), ("mask",), ("point", "box", "mask"), ()])
def layers(request, random_sam) -> SamLayers:
    layers = SamLayers(GRID, request.param)
    layers.load_state_dict(sam_decoder_state(random_sam))
    return layers.eval()


def sams_own_prompts(layers: SamLayers, told) -> tuple[torch.Tensor, torch.Tensor]:
    """What segment-anything's prompt encoder makes of the same, on a grid of cells."""
    encoder, kinds = layers.prompt_encoder, layers.prompts
    valid = told.valid.flatten(0, 1)
    rows, sparse = len(valid), []
    if "point" in kinds:
        points, labels = told.points.flatten(0, 1).float(), valid.float() * 2 - 1
        sparse.append(encoder._embed_points(points, labels, pad="box" not in kinds))
    if "box" in kinds:
        boxes = encoder._embed_boxes(told.boxes.flatten(0, 2).float()).view(rows, 5, 2, 256)
        nothing = encoder.not_a_point_embed.weight
        sparse.append(torch.where(valid[..., None, None], boxes, nothing).view(rows, 10, 256))
    dense = encoder.no_mask_embed.weight.view(1, 256, 1, 1).expand(rows, 256, GRID, GRID)
    if "mask" in kinds:
        union = told.regions.flatten(0, 1).any(1).float() * 2 - 1
        dense = encoder._embed_masks(torch.kron(union[:, None], torch.full((4, 4), 6.9)))
    return torch.cat([torch.zeros(rows, 0, 256), *sparse], dim=1), dense


@torch.no_grad()
def test_positions_are_sams(layers):
    encoder = layers.prompt_encoder
    torch.testing.assert_close(layers.positions(), encoder.get_dense_pe()[0].flatten(1).T)
    y, x = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
    centres = torch.stack((x, y), -1).view(1, -1, 2) + 0.5
    points = encoder.pe_layer.forward_with_coords(centres, (GRID, GRID))
    torch.testing.assert_close(layers.positions(), points[0], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_prompts_are_encoded_as_sam_does(layers, told):
    sparse, dense = sams_own_prompts(layers, told)
    found = layers.sparse_tokens(told, layers.positions()).flatten(0, 1)
    torch.testing.assert_close(found, sparse, atol=1e-4, rtol=1e-4)
    found = layers.dense_prompt(told).expand(2, 3, GRID * GRID, 256)
    expected = dense.flatten(2).transpose(1, 2).unflatten(0, (2, 3))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_image_features_are_those_of_sams_decoder(layers, told, random_sam):
    """The keys that SAM's whole transformer returns, for the same tokens and prompts."""
    image, text = noise(2, 256, GRID, GRID), noise(3, 256, seed=1)
    sparse, dense = sams_own_prompts(layers, told)
    decoder = random_sam.mask_decoder
    output = torch.cat((decoder.iou_token.weight, decoder.mask_tokens.weight))
    tokens = (output.expand(6, -1, -1), sparse, text.repeat(2, 1)[:, None])
    embedding = image.repeat_interleave(3, dim=0) + dense
    positions = layers.prompt_encoder.get_dense_pe().expand(6, -1, -1, -1)
    _, expected = decoder.transformer(embedding, positions, torch.cat(tokens, dim=1))
    found = layers(image, told, text).flatten(0, 1)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("number", [0, 1])
def test_a_layer_is_segment_anythings(random_sam, number):
    """Its numbers within 1e-5, and its gradients."""
    own = copy.deepcopy(random_sam.mask_decoder.transformer.layers[number]).requires_grad_(True)
    layer = SamLayers(GRID, ()).layers[number]
    layer.load_state_dict(own.state_dict())
    given = [noise(3, 7, 256), noise(3, GRID**2, 256, seed=1), noise(3, 7, 256, seed=2)]
    positions = noise(GRID**2, 256, seed=3)
    found, expected = layer(*given, positions), own(*given, positions.expand(3, -1, -1))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    for answer in (found, expected):
        sum(part.square().mean() for part in answer).backward()
    for (name, one), other in zip(layer.named_parameters(), own.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-4, msg=name)


@torch.no_grad()
@pytest.mark.parametrize("fuse", ["softmax", "mean"])
def test_the_image_sees_a_weighted_mean_over_the_classes(fuse, random_sam):
    block = SamBlock(EscNetConfig(fuse=fuse), text_dim=24, grid=GRID)
    block.pretrained.load_state_dict(sam_decoder_state(random_sam))
    image, maps, text = noise(2, 256, GRID, GRID), noise(2, 3, GRID, GRID, seed=1), noise(3, 24)
    # Zero at first: what the text says cannot matter yet.
    first = block(image, [maps], [text])[0]
    torch.testing.assert_close(first, block(image, [maps], [text.flip(0)])[0])
    shaken(block)
    found, told = block(image, [maps[:, :2], maps[:, 2:]], [text[:2], text[2:]])
    aware = block.pretrained(image, told, block.text_token(text))
    weight = torch.full((2, 3, GRID, GRID), 1 / 3)
    if fuse == "softmax":
        raised = (maps / block.log_temperature.exp()).exp()
        weight = raised / raised.sum(1, keepdim=True)
    total = sum(weight[:, n].flatten(1)[..., None] * aware[:, n] for n in range(3))
    fused = total @ block.fuse.weight[:, :, 0, 0].T + block.fuse.bias
    expected = image + fused.transpose(1, 2).view_as(image)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_the_first_temperature():
    block = SamBlock(EscNetConfig(), text_dim=24, grid=GRID)
    assert math.isclose(block.log_temperature.exp().item(), 0.05, rel_tol=1e-6)


# Fusion


@torch.no_grad()
@pytest.mark.parametrize("shift", [0, 2])
def test_swin_attends_within_windows(shift):
    """One query at a time; a window is where its cells lie, no cell looks over the edge."""
    dim, guide, grid, window = 16, 12, 8, 4
    block = shaken(SwinBlock(dim, guide, grid, window, shift))
    state, guidance = noise(2, 2, grid, grid, dim), noise(2, 1, grid, grid, guide, seed=1)
    found = block(state, guidance)

    hidden = block.norm1(state)
    joint = torch.cat((hidden, guidance.expand(-1, 2, -1, -1, -1)), dim=-1)
    query = F.linear(joint, block.query.weight, block.query.bias)
    key = F.linear(joint, block.key.weight, block.key.bias)
    value = block.value(hidden)
    mixed = torch.empty_like(value)
    place = {
        (y, x): ((y - shift) // window, (x - shift) // window) for y in range(8) for x in range(8)
    }
    for (y, x), own in place.items():
        ys, xs = zip(*(cell for cell, other in place.items() if other == own), strict=True)
        for head in range(HEADS):
            part = slice(head * dim // HEADS, (head + 1) * dim // HEADS)
            seen = key[:, :, list(ys), list(xs), part]
            score = torch.einsum("bnc,bnkc->bnk", query[:, :, y, x, part], seen)
            share = (score / math.sqrt(dim / HEADS)).softmax(-1)
            values = value[:, :, list(ys), list(xs), part]
            mixed[:, :, y, x, part] = torch.einsum("bnk,bnkc->bnc", share, values)
    expected = state + block.projection(mixed)
    expected = expected + block.mlp(block.norm2(expected))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_class_attention_weighs_the_words_of_all_classes():
    dim, classes = 16, 5
    attention = shaken(ClassAttention(dim))
    state, words = noise(2, classes, 3, 3, dim), noise(classes, dim, seed=1).relu()
    found = attention(state, words, attention.remember(words))

    def kernel(x: torch.Tensor) -> torch.Tensor:
        return torch.where(x > 0, x + 1, x.exp())

    hidden = attention.norm1(state)
    joint = torch.cat((hidden, words.view(1, classes, 1, 1, dim).expand_as(hidden)), dim=-1)
    query = kernel(F.linear(joint, attention.query.weight, attention.query.bias))
    key, value = kernel(attention.key(words)), attention.value(words)
    read = torch.zeros_like(state)
    for head in range(HEADS):
        part = slice(head * dim // HEADS, (head + 1) * dim // HEADS)
        weight = query[..., part] @ key[:, part].T
        read[..., part] = weight / weight.sum(-1, keepdim=True) @ value[:, part]
    expected = state + attention.projection(read)
    expected = expected + attention.mlp(attention.norm2(expected))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


# Decoder


@torch.no_grad()
def test_decoder():
    decoder = shaken(Decoder(hidden=32, skip_channels=20))
    state, skips = noise(2, 3, 4, 4, 32), (noise(2, 20, 4, 4), noise(2, 20, 4, 4, seed=1))
    read = decoder.read_skips(skips)
    skips = [narrow(features) for narrow, features in zip(decoder.skips, skips, strict=True)]
    assert [tuple(s.shape) for s in skips] == [(2, 32, 8, 8), (2, 16, 16, 16)]
    logits = decoder(state, read)
    assert logits.shape == (2, 3, 16, 16)

    def enlarge(x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    for b in range(2):
        for n in range(3):
            x = state[b, n].permute(2, 0, 1)[None]
            for skip, convolve in zip(skips, decoder.convolutions, strict=True):
                x = torch.cat((enlarge(x), skip[b : b + 1]), dim=1)
                for i in (0, 3):
                    x = F.conv2d(x, convolve[i].weight, padding=1)
                    groups = x.unflatten(1, (-1, 16)).flatten(2)
                    mean = groups.mean(2)[..., None, None, None]
                    spread = groups.var(2, correction=0)[..., None, None, None]
                    x = (x.unflatten(1, (-1, 16)) - mean) / (spread + 1e-5).sqrt()
                    norm = convolve[i + 1]
                    x = (
                        x.flatten(1, 2) * norm.weight[:, None, None] + norm.bias[:, None, None]
                    ).relu()
            expected = F.conv2d(x, decoder.head.weight, decoder.head.bias, padding=1)[0, 0]
            torch.testing.assert_close(logits[b, n], expected, atol=1e-4, rtol=1e-4)
