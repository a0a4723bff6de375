"""Training samples of the methods: what they hold, and that they can be had again."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from clipsam.data.samples import BACKGROUND, VOID, LabelledImage
from clipsam.training.prompted_samples import PromptedSamples
from clipsam.weights.presets import TINY

NAMES = ("left", "right", "speck")


@dataclasses.dataclass
class Halves:
    """Two pictures: their left half is one class, the right one another; some of it is void."""

    names = NAMES
    keys = ("wide", "tall")

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> LabelledImage:
        shape = ((40, 80), (80, 40))[index]
        classes = np.full(shape, BACKGROUND, np.int16)
        half = shape[1] // 2
        classes[:, :half], classes[:, half:] = 0, 1
        classes[: shape[0] // 2, half:] = VOID
        classes[0, 0] = 2
        image = np.zeros((*shape, 3), np.uint8)
        image[:, :half] = 200
        segments = np.where(classes >= 0, classes + 1, 0).astype(np.int32)
        return LabelledImage(self.keys[index], image, classes, segments, NAMES)


PAIRS = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]


def samples(**fields) -> PromptedSamples:
    return PromptedSamples(Halves(), PAIRS, TINY, **{"seed": 1, "augmentation": "none", **fields})


def test_an_epoch_shows_every_pair_once():
    epoch = samples()
    assert epoch.epoch == 5
    for start in (0, 5):
        shown = [epoch[start + i] for i in range(5)]
        pairs = [(tuple(s["content"].tolist()), int(s["classes"])) for s in shown]
        wide, tall = (128, 256), (256, 128)
        assert sorted(pairs) == sorted(
            [(wide, 0), (wide, 1), (wide, 2), (tall, 0), (tall, 1)],
        )


def test_epochs_differ_and_a_sample_is_always_the_same():
    first, second = samples(augmentation="paper"), samples(augmentation="paper")
    order = [int(first[i]["classes"]) for i in range(40)]
    assert any(order[i : i + 5] != order[:5] for i in range(5, 40, 5))
    for index in (7, 2, 23):  # in any order of asking
        for key, value in first[index].items():
            assert torch.equal(value, second[index][key]), key
    assert not torch.equal(first[0]["draws"], first[1]["draws"])


def test_classes_of_one_image_share_a_sample():
    epoch = samples(classes_per_image=2)
    assert epoch.epoch == 3  # 3 classes need two samples, 2 classes one
    seen = set()
    for index in range(3):
        sample = epoch[index]
        assert sample["targets"].shape == (2, 1, 64, 64)
        assert len(set(sample["classes"].tolist())) == 2
        seen |= {(tuple(sample["content"].tolist()), c) for c in sample["classes"].tolist()}
    assert len(seen) == 5


def test_targets_follow_the_picture_into_the_square():
    for index in range(5):
        sample = samples(target_side=64)[index]
        height, width = (sample["content"] // 4).tolist()
        target, valid = sample["targets"][0, 0], sample["valid"][0]
        expected_valid = torch.zeros(64, 64)
        expected_valid[:height, :width] = 1
        expected_valid[: height // 2, width // 2 : width] = 0  # void
        assert torch.equal(valid, expected_valid)
        bright = sample["sam"].float().mean(0)[2::4, 2::4] > 100
        if int(sample["classes"]) == 0:
            assert (target[1:height, : width // 2] == 1).all() and bright[1:height, 0].all()
        if int(sample["classes"]) == 1:
            assert (target[height // 2 : height, width // 2 : width] == 1).all()
        if int(sample["classes"]) == 2:  # one pixel of 40 × 80, shown 3.2 × 3.2 times as large
            assert 0 < target.sum() < 3


def test_clicks_lie_in_the_class_in_pixels_of_the_input():
    for index in range(10):
        sample = samples(clicks=(1, 4))[index]
        used = sample["click_labels"][0] == 1
        assert 1 <= used.sum() <= 4
        assert (sample["click_labels"][0][~used] == -1).all()
        points = sample["clicks"][0][used]
        height, width = sample["content"].tolist()
        assert (points[:, 1] < height).all() and (points[:, 0] < width).all()
        left = points[:, 0] < width / 2
        assert left.all() if int(sample["classes"]) in (0, 2) else not left.any()


@pytest.mark.parametrize(("share", "expected"), [(0.0, {False}), (1.0, {True})])
def test_share_of_manual_samples(share, expected):
    epoch = samples(manual_share=share)
    assert {bool(epoch[i]["manual"]) for i in range(20)} == expected


def test_a_class_that_augmentation_loses_is_taken_from_the_whole_picture():
    """The speck is one pixel: no crop may leave a sample without its class."""
    epoch = samples(augmentation="paper")
    for index in range(60):
        sample = epoch[index]
        assert (sample["targets"] > 0).any(), index
