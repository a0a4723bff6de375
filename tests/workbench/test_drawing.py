"""Pictures are drawn where and as they should be."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from clipsam.types import PromptsUsed
from clipsam.workbench import drawing

NO_PROMPTS = PromptsUsed()


def decode(uri: str) -> Image.Image:
    kind, _, data = uri.partition(";base64,")
    assert kind.startswith("data:image/")
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_layer_is_exactly_the_mask_in_its_colour() -> None:
    mask = np.random.default_rng(0).random((37, 53)) > 0.6
    pixels = np.array(decode(drawing.layer(mask, "#123456")).convert("RGBA"))
    assert np.array_equal(pixels[..., 3] == 255, mask)
    assert np.array_equal(pixels[..., 3] == 0, ~mask)
    assert (pixels[mask][:, :3] == (0x12, 0x34, 0x56)).all()


@pytest.mark.parametrize("mask", [np.zeros((1, 1), bool), np.ones((1, 1), bool)])
def test_layer_of_one_pixel(mask: np.ndarray) -> None:
    alpha = np.array(decode(drawing.layer(mask, "#ffffff")).convert("RGBA"))[..., 3]
    assert np.array_equal(alpha > 0, mask)


def test_outline_is_the_rim_inside_the_mask() -> None:
    mask = np.zeros((20, 20), bool)
    mask[5:15, 5:15] = True
    inner = np.zeros_like(mask)
    inner[6:14, 6:14] = True
    assert np.array_equal(drawing.outline(mask), mask & ~inner)


def test_a_full_mask_has_no_rim_at_the_picture_s_edge() -> None:
    assert not drawing.outline(np.ones((9, 9), bool)).any()


def test_label_layer_is_each_class_in_its_colour_and_clear_elsewhere() -> None:
    labels = np.random.default_rng(0).integers(-1, 25, (37, 53))
    pixels = np.array(decode(drawing.label_layer(labels)).convert("RGBA"))
    assert np.array_equal(pixels[..., 3], np.where(labels < 0, 0, 255))
    for index in range(25):
        colour = tuple(bytes.fromhex(drawing.class_colour(index)[1:]))
        assert (pixels[labels == index][:, :3] == colour).all()


def test_borders_are_where_classes_meet() -> None:
    labels = np.full((20, 20), -1)
    labels[:, 5:] = 0
    labels[:, 12:] = 1
    edges = drawing.borders(labels)
    expected = np.full((20, 20), -1)
    expected[:, [5, 11]] = 0
    expected[:, 12] = 1
    assert np.array_equal(edges, expected)
    assert (drawing.borders(np.full((9, 9), 3)) == -1).all()


def test_cells_are_pixels_in_viridis() -> None:
    similarity = np.array([[-0.3, 0.1, 0.4], [0.2, 0.9, 0.0]], np.float32)
    pixels = np.array(decode(drawing.cells(similarity)))
    assert pixels.shape == (2, 3, 3)
    assert tuple(pixels[0, 0]) == (68, 1, 84)
    assert tuple(pixels[1, 1]) == (253, 231, 37)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((6000, 8000), (768, 1024)),
        ((1, 1), (1, 1)),
        ((300, 200), (300, 200)),
        ((1, 9000), (1, 1024)),
    ],
)
def test_shown_size(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert drawing.shown_size(size) == expected


def test_a_small_picture_is_shown_without_loss() -> None:
    image = np.random.default_rng(1).integers(0, 256, (40, 30, 3), np.uint8)
    assert np.array_equal(np.array(decode(drawing.shown_picture(image))), image)


def test_a_large_picture_is_shown_smaller_and_the_same() -> None:
    image = np.zeros((1500, 3000, 3), np.uint8)
    image[:, 1500:] = 200
    shown = np.array(decode(drawing.shown_picture(image)))
    assert shown.shape == (512, 1024, 3)
    assert abs(int(shown[256, 300, 0]) - 0) < 4
    assert abs(int(shown[256, 700, 0]) - 200) < 4


def test_similarity_runs_from_the_darkest_to_the_brightest_of_viridis() -> None:
    similarity = np.array([[-0.3, 0.1], [0.2, 0.9]], np.float32)
    picture = drawing.similarity_picture(similarity, NO_PROMPTS, (50, 100))
    assert picture.shape == (160, 320, 3)
    assert tuple(picture[0, 0]) == (68, 1, 84)
    assert tuple(picture[-1, -1]) == (253, 231, 37)


def test_a_constant_similarity_is_drawn_as_its_lowest() -> None:
    picture = drawing.similarity_picture(np.full((4, 4), 0.25, np.float32), NO_PROMPTS, (8, 8))
    assert (picture == (68, 1, 84)).all()


def test_points_are_drawn_where_they_are_in_the_original() -> None:
    points = np.array([[75, 10]], np.float32)
    prompts = PromptsUsed(points, np.ones(1, np.int64))
    picture = drawing.similarity_picture(np.zeros((2, 2), np.float32), prompts, (50, 100))
    changed = (picture != (68, 1, 84)).any(-1)
    rows, columns = np.nonzero(changed)
    assert abs(columns.mean() - 75 * 3.2) < 1
    assert abs(rows.mean() - 10 * 3.2) < 1
