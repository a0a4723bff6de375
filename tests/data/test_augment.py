"""Augmentation: image and labels move together, labels stay labels."""

from __future__ import annotations

import numpy as np
import pytest

from clipsam.data.augment import augment
from clipsam.data.samples import BACKGROUND, VOID, LabelledImage
from clipsam.data.synthetic import SceneData


@pytest.fixture
def flag() -> LabelledImage:
    """A wide picture of two flat colours, one class each; class 1 is blue."""
    classes = np.zeros((90, 160), np.int16)
    classes[30:60, 40:90] = 1
    image = np.zeros((90, 160, 3), np.uint8)
    image[..., 0], image[classes == 1] = 220, (0, 0, 220)
    return LabelledImage("flag", image, classes, (classes + 1).astype(np.int32), ("red", "blue"))


def test_none_changes_nothing(flag):
    same = augment(flag, "none", 3)
    np.testing.assert_array_equal(same.image, flag.image)
    np.testing.assert_array_equal(same.classes, flag.classes)


def test_mirror_gives_the_picture_or_its_mirror_image(flag):
    seen = set()
    for seed in range(20):
        changed = augment(flag, "mirror", seed)
        mirrored = not np.array_equal(changed.classes, flag.classes)
        seen.add(mirrored)
        turn = np.s_[:, ::-1] if mirrored else np.s_[:, :]
        np.testing.assert_array_equal(changed.classes, flag.classes[turn])
        np.testing.assert_array_equal(changed.image, flag.image[turn])
        np.testing.assert_array_equal(changed.segments, flag.segments[turn])
    assert seen == {False, True}


def test_labels_move_with_the_picture(flag):
    """However it is turned and cropped, blue pixels are those of class 1."""
    for seed in range(40):
        changed = augment(flag, "paper", seed)
        assert changed.image.dtype == np.uint8 and changed.classes.dtype == np.int16
        assert changed.image.shape == flag.image.shape
        assert set(np.unique(changed.classes)) <= {VOID, 0, 1}
        hidden = (changed.image == 0).all(-1)  # under a cutout
        image = changed.image.astype(int)
        blue = image[..., 2] > image[..., 0]
        known = (changed.classes != VOID) & ~hidden
        wrong = (blue != (changed.classes == 1)) & known
        assert wrong.mean() < 0.03, seed  # the border between colours is blurred


def test_pixels_that_affine_brings_in_are_void(flag):
    voids = [(augment(flag, "paper", seed).classes == VOID).mean() for seed in range(40)]
    assert 0 < np.mean(np.array(voids) > 0) < 1


def test_a_cutout_hides_the_image_and_keeps_the_labels():
    classes = np.full((128, 128), BACKGROUND, np.int16)
    white = LabelledImage(
        "white", np.full((128, 128, 3), 255, np.uint8), classes, classes * 0, ("a",)
    )
    holes = 0
    for seed in range(60):
        changed = augment(white, "paper", seed)
        hidden = (changed.image == 0).all(-1)
        if hidden.any():
            holes += 1
            assert hidden.sum() <= 8 * 8  # 64 of 1024 pixels a side
            assert (changed.classes[hidden] != 0).all()
    assert 5 < holes < 35  # three in ten


@pytest.mark.parametrize("kind", ["mirror", "paper"])
def test_the_same_seed_gives_the_same(kind):
    scene = SceneData(1, seed=2)[0]
    first, second = augment(scene, kind, 7), augment(scene, kind, 7)
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.classes, second.classes)
    others = [augment(scene, kind, seed).image for seed in range(6)]
    assert any(not np.array_equal(other, first.image) for other in others)
