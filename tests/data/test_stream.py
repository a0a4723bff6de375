"""The training stream: a function of (seed, index), with labels that stay on their pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from clipsam.data.samples import BACKGROUND, VOID, LabelledImage
from clipsam.data.stream import Domain, TrainingStream, paste_segments
from clipsam.data.synthetic import SceneData

COLOURS = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]], np.uint8)


class Colourful:
    """Patches of red, green and blue: the strongest channel is the class, on grey."""

    names = ("red", "green", "blue")

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> LabelledImage:
        rng = np.random.default_rng(index)
        height, width = 90 + 20 * index, 150 - 10 * index
        image = np.full((height, width, 3), 120, np.uint8)
        classes = np.full((height, width), BACKGROUND, np.int16)
        segments = np.zeros((height, width), np.int32)
        for number in range(1, 6):
            top, left = rng.integers(0, (height - 35, width - 35))
            window = np.s_[top : top + 35, left : left + 35]
            classes[window] = rng.integers(3)
            image[window] = COLOURS[classes[window]]
            segments[window] = number
        return LabelledImage(f"{index}", image, classes, segments, self.names)


def stream(seed: int = 0, photographs: bool = False, **settings) -> TrainingStream:
    domains = {
        "scenes": Domain(SceneData(4, size=64), 1.0, photographs=False),
        "colours": Domain(Colourful(), 3.0, photographs),
    }
    return TrainingStream(domains, seed, side=128, label_side=64, **settings)


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


@pytest.mark.parametrize("photographs", [False, True])
def test_a_sample_is_a_function_of_seed_and_index(photographs):
    whole = stream(photographs=photographs)
    for k in (3, 11):
        assert_same(stream(photographs=photographs)[k], whole[k])
    assert not torch.equal(whole[3]["image"], whole[4]["image"])
    other = stream(seed=1, photographs=photographs)
    assert not torch.equal(whole[3]["image"], other[3]["image"])


def test_form():
    samples = stream()
    assert samples.vocabulary.names[-3:] == ["red", "green", "blue"]
    (_, scenes), colours = samples.vocabulary.ranges
    assert colours == (scenes, scenes + 3)
    domains = []
    for i in range(40):
        sample = samples[i]
        domains.append(int(sample["domain"]))
        start, stop = samples.vocabulary.ranges[domains[-1]]
        known = sample["classes"][sample["classes"] >= 0]
        assert ((known >= start) & (known < stop)).all()
        assert {k: (v.dtype, tuple(v.shape)) for k, v in sample.items()} == {
            "image": (torch.uint8, (3, 128, 128)),
            "classes": (torch.int16, (64, 64)),
            "segments": (torch.int32, (64, 64)),
            "domain": (torch.int64, ()),
            "name": (torch.int64, ()),
        }
        assert sample["name"] == VOID
    assert 20 <= sum(domains) <= 38, "three in four come from the second domain"


@pytest.mark.parametrize("photographs", [False, True])
def test_labels_stay_on_their_pixels(photographs):
    samples = stream(photographs=photographs)
    start = samples.vocabulary.ranges[1][0]
    seen = 0
    for i in range(40):
        sample = samples[i]
        if sample["domain"] == 0:
            continue
        strongest = sample["image"].argmax(0).numpy()[::2, ::2]
        labels = sample["classes"].numpy()
        for number in range(3):
            # Resampling blends colours within two pixels of an edge.
            core = ndimage.binary_erosion(labels == start + number, iterations=2)
            assert (strongest[core] == number).all()
            seen += core.sum()
        labels, segments = sample["classes"], sample["segments"]
        assert torch.equal(segments > 0, labels >= 0)
        for number in segments.unique()[1:]:
            assert len(labels[segments == number].unique()) == 1
    assert seen > 3_000


class Named(Colourful):
    """The same pictures with a name each and no mask."""

    def __getitem__(self, index: int) -> LabelledImage:
        sample = super().__getitem__(index)
        nothing = np.full_like(sample.classes, VOID)
        return LabelledImage(
            sample.key, sample.image, nothing, np.zeros_like(sample.segments), self.names
        )


def test_a_photograph_without_mask_brings_its_name():
    domains = {
        "colours": Domain(Colourful(), 1.0, True),
        "named": Domain(Named(), 1.0, True, photograph_names=(2,) * 6),
    }
    samples = TrainingStream(domains, 0, side=64, label_side=32)
    names = {int(samples[i]["domain"]): int(samples[i]["name"]) for i in range(20)}
    assert names == {0: VOID, 1: samples.vocabulary.ranges[1][0] + 2}
    for i in range(20):
        if samples[i]["domain"] == 1:
            assert (samples[i]["classes"] == VOID).all()
            assert (samples[i]["segments"] == 0).all()


def test_paste_brings_whole_segments_with_their_labels():
    data = Colourful()
    target, donor = data[0], data[3]
    grown = 0
    for seed in range(10):
        pasted = paste_segments(np.random.default_rng(seed), target, donor)
        changed = pasted.segments != target.segments
        grown += changed.any()
        kept = ~changed
        np.testing.assert_array_equal(pasted.image[kept], target.image[kept])
        np.testing.assert_array_equal(pasted.classes[kept], target.classes[kept])
        assert (pasted.segments[changed] > target.segments.max()).all()
        assert pasted.image.dtype == np.uint8
    assert grown == 10


def test_nothing_to_paste():
    target, donor = Colourful()[0], Colourful()[1]
    bare = LabelledImage("bare", donor.image, donor.classes, 0 * donor.segments, donor.names)
    assert paste_segments(np.random.default_rng(0), target, bare) is target
