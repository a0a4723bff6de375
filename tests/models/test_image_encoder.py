"""The adapted encoder against segment-anything's own."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from clipsam.models.adapters import SemanticCondition
from clipsam.models.image_encoder import (
    AdaptedImageEncoder,
    AdapterConfig,
    attend_plainly,
    embed_patches,
    encode_images,
    run_plain_blocks,
)

SEMANTIC_DIM = 12
LAYOUTS = ("parallel", "series", "mix", "lora")
CONDITIONED = {"none": (False, False), "text": (True, False), "text+vision": (True, True)}


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def condition() -> SemanticCondition:
    generator = torch.Generator().manual_seed(2)
    text = torch.randn(2, SEMANTIC_DIM, generator=generator)
    return SemanticCondition(text, torch.randn(2, SEMANTIC_DIM, 5, 5, generator=generator))


def adapt(sam, layout="parallel", conditioned="none", **settings) -> AdaptedImageEncoder:
    text, vision = CONDITIONED[conditioned]
    config = AdapterConfig(
        layout=layout, text=text, vision=vision, semantic_dim=SEMANTIC_DIM, **settings
    )
    return AdaptedImageEncoder(sam.image_encoder, config)


@pytest.mark.parametrize(
    ("layout", "conditioned"),
    [(layout, c) for layout, c in itertools.product(LAYOUTS, CONDITIONED) if layout != "lora"]
    + [("lora", "none")],
)
@pytest.mark.parametrize("last_blocks", [None, 2])
@torch.no_grad()
def test_preserving_starts_as_sam(random_sam, images, condition, layout, conditioned, last_blocks):
    encoder = adapt(random_sam, layout, conditioned, last_blocks=last_blocks)
    embedding, plain = encoder(images, condition), random_sam.image_encoder
    assert torch.equal(embedding, encode_images(plain, images))
    assert (embedding - plain(images)).abs().max() <= 1e-5  # sums in another order


@pytest.mark.parametrize("layout", LAYOUTS)
@torch.no_grad()
def test_plain_encoder_is_borrowed_and_left_alone(random_sam, images, layout):
    plain = random_sam.image_encoder
    before = plain(images)
    names = [name for name, _ in plain.named_modules()]
    encoder = adapt(random_sam, layout)
    own = [p for p in encoder.parameters() if p.requires_grad]
    for parameter in own:
        nn.init.normal_(parameter)
    borrowed = {p.data_ptr() for p in encoder.parameters()} - {p.data_ptr() for p in own}
    assert borrowed == {p.data_ptr() for p in plain.parameters()}
    assert not torch.allclose(encoder(images), before), "the adapters do nothing"
    assert [name for name, _ in plain.named_modules()] == names
    assert torch.equal(plain(images), before)


@pytest.mark.parametrize("block", ["preserving", "reference"])
@pytest.mark.parametrize("layout", LAYOUTS)
@torch.no_grad()
def test_what_classes_share(random_sam, images, condition, layout, block):
    """Once per image as far as no class enters, then on per class: the same as all at once."""
    conditioned = "none" if layout == "lora" else "text+vision"
    encoder = adapt(random_sam, layout, conditioned, block=block, last_blocks=2)
    for parameter in encoder.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)
    plain, first = random_sam.image_encoder, encoder.first_adapted
    prefix = run_plain_blocks(plain, embed_patches(plain, images), 0, first)
    begun = encoder.begin_adapted(prefix)
    if block == "preserving" and layout != "lora":
        attended = attend_plainly(plain.blocks[first], prefix)
        assert torch.equal(encoder.begin_adapted(prefix, attended), begun)
    whole = encoder(images, condition)
    assert torch.equal(encoder.run_adapted(prefix, condition), whole)
    assert torch.equal(encoder.finish_adapted(begun, condition), whole)
    other = SemanticCondition(condition.text.flip(0), condition.vision)
    answered = not torch.allclose(encoder.finish_adapted(begun, other), whole)
    assert answered == (layout != "lora")
    torch.testing.assert_close(encoder.finish_adapted(begun, other), encoder(images, other))


@torch.no_grad()
def test_grid_that_spans_the_picture_equals_none(random_sam, images, condition):
    encoder = adapt(random_sam, conditioned="text+vision")
    for parameter in encoder.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)
    centres = (torch.arange(8) + 0.5) / 4 - 1
    grid = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=-1)
    grid = grid.expand(2, -1, -1, -1)
    sampled = SemanticCondition(condition.text, condition.vision, sampling_grid=grid)
    torch.testing.assert_close(encoder(images, sampled), encoder(images, condition))


def test_depth_is_checked(random_sam):
    with pytest.raises(ValueError, match="last_blocks"):
        adapt(random_sam, last_blocks=4)


def test_text_is_demanded(random_sam, images):
    with pytest.raises(ValueError, match="SemanticCondition"):
        adapt(random_sam, conditioned="text")(images)
