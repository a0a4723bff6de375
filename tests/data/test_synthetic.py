"""Procedural scenes against geometry, and against their own promises."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.draw import polygon2mask

from clipsam.data.samples import BACKGROUND
from clipsam.data.synthetic import (
    CLASS_NAMES,
    COLOURS,
    SEEN,
    SHAPES,
    SURFACES,
    UNSEEN,
    SceneData,
    shape_mask,
)

SIDE, EXTENT, CENTRE = 400, 150.0, np.array([210.0, 190.0])
ROWS, COLUMNS = np.mgrid[0:SIDE, 0:SIDE] + 0.5

SPOKES = np.arange(10) * np.pi / 5
RADII = np.where(np.arange(10) % 2, 0.42, 1.0)
POLYGONS = {
    "square": [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)],
    "triangle": [(0, -0.85), (1.6 / 1.7, 0.75), (-1.6 / 1.7, 0.75)],
    "star": np.stack((RADII * np.sin(SPOKES), -RADII * np.cos(SPOKES)), axis=1),
    "cross": [
        *[(-0.3, -0.95), (0.3, -0.95), (0.3, -0.3), (0.95, -0.3), (0.95, 0.3), (0.3, 0.3)],
        *[(0.3, 0.95), (-0.3, 0.95), (-0.3, 0.3), (-0.95, 0.3), (-0.95, -0.3), (-0.3, -0.3)],
    ],
}


def lens(big: float, small: float, distance: float) -> float:
    """Area that two discs share."""
    a = (distance**2 + big**2 - small**2) / (2 * distance)
    b = distance - a
    return (
        big**2 * np.arccos(a / big)
        + small**2 * np.arccos(b / small)
        - distance * np.sqrt(big**2 - a**2)
    )


ROUND_AREAS = {
    "disc": np.pi * 0.9**2,
    "ring": np.pi * (0.95**2 - 0.52**2),
    "crescent": np.pi * 0.95**2 - lens(0.95, 0.72, 0.45),
}


def draw(shape: str, angle: float = 0.0) -> np.ndarray:
    return shape_mask(shape, ROWS, COLUMNS, CENTRE, EXTENT, angle)


@pytest.mark.parametrize("shape", POLYGONS)
@pytest.mark.parametrize("angle", [0.0, 0.4])
def test_polygons(shape, angle):
    x, y = np.array(POLYGONS[shape]).T
    rows = CENTRE[0] + EXTENT * (y * np.cos(angle) + x * np.sin(angle))
    columns = CENTRE[1] + EXTENT * (x * np.cos(angle) - y * np.sin(angle))
    shoelace = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    drawn = draw(shape, angle)
    assert drawn.sum() == pytest.approx(shoelace * EXTENT**2, rel=0.01)
    # polygon2mask counts from pixel centres, ours from pixel corners.
    expected = polygon2mask((SIDE, SIDE), np.stack((rows, columns), axis=1) - 0.5)
    assert (drawn ^ expected).sum() < 0.01 * expected.sum()


@pytest.mark.parametrize("shape", ROUND_AREAS)
def test_round_shapes(shape):
    drawn = draw(shape, angle=0.3)
    assert drawn.sum() == pytest.approx(ROUND_AREAS[shape] * EXTENT**2, rel=0.01)
    holes = ndimage.label(~drawn)[1] - 1
    assert holes == (1 if shape == "ring" else 0)
    if shape != "crescent":
        np.testing.assert_allclose(ndimage.center_of_mass(drawn), CENTRE - 0.5, atol=0.5)


def test_heart():
    drawn = shape_mask("heart", ROWS, COLUMNS, np.array([200.0, 200.0]), EXTENT, 0.0)
    np.testing.assert_array_equal(drawn, drawn[:, ::-1])
    rows = np.flatnonzero(drawn.any(1))
    assert ndimage.label(drawn[rows[0] + 2])[1] == 2, "two lobes on top"
    assert drawn[rows[-1]].sum() < 0.2 * drawn.sum(1).max(), "a tip below"


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_one_piece_within_its_extent(shape):
    drawn = draw(shape, angle=-0.5)
    assert ndimage.label(drawn, np.ones((3, 3)))[1] == 1
    rows, columns = np.nonzero(drawn)
    distance = np.hypot(rows + 0.5 - CENTRE[0], columns + 0.5 - CENTRE[1])
    assert distance.max() < EXTENT * np.sqrt(2)
    assert distance.max() > 0.8 * EXTENT


def test_unknown_shape():
    with pytest.raises(ValueError, match=r"blob.*disc"):
        draw("blob")


def test_pairs_are_held_out():
    assert set(SEEN) | set(UNSEEN) == set(CLASS_NAMES)
    assert not set(SEEN) & set(UNSEEN)
    assert len(set(UNSEEN)) == len(UNSEEN)
    for words in (SURFACES, SHAPES):
        for word in words:
            assert any(word in name.split() for name in SEEN), f"nobody learns {word}"
    for pairs, allowed in (("seen", SEEN), ("unseen", UNSEEN)):
        for mode in ("plain", "camouflage"):
            data = SceneData(12, seed=1, pairs=pairs, mode=mode, size=96)
            present = {
                data.names[i]
                for sample in map(data.__getitem__, range(12))
                for i in sample.present()
            }
            assert present
            assert present <= set(allowed)


@pytest.mark.parametrize("mode", ["plain", "camouflage"])
def test_a_scene_is_a_function_of_seed_and_index(mode):
    first, again = (SceneData(5, seed=3, mode=mode, size=96) for _ in range(2))
    again[0], again[1]  # what was drawn before must not matter
    for name in ("image", "classes", "segments"):
        assert np.array_equal(getattr(first[4], name), getattr(again[4], name))
    assert not np.array_equal(first[4].image, first[3].image)
    assert not np.array_equal(first[4].image, SceneData(5, seed=4, mode=mode, size=96)[4].image)
    assert first[4].key == again[4].key != first[3].key
    assert [sample.key for sample in first] == list(first.keys)
    assert len(set(first.keys)) == 5
    with pytest.raises(IndexError):
        first[5]


@pytest.mark.parametrize("mode", ["plain", "camouflage"])
def test_labels_agree(mode):
    for sample in map(SceneData(20, seed=2, mode=mode, size=128).__getitem__, range(20)):
        assert sample.image.dtype == np.uint8
        np.testing.assert_array_equal(sample.segments > 0, sample.classes >= 0)
        assert set(np.unique(sample.classes[sample.segments == 0])) <= {BACKGROUND}
        for number in np.unique(sample.segments)[1:]:
            assert len(np.unique(sample.classes[sample.segments == number])) == 1


def test_masks_are_exact():
    """Every pixel of a plain-coloured object has its colour, up to its very edge."""
    data, edges = SceneData(30, seed=6, size=160), []
    for sample in map(data.__getitem__, range(30)):
        for number in np.unique(sample.segments)[1:]:
            inside = sample.segments == number
            surface = data.names[sample.classes[inside][0]].split()[0]
            if surface not in COLOURS or inside.sum() < 50:
                continue
            colour = np.median(sample.image[inside], axis=0)
            distance = np.abs(sample.image - colour).max(axis=2)
            # Light falls off by at most a quarter across the scene; noise has at most 6 levels.
            assert (distance[inside] < 65).all()
            around = ndimage.binary_dilation(inside) & (sample.segments == 0)
            edges.append((distance[around] > 30).mean())
    assert len(edges) > 20
    assert np.nanmean(edges) > 0.8, "pixels of the object are missing from its mask"


def test_camouflage_hides_in_its_tones():
    """Object and background share mean and spread of tone; in plain scenes they do not."""

    def differences(mode: str) -> tuple[float, float]:
        means, spreads = [], []
        for sample in map(SceneData(60, seed=8, mode=mode, size=160).__getitem__, range(60)):
            inside = sample.segments > 0
            thing, rest = (sample.image[m].astype(float) for m in (inside, ~inside))
            means.append(np.abs(thing.mean(0) - rest.mean(0)).max() / 255)
            spreads.append(np.abs(thing.std(0) - rest.std(0)).max() / 255)
        return float(np.median(means)), float(np.median(spreads))

    camouflage, plain = differences("camouflage"), differences("plain")
    assert camouflage[0] < 0.04 < 0.15 < plain[0]
    assert camouflage[1] < 0.03 < 0.06 < plain[1]
