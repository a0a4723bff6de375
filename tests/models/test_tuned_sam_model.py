"""The network of all tuned methods: what it adds, shares, sees and tunes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from clipsam.models.clip import SurgeryVision, build_clip
from clipsam.models.image_encoder import AdapterConfig, embed_patches, run_plain_blocks
from clipsam.models.sizes import ClipSizes
from clipsam.models.tuned_sam_model import TunedSam, TunedSamConfig
from tests.conftest import randomize

SIZES = ClipSizes(
    image_size=32,
    surgery_size=32,
    patch_size=8,
    projection_dim=24,
    vision_width=32,
    vision_layers=3,
    vision_heads=2,
    text_width=16,
    text_layers=1,
    text_heads=2,
    vocab_size=32,
    context_length=8,
    surgery_layers=2,
)
DESIGNS = {
    "decoder": TunedSamConfig(),
    "parallel": TunedSamConfig(AdapterConfig(semantic_dim=24)),
    "series": TunedSamConfig(AdapterConfig(layout="series", semantic_dim=24)),
    "mix": TunedSamConfig(AdapterConfig(layout="mix", semantic_dim=24)),
    "lora": TunedSamConfig(AdapterConfig(layout="lora", semantic_dim=24)),
    "text": TunedSamConfig(AdapterConfig(text=True, last_blocks=2, semantic_dim=24)),
    "all": TunedSamConfig(
        AdapterConfig(text=True, vision=True, similarity=True, semantic_dim=24),
        clip="surgery",
        clip_blocks=None,
        dense_prompt=True,
    ),
}


@pytest.fixture(scope="module")
def vision() -> SurgeryVision:
    torch.manual_seed(1)
    clip = build_clip(SIZES).eval().requires_grad_(False)
    return SurgeryVision(clip, SIZES.surgery_layers)


@pytest.fixture
def asked() -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised CLIP tokens and text of two classes."""
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randn(2, 17, 24, generator=generator)
    text = torch.randn(2, 24, generator=generator)
    return nn.functional.normalize(tokens, dim=-1), nn.functional.normalize(text, dim=-1)


def embed(model: TunedSam, images: torch.Tensor, asked) -> torch.Tensor:
    encoder = model.image_encoder
    prefix = run_plain_blocks(encoder, embed_patches(encoder, images), 0, encoder.first_adapted)
    return encoder.run_adapted(prefix, model.condition(*asked, None))


@pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS)
@torch.no_grad()
def test_every_design_starts_as_sam(random_sam, vision, asked, design):
    images = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    model = TunedSam(random_sam, vision, design).eval()
    plain = random_sam.image_encoder(images)
    torch.testing.assert_close(embed(model, images, asked), plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS)
def test_frozen_weights_are_borrowed_and_tuned_ones_its_own(random_sam, vision, design):
    model = TunedSam(random_sam, vision, design)
    theirs = {p.data_ptr() for m in (random_sam, vision) for p in m.parameters()}
    for name, parameter in model.named_parameters():
        # Copied too: CLIP's frozen parts beside attention that is tuned.
        if not name.startswith("vision.") or design.clip_blocks == 0:
            assert parameter.requires_grad == (parameter.data_ptr() not in theirs), name
    assert set(model.trainable_state()) == {
        n for n, p in model.named_parameters() if p.requires_grad
    }


@pytest.mark.parametrize("picture", ["whole", "part"])
@pytest.mark.parametrize("seen", [(True, False), (False, True), (True, True)], ids=str)
@torch.no_grad()
def test_patches_are_features_plus_similarity(random_sam, vision, asked, seen, picture):
    """U = V + s on every channel, without V it is s, without s it is V (section 3.3).

    The adapter by hand: U is fused, projected and resized, and everything is added up before the
    bottleneck. Ours does the shares of an image and of a class apart; known beforehand or not.
    """
    tokens, text = asked
    config = AdapterConfig(text=True, vision=seen[0], similarity=seen[1], semantic_dim=24)
    model = TunedSam(random_sam, vision, TunedSamConfig(config, clip="surgery"))
    randomize(model.image_encoder.blocks[1].mlp_adapter, seed=4)
    adapter = model.image_encoder.blocks[1].mlp_adapter
    similarity = (tokens @ text[..., None])[:, 1:, 0].view(2, 1, 4, 4)
    features = tokens[:, 1:].transpose(1, 2).reshape(2, 24, 4, 4)
    fused = seen[0] * features + seen[1] * similarity
    fused = adapter.vision_projection(fused.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    grid = None
    if picture == "part":
        grid = 2.2 * torch.rand(2, 8, 8, 2, generator=torch.Generator().manual_seed(1)) - 1.1
        fused = F.grid_sample(fused, grid, padding_mode="border", align_corners=False)
    else:
        fused = F.interpolate(fused, (8, 8), mode="bilinear")
    x = torch.randn(2, 8, 8, 32, generator=torch.Generator().manual_seed(2))
    words = F.gelu(adapter.text_projection(text))[:, None, None]
    expected = adapter.up(F.gelu(adapter.down(x + words + fused.permute(0, 2, 3, 1))))
    condition = model.condition(tokens, text, grid)
    torch.testing.assert_close(adapter(x, condition), expected, atol=1e-5, rtol=1e-5)
    patches = model.see_patches(tokens, grid)[1]
    torch.testing.assert_close(adapter(x, condition, patches), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("modality", ["text", "vision", "similarity"])
def test_an_adapter_answers_to_what_it_sees_and_to_nothing_else(
    random_sam, vision, asked, modality
):
    tokens, text = asked
    images = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    config = AdapterConfig(semantic_dim=24, **{modality: True})
    clip = None if modality == "text" else "surgery"
    model = TunedSam(random_sam, vision, TunedSamConfig(config, clip)).eval()
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.image_encoder.named_parameters():
        if "adapter.up" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    with torch.no_grad():
        before = embed(model, images, (tokens, text))
        other_text = embed(model, images, (tokens, text.flip(0)))
        other_patches = embed(model, images, (tokens.flip(0), text))
    moved = [not torch.allclose(before, other, atol=1e-5) for other in (other_text, other_patches)]
    assert (
        moved
        == {
            "text": [True, False],
            "vision": [False, True],
            "similarity": [True, True],
        }[modality]
    )


def test_checkpointed_activations_give_the_same_gradients(random_sam, vision, asked):
    images = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    gradients = []
    for thrifty in (False, True):
        torch.manual_seed(2)
        model = TunedSam(random_sam, vision, DESIGNS["all"])
        model.image_encoder.checkpoint_activations = thrifty
        embed(model, images, asked).square().mean().backward()
        gradients.append([p.grad for p in model.image_encoder.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 0
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_plain_clip_is_the_same_tower_without_surgery(random_sam, vision):
    model = TunedSam(random_sam, vision, TunedSamConfig(clip="plain"))
    pixels = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tokens, surgery = model.vision(pixels), vision(pixels)
    assert vision.surgery_layers == 2  # the borrowed one stays as it was
    torch.testing.assert_close(tokens[:, 0], surgery[:, 0])
    assert not torch.allclose(tokens[:, 1:], surgery[:, 1:], atol=1e-3)


def test_a_design_that_needs_clip_must_have_it():
    with pytest.raises(ValueError, match="come from CLIP"):
        TunedSamConfig(dense_prompt=True)
    with pytest.raises(ValueError, match="come from CLIP"):
        TunedSamConfig(AdapterConfig(vision=True))
