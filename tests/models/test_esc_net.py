"""The whole of ESC-Net: its size, its symmetries, its switches and what is trained."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from clipsam.models.clip import build_clip
from clipsam.models.esc_net import (
    ClipFeatures,
    EscNet,
    EscNetConfig,
    is_pretrained,
    load_sam_decoder,
    sam_decoder_state,
)
from clipsam.models.sizes import ClipSizes
from clipsam.weights.presets import CLIP_B16, CLIP_L14, TINY

ON_L14 = EscNetConfig()
ON_B16 = EscNetConfig(image_size=384, skip_layers=(4, 8))
SIZES = ClipSizes(
    image_size=64,
    patch_size=8,
    projection_dim=24,
    vision_width=32,
    vision_layers=4,
    vision_heads=2,
    text_width=16,
    text_layers=2,
    text_heads=2,
    vocab_size=32,
    context_length=8,
)
SMALL = EscNetConfig(image_size=64, skip_layers=(1, 2), window=4, blocks=2, hidden=32)


def count(module: nn.Module, trainable: bool = False) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable)


def build(shaken: bool = True, sizes: ClipSizes = SIZES, **fields) -> EscNet:
    """A small network; ``shaken``, so that no part is at its initial zero."""
    torch.manual_seed(0)
    network = EscNet(build_clip(sizes), replace(SMALL, **fields)).eval()
    if shaken:
        for name, parameter in network.named_parameters():
            if not name.startswith("clip."):
                parameter.data += 0.05 * torch.randn(parameter.shape)
    return network


def asked(classes: int = 5, batch: int = 2) -> tuple[ClipFeatures, torch.Tensor]:
    """Features of images and unit-norm texts."""
    generator = torch.Generator().manual_seed(3)
    dense, *skips = (torch.randn(batch, c, 8, 8, generator=generator) for c in (24, 32, 32))
    text = torch.randn(classes, 24, generator=generator)
    return ClipFeatures(dense, tuple(skips)), nn.functional.normalize(text, dim=-1)


# Size


@pytest.fixture(scope="module")
def real() -> dict[str, EscNet]:
    """Networks of real size, on no device."""
    with torch.device("meta"):
        return {
            name: EscNet(build_clip(sizes), config)
            for name, sizes, config in (
                ("L", CLIP_L14, ON_L14),
                ("B", CLIP_B16, ON_B16),
                ("L without SAM", CLIP_L14, replace(ON_L14, use_sam=False)),
                ("B without SAM", CLIP_B16, replace(ON_B16, use_sam=False)),
            )
        }


@pytest.mark.parametrize(
    ("name", "millions", "exactly"),
    [
        ("L", 451.26, 451_282_057),
        ("B", 171.60, 171_615_113),
        ("L without SAM", 437.57, 437_565_269),
        ("B without SAM", 158.16, 158_160_469),
    ],
)
def test_parameters_in_all(real, name, millions, exactly):
    """The paper reports 451.3M on ViT-L/14."""
    assert count(real[name]) == exactly
    assert abs(exactly / 1e6 - millions) < 0.05
    assert count(real[name].clip) == {"L": 427_944_193, "B": 149_620_737}[name[0]]


def test_parameters_of_each_part(real):
    network = real["L"]
    assert count(network.decoder) == 3_400_273
    for block in network.blocks:
        assert count(block.neck) == 787_456
        pretrained = block.sam.pretrained
        assert count(pretrained.prompt_encoder) == 6_220
        assert count(pretrained) - 6_220 == 3_160_320
        assert count(block.sam.text_token) == 196_864
        assert count(block.sam.fuse) == 65_792
        assert count(block.fusion.spatial) == 527_616
        assert count(block.fusion.classes) == 214_656


@pytest.mark.parametrize(("blocks", "millions"), [(1, 436.40), (2, 441.36), (3, 446.32)])
def test_parameters_by_blocks(blocks, millions):
    with torch.device("meta"):
        network = EscNet(build_clip(CLIP_L14), replace(ON_L14, blocks=blocks))
    assert abs(count(network) / 1e6 - millions) < 0.005


def test_trained_of_clip_are_queries_and_values(real):
    """Two square matrices per layer of both towers, but for the last vision layer's queries."""
    assert count(real["L"].clip, trainable=True) == (2 * 24 - 1) * 1024**2 + 2 * 12 * 768**2
    assert count(real["B"].clip, trainable=True) == (2 * 12 - 1) * 768**2 + 2 * 12 * 512**2


# Symmetries


@torch.no_grad()
def test_classes_in_another_order_give_the_same():
    network, (features, text) = build(), asked()
    order = torch.tensor([3, 0, 4, 1, 2])
    there, here = network(features, text[order]), network(features, text)
    torch.testing.assert_close(there.logits, here.logits[:, order], atol=1e-5, rtol=1e-5)
    for a, b in zip(there.blocks, here.blocks, strict=True):
        torch.testing.assert_close(a.maps, b.maps[:, order], atol=1e-5, rtol=1e-5)
        assert a.prompts.points.equal(b.prompts.points[:, order])


@pytest.mark.parametrize("chunk", [1, 2, 3, 9])
def test_chunks_give_the_same(chunk):
    network, (features, text) = build(), asked()
    whole, chunked = network(features, text), network(features, text, chunk)
    torch.testing.assert_close(chunked.logits, whole.logits, atol=1e-5, rtol=1e-5)
    assert chunked.correlation.equal(whole.correlation)
    for a, b in zip(chunked.blocks, whole.blocks, strict=True):
        torch.testing.assert_close(a.maps, b.maps, atol=1e-5, rtol=1e-5)
        assert a.prompts.regions.equal(b.prompts.regions)
    gradients = []
    for output in (whole, chunked):
        network.zero_grad()
        output.logits.square().mean().backward()
        gradients.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
    # As a whole per parameter: single entries near zero are sums that cancel, in another order.
    for one, other in zip(*gradients, strict=True):
        assert (one - other).norm() <= 5e-3 * one.norm() + 1e-6


@torch.no_grad()
def test_an_image_does_not_see_its_batch():
    network, (features, text) = build(), asked(batch=3)
    alone = ClipFeatures(features.dense[1:2], tuple(skip[1:2] for skip in features.skips))
    found, expected = network(alone, text).logits[0], network(features, text).logits[1]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_classes_meet_in_the_image_features_and_the_words_alone():
    """With both silenced, another class changes nothing; with either, something."""
    features, text = asked()

    def change(network: EscNet) -> float:
        fewer = network(features, text[:4]).logits
        return (network(features, text).logits[:, :4] - fewer).abs().max().item()

    def silence(network: EscNet, image: bool, words: bool) -> EscNet:
        for block in network.blocks:
            if image:
                block.sam.fuse.weight.zero_()
            if words:
                block.fusion.classes.projection.weight.zero_()
        return network

    assert change(silence(build(), image=True, words=True)) < 1e-5
    assert change(silence(build(), image=True, words=False)) > 1e-4
    assert change(silence(build(), image=False, words=True)) > 1e-4


@torch.no_grad()
def test_at_first_maps_stay_clips_own():
    network, (features, text) = build(shaken=False, blocks=3), asked()
    output = network(features, text)
    for block in output.blocks:
        assert block.maps.equal(output.correlation)
    shaken = build(blocks=3)(features, text)
    assert not shaken.blocks[1].maps.equal(shaken.correlation)


# Switches


@pytest.mark.parametrize(
    "fields",
    [
        *(dict(blocks=blocks) for blocks in range(5)),
        dict(use_sam=False),
        dict(prompts=("point",)),
        dict(prompts=("box",)),
        dict(prompts=("box", "mask")),
        dict(prompts=("point", "box", "mask")),
        dict(prompts=()),
        dict(num_points=1),
        dict(alpha=2.0),
        dict(alpha=0.001, standardise=False),
        dict(fuse="mean"),
        dict(window=8),
    ],
    ids=str,
)
def test_every_switch_runs_and_trains(fields):
    """The answer has its form, and each trainable parameter a gradient."""
    network = build(**fields)
    ids = torch.tensor([[30, n, 31] for n in range(5)])
    pooled = network.clip.text_model(input_ids=ids).pooler_output
    text = nn.functional.normalize(network.clip.text_projection(pooled), dim=-1)
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    output = network(network.encode_image(pixels), text)
    assert output.logits.shape == (2, 5, 32, 32)
    assert output.correlation.shape == (2, 5, 8, 8)
    assert output.correlation.abs().max() <= 1.001
    config = network.config
    assert len(output.blocks) == config.blocks
    for block in output.blocks:
        assert block.maps.shape == (2, 5, 8, 8)
        assert not block.maps.requires_grad
        assert (block.prompts is None) == (not config.use_sam)
        if config.use_sam:
            assert block.prompts.points.shape == (2, 5, config.num_points, 2)
            assert block.prompts.valid.shape == (2, 5, config.num_points)
            assert block.prompts.regions.shape == (2, 5, config.num_points, 8, 8)
    output.logits.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        # Boxes need no padding token, and here every cluster has its cells.
        if parameter.requires_grad and not ("box" in config.prompts and "not_a_point" in name):
            assert parameter.grad.any(), name


def test_what_is_frozen():
    """CLIP but for its queries and values, and the prompt embeddings that nothing asks for."""
    frozen = {
        name.partition("prompt_encoder.")[2]
        for name, parameter in build(blocks=1).named_parameters()
        if not parameter.requires_grad and not name.startswith("clip.")
    }
    unused = {f"point_embeddings.{kind}.weight" for kind in (0, 2, 3)}
    assert frozen == unused | {"no_mask_embed.weight"}


def test_tiny_and_real_designs_fit_their_clip():
    network = build(False, TINY.clip, image_size=256, window=8, skip_layers=(2, 4), hidden=128)
    with torch.no_grad():
        features = network.encode_image(torch.zeros(1, 3, 256, 256))
        text = nn.functional.normalize(torch.randn(2, 192), dim=-1)
        assert network(features, text).logits.shape == (1, 2, 64, 64)
    assert (ON_L14.grid(14), ON_B16.grid(16)) == (24, 24)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "config"), [(CLIP_B16, ON_B16), (CLIP_L14, ON_L14)], ids=["B", "L"]
)
@torch.inference_mode()
def test_real_sizes_run(sizes, config):
    network = EscNet(build_clip(sizes), config).eval()
    features = network.encode_image(torch.zeros(1, 3, config.image_size, config.image_size))
    assert features.dense.shape == (1, sizes.projection_dim, 24, 24)
    text = nn.functional.normalize(torch.randn(3, sizes.projection_dim), dim=-1)
    output = network(features, text, chunk=2)
    assert output.logits.shape == (1, 3, 96, 96)
    assert output.logits.isfinite().all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(prompts=("click",)), "click"),
        (dict(fuse="max"), "max"),
        (dict(blocks=-1), "-1"),
        (dict(num_points=0), "num_points"),
        (dict(image_size=60), "multiple of patch × window = 8 × 4, got 60"),
        (dict(window=3), "8 × 3, got 64"),
        (dict(skip_layers=(2, 4)), r"1..3, got \(2, 4\)"),
        (dict(skip_layers=(2, 1)), r"got \(2, 1\)"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        build(**fields)


def test_a_configuration_survives_json():
    config = replace(SMALL, prompts=("box",), fuse="mean")
    assert EscNetConfig.from_json(json.loads(json.dumps(asdict(config)))) == config


# Training


def test_sam_is_loaded_into_every_block(random_sam):
    network = build()
    load_sam_decoder(network, random_sam)
    state = random_sam.state_dict()
    names = {
        "layers.1.mlp.lin2.weight": "mask_decoder.transformer.layers.1.mlp.lin2.weight",
        "layers.0.self_attn.q_proj.bias": "mask_decoder.transformer.layers.0.self_attn.q_proj.bias",
        "iou_token.weight": "mask_decoder.iou_token.weight",
        "mask_tokens.weight": "mask_decoder.mask_tokens.weight",
        "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix": (
            "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
        ),
        "prompt_encoder.mask_downscaling.6.weight": "prompt_encoder.mask_downscaling.6.weight",
    }
    for block in network.blocks:
        own = block.sam.pretrained.state_dict()
        assert set(own) == set(sam_decoder_state(random_sam))
        for name, original in names.items():
            assert own[name].equal(state[original])
    weights = [block.sam.pretrained.iou_token.weight.data_ptr() for block in network.blocks]
    assert len({*weights, random_sam.mask_decoder.iou_token.weight.data_ptr()}) == 3
    load_sam_decoder(build(use_sam=False), random_sam)


def test_parameter_groups():
    network = build()
    groups = {group.pop("name"): group for group in network.parameter_groups()}
    assert set(groups) == {"head", "head norms", "pretrained", "pretrained norms"}
    for name, group in groups.items():
        assert group["lr"] == (2e-6 if name.startswith("pretrained") else 2e-4)
        assert group["weight_decay"] == (0 if name.endswith("norms") else 1e-4)
    listed = [id(p) for group in groups.values() for p in group["params"]]
    trained = [id(p) for p in network.parameters() if p.requires_grad]
    assert sorted(listed) == sorted(trained)
    block, heads = network.blocks[0], {id(p) for p in groups["head"]["params"]}
    for new in (block.neck[0], block.sam.text_token, block.sam.fuse, network.decoder.head):
        assert id(new.weight) in heads
    assert id(block.sam.log_temperature) in heads
    assert is_pretrained("blocks.0.sam.pretrained.iou_token.weight")
    assert not is_pretrained("blocks.0.sam.fuse.weight")
    norms = {id(p) for p in groups["pretrained norms"]["params"]}
    assert id(block.sam.pretrained.layers[0].norm1.weight) in norms
    assert id(block.sam.pretrained.prompt_encoder.mask_downscaling[1].weight) in norms
    torch.optim.AdamW(network.parameter_groups())


def test_a_bundle_holds_what_training_changes():
    network = build()
    state = network.trainable_state()
    assert set(state) == {n for n, p in network.named_parameters() if p.requires_grad}
    # Random frequencies of positions come from no checkpoint, and must be kept.
    random = build(pretrained_sam=False).trainable_state()
    extra = "sam.pretrained.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
    assert set(random) - set(state) == {f"blocks.{index}.{extra}" for index in (0, 1)}


def test_half_precision_around_it():
    """Under autocast, prompts and maps stay in full precision."""
    network, (features, text) = build(), asked()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        output = network(features, text)
    assert output.correlation.dtype == torch.float32
    assert all(block.maps.dtype == torch.float32 for block in output.blocks)
    exact = network(features, text)
    assert output.blocks[0].prompts.regions.equal(exact.blocks[0].prompts.regions)
    torch.testing.assert_close(output.logits.float(), exact.logits, atol=0.1, rtol=0.1)
