"""An endless stream of augmented training samples, each a function of (seed, index) alone.

So training resumes exactly where it stopped, with any number of loader processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ..geometry import SquareTransform
from .samples import VOID, LabelledImage, SegmentationData


@dataclass(frozen=True)
class Domain:
    """One source of training images and how often it is drawn.

    Attributes:
        data: the images.
        weight: share of the samples, relative to the other domains.
        photographs: real pictures get stronger augmentation than procedural scenes.
        photograph_names: of photographs that have a name and no mask, the index of each one's
            name into ``data.names``.
    """

    data: SegmentationData
    weight: float
    photographs: bool
    photograph_names: tuple[int, ...] | None = None


class Vocabulary:
    """All domains' class names in one list, with the range that each domain uses.

    Attributes:
        names: of all classes.
        ranges: (first, last + 1) index of each domain's names.
    """

    def __init__(self, domains: Mapping[str, Domain]) -> None:
        self.names: list[str] = []
        self.ranges: list[tuple[int, int]] = []
        for domain in domains.values():
            start = len(self.names)
            self.names.extend(domain.data.names)
            self.ranges.append((start, len(self.names)))


class TrainingStream(Dataset):
    """Samples for all stages of training.

    Each sample is a dict of tensors:
        ``image`` uint8 (3, S, S): the crop squashed to a square;
        ``classes`` int16 (L, L): index into the joint vocabulary, VOID or BACKGROUND;
        ``segments`` int32 (L, L): object numbers;
        ``domain`` int64 ();
        ``name`` int64 (): index of the photograph's name into the joint vocabulary, or VOID.
    """

    def __init__(
        self,
        domains: Mapping[str, Domain],
        seed: int,
        side: int,
        label_side: int,
    ) -> None:
        """Combine the domains.

        Args:
            domains: where samples come from.
            seed: of all chance.
            side: S, pixels.
            label_side: L.
        """
        self.domains = list(domains.values())
        self.vocabulary = Vocabulary(domains)
        self.seed, self.side, self.label_side = seed, side, label_side
        weights = np.array([domain.weight for domain in self.domains])
        self._shares = weights / weights.sum()

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, index))
        number = int(rng.choice(len(self.domains), p=self._shares))
        domain = self.domains[number]
        drawn = int(rng.integers(len(domain.data)))
        sample = augment(rng, domain.data[drawn], domain.photographs)
        if domain.photographs and domain.photograph_names is None and rng.random() < 0.3:
            donor = domain.data[int(rng.integers(len(domain.data)))]
            sample = paste_segments(rng, sample, augment(rng, donor, domain.photographs))
        offset = self.vocabulary.ranges[number][0]
        classes = np.where(sample.classes >= 0, sample.classes + offset, sample.classes)
        name = VOID
        if domain.photograph_names is not None:
            name = offset + domain.photograph_names[drawn]
        return {
            **self._tensors(sample.image, classes, sample.segments),
            "domain": torch.tensor(number),
            "name": torch.tensor(name),
        }

    def _tensors(
        self, image: np.ndarray, classes: np.ndarray, segments: np.ndarray
    ) -> dict[str, Tensor]:
        pixels = SquareTransform(classes.shape, self.side, "squash").image(image)
        size = (self.label_side,) * 2
        return {
            "image": torch.from_numpy(pixels).permute(2, 0, 1),
            "classes": torch.from_numpy(_nearest(classes, size).astype(np.int16)),
            "segments": torch.from_numpy(_nearest(segments, size)),
        }


def _nearest(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows = (np.arange(size[0]) + 0.5) * (labels.shape[0] / size[0])
    columns = (np.arange(size[1]) + 0.5) * (labels.shape[1] / size[1])
    return labels[rows.astype(int)][:, columns.astype(int)]


def augment(rng: np.random.Generator, sample: LabelledImage, strong: bool) -> LabelledImage:
    """Random crop, horizontal flip and, for photographs, light and colour."""
    image, classes, segments = sample.image, sample.classes, sample.segments
    if rng.random() < (0.7 if strong else 0.35):
        height, width = classes.shape
        area, stretch = rng.uniform(0.25 if strong else 0.4, 1), np.exp(rng.uniform(-0.35, 0.35))
        crop_height = int(np.clip(height * np.sqrt(area * stretch), 8, height))
        crop_width = int(np.clip(width * np.sqrt(area / stretch), 8, width))
        top = int(rng.integers(height - crop_height + 1))
        left = int(rng.integers(width - crop_width + 1))
        window = np.s_[top : top + crop_height, left : left + crop_width]
        image, classes, segments = image[window], classes[window], segments[window]
    if rng.random() < 0.5:
        image, classes, segments = image[:, ::-1], classes[:, ::-1], segments[:, ::-1]
    if strong:
        image = _recolour(rng, image)
    image = np.ascontiguousarray(image)
    return LabelledImage(sample.key, image, classes, segments, sample.names)


def _recolour(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Brightness, contrast, saturation and a colour cast."""
    pixels = image.astype(np.float32)
    grey = pixels.mean(axis=2, keepdims=True)
    pixels = grey + (pixels - grey) * rng.uniform(0.5, 1.5)
    pixels = (pixels - 128) * rng.uniform(0.65, 1.35) + 128 + rng.uniform(-30, 30)
    pixels *= rng.uniform(0.9, 1.1, 3).astype(np.float32)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def paste_segments(
    rng: np.random.Generator, sample: LabelledImage, donor: LabelledImage
) -> LabelledImage:
    """Copy up to three segments of another picture of the same data set onto this one."""
    size = sample.classes.shape
    numbers, counts = np.unique(donor.segments, return_counts=True)
    share = counts / donor.segments.size
    candidates = numbers[(numbers > 0) & (share > 0.004) & (share < 0.25)]
    if not len(candidates):
        return sample
    chosen = rng.permutation(candidates)[: rng.integers(1, 4)]
    segments = _nearest(donor.segments, size)
    inside = np.isin(segments, chosen)
    resized = Image.fromarray(donor.image).resize(size[::-1], Image.Resampling.BILINEAR)
    return LabelledImage(
        sample.key,
        np.where(inside[..., None], np.asarray(resized), sample.image),
        np.where(inside, _nearest(donor.classes, size), sample.classes),
        np.where(inside, segments + sample.segments.max(), sample.segments),
        sample.names,
    )
