"""From similarity maps to points and dense prompts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from clipsam.geometry import SquareTransform
from clipsam.prompting import (
    Calibration,
    class_seed,
    dense_prompt,
    min_max,
    points_from_similarity,
    sample_points,
    similarity_map,
    stable_seed,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def disc(side: int, x: float, y: float, radius: float) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return (columns - x) ** 2 + (rows - y) ** 2 < radius**2


def test_min_max():
    maps = torch.tensor([[[-3.0, 1.0], [5.0, -1.0]], [[0.2, 0.2], [0.2, 0.2]]])
    scaled = min_max(maps)
    assert torch.equal(scaled[0], torch.tensor([[0.0, 0.5], [1.0, 0.25]]))
    assert torch.equal(scaled[1], torch.zeros(2, 2))
    rounding = torch.tensor([[[0.1, 0.1 + 1e-8], [0.1 - 1e-8, 0.1]]])
    assert torch.equal(min_max(rounding), torch.zeros(1, 2, 2))


@pytest.mark.parametrize("seed", range(5))
def test_spread_gives_every_region_points(seed):
    large, small = disc(64, 20, 20, 14), disc(64, 55, 50, 3)
    points = sample_points(large | small, 5, generator(seed))
    assert points.shape == (5, 2)
    assert len(set(map(tuple, points.tolist()))) == 5
    x, y = points.T
    assert large[y, x].sum() == 4, "most points go where most pixels are"
    assert small[y, x].sum() == 1


def test_spread_takes_the_largest_regions_when_there_are_too_many():
    inside = torch.zeros(40, 40, dtype=torch.bool)
    for i in range(7):  # bars of 1, 2, … 7 pixels
        inside[5 * i, : i + 1] = True
    points = sample_points(inside, 3, generator())
    assert sorted((points[:, 1] // 5 + 1).tolist()) == [5, 6, 7]


@pytest.mark.parametrize("sampling", ["spread", "reference"])
def test_few_pixels(sampling):
    inside = torch.zeros(6, 8, dtype=torch.bool)
    inside[1, 7] = inside[4, 2] = inside[4, 3] = True
    points = sample_points(inside, 5, generator(), sampling)
    allowed = {(7, 1), (2, 4), (3, 4)}
    drawn = list(map(tuple, points.tolist()))
    assert set(drawn) <= allowed
    if sampling == "spread":
        assert sorted(drawn) == sorted(allowed)
    else:
        assert len(drawn) == 5
    assert sample_points(torch.zeros(6, 8, dtype=torch.bool), 5, generator(), sampling).shape == (
        0,
        2,
    )


def test_reference_sampling_is_uniform():
    inside = torch.zeros(4, 4, dtype=torch.bool)
    inside[0, :3] = inside[3, 3] = True
    points = sample_points(inside, 8000, generator(), "reference")
    _, counts = points.unique(dim=0, return_counts=True)
    assert len(counts) == 4
    # Within five standard deviations of 2000 each.
    assert (counts - 2000).abs().max() < 5 * math.sqrt(8000 * 0.25 * 0.75)


@pytest.mark.parametrize("size", [(60, 120), (120, 60), (64, 64), (1, 1)], ids=str)
@pytest.mark.parametrize("fit", ["pad", "squash"])
def test_points_lie_on_the_peak_in_image_pixels(size, fit):
    height, width = size
    similarity = torch.zeros(16, 16)
    similarity[3:6, 10:13] = 1.0  # rows 3..6 of 16, columns 10..13 of 16
    transform = SquareTransform(size, 128, fit)
    points = points_from_similarity(similarity, transform, 0.8, 5, seed=3)
    assert points.dtype == np.float32
    if size != (1, 1):
        assert len(points) == 5
    x, y = points.T
    assert ((x >= 10 / 16 * width) & (x <= 13 / 16 * width)).all()
    assert ((y >= 3 / 16 * height) & (y <= 6 / 16 * height)).all()
    again = points_from_similarity(similarity, transform, 0.8, 5, seed=3)
    np.testing.assert_array_equal(points, again)
    flat = points_from_similarity(torch.full((16, 16), 0.3), transform, 0.8, 5, seed=3)
    assert flat.shape == (0, 2)


def test_points_are_pixels_of_the_input_of_sam():
    """Its prompt encoder adds half a pixel itself, so a drawn pixel is named by its index."""
    similarity = torch.rand(8, 8, generator=generator(1))
    transform = SquareTransform((60, 90), 64, "squash")
    points = transform.coordinates(points_from_similarity(similarity, transform, 0.5, 20, seed=0))
    np.testing.assert_allclose(points, points.round(), atol=1e-4)
    scaled = similarity_map(similarity[None], (64, 64))[0]
    columns, rows = points.round().astype(int).T
    assert (scaled[rows, columns] > 0.5).all()


def test_dense_prompt_values():
    similarity = torch.tensor([[[0.0, 0.0], [1.0, 0.0]], [[0.5, 0.1], [0.1, 0.1]]])
    square = SquareTransform((50, 50), 64)
    maps = F.interpolate(min_max(similarity)[:, None], (32, 32), mode="bilinear")
    soft = dense_prompt(similarity, square, 32, 0.8, 8.0)
    assert torch.equal(soft, torch.where(maps > 0.8, 8.0, -8.0))
    assert torch.equal(dense_prompt(similarity, square, 32, 0.8, 8), soft)
    reference = dense_prompt(similarity, square, 32, 0.8, 255.0)
    assert torch.equal(reference, 255.0 * (maps > 0.8))
    assert (soft > 0).any((-1, -2)).all()


@pytest.mark.parametrize("size", [(30, 60), (60, 30)], ids=str)
def test_dense_prompt_leaves_the_padding_empty(size):
    similarity = torch.tensor([[[1.0, 0.9], [0.9, 0.0]]])
    dense = dense_prompt(similarity, SquareTransform(size, 64), 32, 0.05, 8.0)[0, 0]
    shown = dense[:16, :] if size[0] < size[1] else dense[:, :16]
    padding = dense[16:, :] if size[0] < size[1] else dense[:, 16:]
    assert (padding == -8.0).all()
    assert (shown > 0).float().mean() > 0.8
    assert shown[-1, -1] == -8.0, "the map's own low corner"


def test_equal_questions_have_equal_seeds():
    assert class_seed(("dress",), 3) == class_seed((" Dress ",), 3) == stable_seed("dress", 3)
    assert class_seed(("gown", "dress"), 3) == class_seed(("Dress", "gown", "GOWN"), 3)
    assert class_seed(("café",), 3) == class_seed(("cafe\u0301",), 3)
    assert class_seed(("gown",), 3) != class_seed(("dress",), 3)


def test_stable_seed():
    assert stable_seed("cat", 0) == stable_seed("cat", 0)
    assert len({stable_seed(text, seed) for text in ("cat", "dog") for seed in range(50)}) == 100
    # printf '7/café' | sha256sum, the first 14 digits: the same in every process.
    assert stable_seed("café", 7) == 0xC9F4BCE16EBDB0


def test_presence():
    assert math.isnan(Calibration().presence(np.ones((2, 2))))
    calibration = Calibration(presence_midpoint=0.3, presence_slope=20.0)
    assert calibration.presence(np.array([[0.1, 0.3]])) == pytest.approx(0.5)
    odds = calibration.presence(np.array([[0.35, 0.0]]))
    assert odds == pytest.approx(math.e / (1 + math.e))
    assert calibration.presence(np.array([[-1e9]])) == pytest.approx(0, abs=1e-9)
    assert calibration.presence(np.array([[1e9]])) == 1
