"""Pictures are drawn where and as they should be."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from clipsam import drawing
from clipsam.geometry import SquareTransform
from clipsam.types import SamPrompts

NO_PROMPTS = SamPrompts()


def decode(uri: str) -> Image.Image:
    kind, _, data = uri.partition(";base64,")
    assert kind.startswith("data:image/")
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_layer_is_exactly_the_mask_in_its_colour() -> None:
    mask = np.random.default_rng(0).random((37, 53)) > 0.6
    pixels = np.array(decode(drawing.mask_layer(mask, "#123456")).convert("RGBA"))
    assert np.array_equal(pixels[..., 3] == 255, mask)
    assert np.array_equal(pixels[..., 3] == 0, ~mask)
    assert (pixels[mask][:, :3] == (0x12, 0x34, 0x56)).all()


@pytest.mark.parametrize("mask", [np.zeros((1, 1), bool), np.ones((1, 1), bool)])
def test_layer_of_one_pixel(mask: np.ndarray) -> None:
    alpha = np.array(decode(drawing.mask_layer(mask, "#ffffff")).convert("RGBA"))[..., 3]
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
    pixels = np.array(decode(drawing.label_map_layer(labels)).convert("RGBA"))
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
    assert drawing.display_size(size) == expected


def test_a_small_picture_is_shown_without_loss() -> None:
    image = np.random.default_rng(1).integers(0, 256, (40, 30, 3), np.uint8)
    assert np.array_equal(np.array(decode(drawing.display_uri(image))), image)


def test_a_large_picture_is_shown_smaller_and_the_same() -> None:
    image = np.zeros((1500, 3000, 3), np.uint8)
    image[:, 1500:] = 200
    shown = np.array(decode(drawing.display_uri(image)))
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
    prompts = SamPrompts(points, np.ones(1, np.int64))
    picture = drawing.similarity_picture(np.zeros((2, 2), np.float32), prompts, (50, 100))
    changed = (picture != (68, 1, 84)).any(-1)
    rows, columns = np.nonzero(changed)
    assert abs(columns.mean() - 75 * 3.2) < 1
    assert abs(rows.mean() - 10 * 3.2) < 1


def test_shown_pixels_are_those_of_the_shown_picture() -> None:
    image = np.random.default_rng(2).integers(0, 256, (40, 30, 3), np.uint8)
    assert np.array_equal(drawing.display_pixels(image), image)
    assert drawing.display_pixels(np.zeros((1500, 3000, 3), np.uint8)).shape == (512, 1024, 3)


def test_a_mask_is_white_on_black() -> None:
    mask = np.array([[True, False], [False, True]])
    assert drawing.mask_picture(mask).tolist() == [[255, 0], [0, 255]]


@pytest.mark.parametrize("threshold", [0.0, 2.5, -40.0])
def test_heat_is_white_at_the_threshold_blue_below_and_red_above(threshold: float) -> None:
    logits = threshold + np.array([[-4, -1, 0, 1, 2]], np.float32)
    assert drawing.heat_reach(logits, threshold) == 4
    colours = drawing.heat_picture(logits, threshold).astype(int)[0]
    deepest_blue, blue, white, red, redder = colours
    assert tuple(deepest_blue) == (5, 48, 97)  # RdBu's end, by ColorBrewer
    assert white.min() > 240
    assert blue[2] > blue[0] and red[0] > red[2]
    assert redder[1] < red[1] < white[1]
    # As deep on either side: as far from the white as the other.
    mirrored = drawing.heat_picture(2 * threshold - logits, threshold).astype(int)[0]
    assert tuple(mirrored[0]) == (103, 0, 31)


def test_heat_of_constant_logits_at_the_threshold_is_white() -> None:
    assert drawing.heat_picture(np.full((2, 2), 1.5, np.float32), 1.5).min() > 240


def test_what_sam_was_fed_is_drawn_over_the_image() -> None:
    image = np.full((100, 200, 3), 90, np.uint8)
    dense = np.zeros((64, 64), bool)
    dense[:, :32] = True  # The left half of the square, and of the image, which fills its top.
    prompts = SamPrompts(
        np.array([[150, 20], [150, 80]], np.float32),
        np.array([1, 0]),
        np.array([[120, 40, 180, 60]], np.float32),
        dense,
    )
    picture = drawing.prompts_picture(image, prompts, SquareTransform((100, 200), 256))
    assert tuple(picture[20, 150]) == (0xFF, 0x38, 0x60)
    assert tuple(picture[80, 150]) == (0, 0, 0)
    assert tuple(picture[50, 121]) == (255, 255, 255)
    yellow = (picture == (0xF0, 0xE4, 0x42)).all(-1)
    rows, columns = np.nonzero(yellow)
    assert set(columns) == {99}
    assert len(set(rows)) == 100
    assert tuple(picture[50, 50]) == tuple(image[50, 50])
    assert (image == 90).all()


def test_masks_are_laid_over_with_opaque_rims() -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    mask = np.zeros((20, 20), bool)
    mask[5:15, 5:15] = True
    picture = drawing.overlay_masks(image, [mask, np.zeros_like(mask)])
    assert tuple(picture[5, 7]) == (0xE6, 0x9F, 0x00)
    assert tuple(picture[10, 10]) == (0x73, 80, 0)  # Half of it: 0x9F / 2 is 79.5, rounded to even.
    assert not picture[~mask].any()


def test_nearest_takes_the_pixel_at_the_centre() -> None:
    mask = np.zeros((9, 3), bool)
    mask[4] = True
    assert drawing.nearest(mask, (3, 3)).tolist() == [[False] * 3, [True] * 3, [False] * 3]
    assert np.array_equal(drawing.nearest(mask, (18, 6)), mask.repeat(2, 0).repeat(2, 1))
