"""Losses against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from clipsam.training.losses import (
    bce_loss,
    combined_loss,
    dice_loss,
    iou_loss,
    structure_loss,
)


@pytest.fixture
def half():
    """Two pixels at probability ½, of which the first is true."""
    return torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 0.0]]]])


def test_by_hand(half):
    # Σpg = ½, Σp = 1, Σg = 1: Dice 2·½ / 2 = ½; intersection ½, union 3⁄2: IoU ⅓.
    assert bce_loss(*half).item() == pytest.approx(math.log(2), abs=1e-6)
    assert dice_loss(*half).item() == pytest.approx(0.5, abs=1e-5)
    assert iou_loss(*half).item() == pytest.approx(2 / 3, abs=1e-5)
    assert combined_loss(*half).item() == pytest.approx(math.log(2) + 0.5 + 2 / 3, abs=1e-5)


def test_void_pixels_count_for_nothing(half):
    logits, targets = half
    wide_logits = torch.cat((logits, torch.full((1, 1, 1, 3), 9.0)), dim=-1)
    wide_targets = torch.cat((targets, torch.zeros(1, 1, 1, 3)), dim=-1)
    valid = torch.tensor([[[[1.0, 1.0, 0.0, 0.0, 0.0]]]])
    assert combined_loss(wide_logits, wide_targets, valid).item() == pytest.approx(
        combined_loss(logits, targets).item(), abs=1e-6
    )


def test_structure_by_hand(half):
    # Both windows hold both pixels and 959 of padding, their mean is 1⁄961: the weights are
    # 1 + 5·960⁄961 where the truth is 1, and 1 + 5⁄961 where it is 0. p = ½ everywhere.
    one, zero = 1 + 5 * 960 / 961, 1 + 5 / 961
    intersection, total = one / 2, one / 2 + zero / 2 + one
    expected = math.log(2) + 1 - (intersection + 1) / (total - intersection + 1)
    assert structure_loss(*half).item() == pytest.approx(expected, abs=1e-5)


def test_bce_is_a_mean_of_samples():
    """A sample with few valid pixels weighs as much as any other, so parts of a batch add up."""
    logits, targets = torch.zeros(2, 1, 1, 4), torch.zeros(2, 1, 1, 4)
    logits[1] = 3.0
    valid = torch.ones(2, 1, 1, 4)
    valid[1, ..., 1:] = 0
    expected = (math.log(2) + math.log(1 + math.exp(3))) / 2
    assert bce_loss(logits, targets, valid).item() == pytest.approx(expected, abs=1e-5)
