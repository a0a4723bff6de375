"""Training samples of methods that label every pixel: an image and which asked class each shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ..data.augment import Augmentation, augment
from ..data.samples import BACKGROUND, SegmentationData
from ..geometry import SquareTransform

NO_CLASS = -1
"""Fills up the classes of an image that fewer can be asked of."""


class LabelMapSamples(Dataset):
    """Sample i for any i ≥ 0, the same at every call: epochs follow each other, each shuffled anew.

    A sample is a dict of tensors:
        ``clip`` uint8 (3, S, S): the image squashed into the network's input;
        ``classes`` int64 (G,): the classes asked, as indices into the data set's names; at the end
            perhaps :data:`NO_CLASS`;
        ``labels`` int64 (S, S): place of each pixel's class among them, ``BACKGROUND`` where it is
            none of them, ``VOID`` where nobody knows.
    """

    def __init__(
        self,
        data: SegmentationData,
        images: Sequence[int],
        side: int,
        *,
        seed: int,
        classes_per_image: int | None = None,
        augmentation: Augmentation = "crop",
    ) -> None:
        """Prepare the samples.

        Args:
            data: the images.
            images: which of them.
            side: S, pixels.
            seed: of order, augmentation and classes.
            classes_per_image: G: the image's own classes, as many as fit, the others drawn from
                those that are known to be absent; ``None`` asks for every class of the data set.
            augmentation: see :func:`clipsam.data.augment.augment`.
        """
        self.data, self.images, self.side, self.seed = data, tuple(images), side, seed
        self.group = min(classes_per_image or len(data.names), len(data.names))
        self.augmentation: Augmentation = augmentation
        self.epoch = len(self.images)
        """Samples that show every image once."""

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        epoch, place = divmod(index, self.epoch)
        order = np.random.default_rng((self.seed, epoch)).permutation(self.images)
        rng = np.random.default_rng((self.seed, epoch, place))
        sample = augment(self.data[int(order[place])], self.augmentation, int(rng.integers(2**31)))
        asked = rng.permutation(sample.present())[: self.group]
        others = rng.permutation(sample.absent())[: self.group - len(asked)]
        classes = np.full(self.group, NO_CLASS)
        classes[: len(asked) + len(others)] = np.concatenate((asked, others))
        labels = np.where(sample.classes >= 0, BACKGROUND, sample.classes)
        for position, value in enumerate(asked):
            labels[sample.classes == value] = position
        size = (self.side, self.side)
        picture = SquareTransform(labels.shape, self.side, "squash").image(sample.image)
        squashed = Image.fromarray(labels.astype(np.int32)).resize(size, Image.Resampling.NEAREST)
        return {
            "clip": torch.from_numpy(picture).permute(2, 0, 1),
            "classes": torch.from_numpy(classes.astype(np.int64)),
            "labels": torch.from_numpy(np.asarray(squashed).astype(np.int64)),
        }
