"""ESC-Net's training: its losses by hand, and what its learning rates reach."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from clipsam.data.samples import BACKGROUND, VOID
from clipsam.training.esc_net_stage import label_map_loss, with_noise

LABELS = torch.tensor([[0, 1], [BACKGROUND, VOID]])


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_bce_by_hand():
    """Every class in every pixel but the void one; background is none of them."""
    logits = torch.tensor([[[2.0, -1.0], [0.5, 9.0]], [[-3.0, 1.0], [0.0, 9.0]]])
    first = softplus(-2) + softplus(-1) + softplus(0.5)
    second = softplus(-3) + softplus(-1) + softplus(0)
    expected = (first + second) / 6
    assert label_map_loss(logits, LABELS, "bce").item() == pytest.approx(expected)


def test_cross_entropy_by_hand():
    """Classes against each other, in pixels of one of them."""
    logits = torch.tensor([[[2.0, -1.0], [0.5, 9.0]], [[-3.0, 1.0], [0.0, 9.0]]])
    expected = (softplus(-5) + softplus(-2)) / 2
    assert label_map_loss(logits, LABELS, "ce").item() == pytest.approx(expected)


def test_dice_is_of_the_classes_present():
    logits = torch.full((3, 2, 2), -2.0)
    logits[0, 0, 0] = logits[2] = 2.0
    p, q = 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2))
    first, second = 2 * p / (p + 2 * q + 1), 2 * q / (3 * q + 1)  # in the three pixels not void
    plain = label_map_loss(logits, LABELS, "bce")
    added = label_map_loss(logits, LABELS, "bce", dice=0.5) - plain
    assert added.item() == pytest.approx(0.5 * (1 - (first + second) / 2), rel=1e-4)


@pytest.mark.parametrize("kind", ["bce", "ce"])
def test_pixels_that_nobody_knows_give_no_gradient(kind):
    logits = torch.zeros(2, 2, 2, requires_grad=True)
    label_map_loss(logits, LABELS, kind).backward()
    assert (logits.grad[:, 1, 1] == 0).all()
    assert (logits.grad[:, 0] != 0).all()
    nothing = torch.full((2, 2), VOID)
    assert label_map_loss(logits, nothing, kind).item() == 0


def test_noise_lowers_the_cosine_as_far_as_it_is_long():
    """In many dimensions a random vector is nearly orthogonal: cosine 1 / √(1 + length²)."""
    torch.manual_seed(0)
    text = F.normalize(torch.randn(4000, 384), dim=-1)
    assert with_noise(text, 0.0) is text
    noisy = with_noise(text, 1.5)
    assert torch.allclose(noisy.norm(dim=-1), torch.ones(4000), atol=1e-5)
    cosines = (noisy * text).sum(-1)
    # Lengths are even in [0, 1.5], so the mean cosine is asinh(1.5) / 1.5.
    assert cosines.mean().item() == pytest.approx(math.asinh(1.5) / 1.5, abs=0.01)
    assert cosines.min() > 1 / math.hypot(1, 1.5) - 0.15
