"""Weights in 4 and 8 bits."""

from __future__ import annotations

import pytest
import torch

from clipsam.weights.quantize import dequantize, quantize


def test_levels_by_hand():
    """A scale is a seventh of the largest difference of its 64 weights."""
    difference = torch.zeros(2, 64)
    difference[0, :4] = torch.tensor([7.0, -7.0, 3.4, 0.4])
    difference[1, 0] = 0.07
    restored = dequantize(*quantize(difference, 4), difference.shape)
    assert restored[0, :4].tolist() == [7.0, -7.0, 3.0, 0.0]
    assert restored[1, 0].item() == pytest.approx(0.07, rel=1e-3)
    assert (restored[:, 4:] == 0).all()


@pytest.mark.parametrize("shape", [(1,), (63,), (65,), (3, 5, 7), (256, 256)])
@pytest.mark.parametrize(("bits", "levels"), [(4, 7), (8, 127)])
def test_error_is_at_most_half_a_step_of_the_group(shape, bits, levels):
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    codes, scales = quantize(weights, bits)
    assert codes.dtype == torch.uint8 and scales.dtype == torch.float16
    assert codes.shape == (len(scales), 8 * bits)
    error = (dequantize(codes, scales, weights.shape) - weights).abs()
    # Half precision of the scale adds up to a two-thousandth of the weight.
    assert error.max() <= (0.5 / levels + 2**-11) * weights.abs().max() * 1.001


def test_another_number_of_weights_is_refused():
    with pytest.raises(ValueError, match="2 groups of 64 weights do not fit"):
        dequantize(*quantize(torch.zeros(100), 4), torch.Size((5,)))
