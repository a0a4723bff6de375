"""Training samples of label maps: which classes are asked, and what each pixel is called."""

from __future__ import annotations

import numpy as np
import pytest

from clipsam.data.readers import ConcatData
from clipsam.data.samples import BACKGROUND, VOID, LabelledImage
from clipsam.training.label_map_samples import NO_CLASS, LabelMapSamples


class Quarters:
    """One picture of two classes, background and void, a quarter each; other classes are absent."""

    def __init__(self, *others: str) -> None:
        self.names = ("upper left", "upper right", *others)
        self.keys = ("it",)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> LabelledImage:
        classes = np.zeros((40, 80), np.int16)
        classes[:20, 40:] = 1
        classes[20:, :40], classes[20:, 40:] = BACKGROUND, VOID
        image = np.zeros((40, 80, 3), np.uint8)
        image[:20, :40] = 255
        return LabelledImage("it", image, classes, np.zeros((40, 80), np.int32), self.names)


def samples(data: object = None, **fields: object) -> LabelMapSamples:
    data = data or Quarters("absent", "missing", "gone")
    settings = {"seed": 1, "augmentation": "none", "classes_per_image": 4, **fields}
    return LabelMapSamples(data, range(len(data)), 32, **settings)


def test_every_pixel_is_called_by_its_place_among_the_classes_asked():
    sample = samples()[0]
    classes = sample["classes"].tolist()
    assert len(set(classes)) == 4 and set(classes[:2]) == {0, 1} and set(classes[2:]) < {2, 3, 4}
    labels = sample["labels"]
    assert (labels[:16, :16] == classes.index(0)).all()
    assert (labels[:16, 16:] == classes.index(1)).all()
    assert (labels[16:, :16] == BACKGROUND).all()
    assert (labels[16:, 16:] == VOID).all()
    assert sample["clip"].shape == (3, 32, 32)
    assert sample["clip"][0, 8, 8] == 255 and sample["clip"][0, 8, 24] == 0


def test_a_class_that_is_present_but_not_asked_is_none_of_them():
    sample = samples(classes_per_image=1)[0]
    (asked,) = sample["classes"].tolist()
    corner = {0: (0, 0), 1: (0, 31)}
    assert sample["labels"][corner[asked]] == 0
    assert sample["labels"][corner[1 - asked]] == BACKGROUND
    assert sample["labels"][31, 31] == VOID


def test_all_classes_can_be_asked():
    assert sorted(samples(classes_per_image=None)[0]["classes"].tolist()) == [0, 1, 2, 3, 4]


def test_only_classes_that_were_looked_for_are_asked():
    """Nobody knows whether a picture of one data set shows a class of another."""
    both = ConcatData({"a": Quarters(), "b": Quarters("absent")})
    data = samples(both, classes_per_image=None)
    found = {tuple(sorted(data[i]["classes"].tolist())) for i in range(8)}
    nobody = (NO_CLASS,)
    assert found == {nobody * 3 + (0, 1), nobody * 2 + (2, 3, 4)}


def test_epochs_differ_and_a_sample_is_always_the_same():
    data = samples(classes_per_image=3)
    assert data.epoch == 1
    asked = [tuple(data[i]["classes"].tolist()) for i in range(12)]
    assert len(set(asked)) > 1
    assert asked == [tuple(data[i]["classes"].tolist()) for i in range(12)]


@pytest.mark.parametrize("size", [(30, 50), (50, 30), (30, 30)])
def test_the_crop_of_the_papers_is_a_square_of_the_short_side(size):
    from clipsam.data.augment import augment

    columns = np.broadcast_to(np.arange(size[1]), size)
    sample = LabelledImage(
        "it",
        np.zeros((*size, 3), np.uint8),
        columns.astype(np.int16),
        np.zeros(size, np.int32),
        tuple(map(str, range(50))),
    )
    firsts = set()
    for seed in range(20):
        cut = augment(sample, "crop", seed).classes
        assert cut.shape == (30, 30)
        step = np.diff(cut[0])
        assert (step == 1).all() or (step == -1).all()
        firsts.add(int(cut.min()))
    assert len(firsts) > 1 if size[1] > 30 else firsts == {0}
