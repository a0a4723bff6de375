"""Laying images into squares and maps back onto images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from segment_anything.utils.transforms import ResizeLongestSide

from clipsam.geometry import SquareTransform, normalize

SIZES = [(90, 160), (160, 90), (64, 64), (1, 1), (3, 700), (300, 517)]
sizes = pytest.mark.parametrize("size", SIZES, ids=str)


@sizes
@pytest.mark.parametrize("fit", ["pad", "squash"])
def test_points_there_and_back(size, fit):
    transform = SquareTransform(size, 128, fit)
    height, width = transform.content
    corners = np.array([[0, 0], [size[1], size[0]]])
    np.testing.assert_allclose(transform.coordinates(corners), [[0, 0], [width, height]], rtol=1e-6)
    points = np.random.default_rng(0).uniform(0, 1, (50, 2)) * corners[1]
    back = transform.coordinates_back(transform.coordinates(points))
    np.testing.assert_allclose(back, points, rtol=1e-5)


@sizes
def test_padding_is_segment_anythings(size):
    transform, theirs = SquareTransform(size, 128), ResizeLongestSide(128)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    if min(theirs.get_preprocess_shape(*size, 128)) == 0:  # theirs fails on very long images
        assert transform.image(image).shape == (1, 128, 3)
        return
    np.testing.assert_array_equal(transform.image(image), theirs.apply_image(image))
    points = np.random.default_rng(1).uniform(0, 1, (9, 2)) * size[::-1]
    np.testing.assert_allclose(
        transform.coordinates(points), theirs.apply_coords(points, size), rtol=1e-5
    )


@sizes
def test_maps_return_as_segment_anythings(random_sam, size):
    transform = SquareTransform(size, random_sam.image_encoder.img_size)
    logits = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = random_sam.postprocess_masks(logits, transform.content, size)
    assert torch.equal(transform.to_image(logits), expected)
    assert transform.to_image(logits, (7, 11)).shape == (2, 3, 7, 11)


def test_squash_fills_the_square():
    image = np.zeros((10, 30, 3), np.uint8)
    assert SquareTransform((10, 30), 64, "squash").image(image).shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("size", "fit"), [((50, 50), "pad"), ((50, 90), "squash")], ids=["square", "squashed"]
)
def test_no_grid_when_the_layouts_coincide(size, fit):
    assert SquareTransform(size, 64, fit).sampling_grid(16) is None


@pytest.mark.parametrize("size", [(50, 100), (100, 50), (40, 128)], ids=str)
def test_sampling_grid_lines_up_with_the_padded_layout(size):
    """A map that spans the image and holds its own coordinates, read at the square's cells."""
    transform, cells = SquareTransform(size, 128), 16
    height, width = transform.content
    grid = transform.sampling_grid(cells)
    assert grid.shape == (1, cells, cells, 2)
    fine = 400
    ramp = (torch.arange(fine) + 0.5) / fine
    rows, columns = torch.meshgrid(ramp * size[0], ramp * size[1], indexing="ij")
    read = F.grid_sample(torch.stack((columns, rows))[None], grid, align_corners=False)[0]

    centres = (np.arange(cells) + 0.5) * 128 / cells
    x, y = np.meshgrid(centres, centres)
    shown = (x < width) & (y < height)
    np.testing.assert_array_equal((grid[0].abs() <= 1).all(-1).numpy(), shown)
    expected = transform.coordinates_back(np.stack((x[shown], y[shown]), axis=1))
    np.testing.assert_allclose(read[:, torch.from_numpy(shown)].T, expected, atol=0.05)


def test_grid_of_a_square_equals_interpolation():
    """Were it asked for a square, the same formula would give plain bilinear resizing."""
    # One pixel of padding in 1000 makes a grid that differs from the square's by a thousandth.
    grid = SquareTransform((999, 1000), 1000).sampling_grid(16)
    maps = torch.randn(1, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    read = F.grid_sample(maps, grid, padding_mode="border", align_corners=False)
    resized = F.interpolate(maps, (16, 16), mode="bilinear", align_corners=False)
    torch.testing.assert_close(read, resized, atol=0.02, rtol=0)


def test_normalize(random_sam):
    pixels = torch.arange(3 * 16, dtype=torch.uint8).reshape(1, 3, 4, 4) * 5
    theirs = random_sam.preprocess(pixels)[..., :4, :4]
    ours = normalize(pixels, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    torch.testing.assert_close(ours, theirs)
