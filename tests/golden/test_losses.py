"""Losses against the authors' own numbers."""

from __future__ import annotations

import pytest
import torch

from clipsam.training.losses import (
    bce_loss,
    combined_loss,
    dice_loss,
    iou_loss,
    structure_loss,
)

TERMS = {
    "bce": bce_loss,
    "dice": dice_loss,
    "iou": iou_loss,
    "combined_1_1_1": combined_loss,
    "bce_dice_1_1": lambda z, y: combined_loss(z, y, weights=(1, 1, 0)),
    "structure": structure_loss,
    "combined_0.2_1.5_0.8": lambda z, y: combined_loss(z, y, weights=(0.2, 1.5, 0.8)),
}


@pytest.mark.parametrize("name", TERMS)
def test_values(golden, name):
    reference = golden("losses")
    value = TERMS[name](reference.inputs["logits"], reference.inputs["targets"])
    assert value.item() == pytest.approx(reference.outputs[name].item(), abs=1e-6)


@pytest.mark.parametrize("name", ["combined_1_1_1", "structure"])
def test_gradient(golden, name):
    reference = golden("losses")
    logits = reference.inputs["logits"].clone().requires_grad_(True)
    TERMS[name](logits, reference.inputs["targets"]).backward()
    torch.testing.assert_close(logits.grad, reference.outputs[f"grad_{name}"], atol=1e-6, rtol=0)
