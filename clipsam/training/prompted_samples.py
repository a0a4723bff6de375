"""Training samples of the methods: an image and classes present in it, with masks and clicks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from ..data.augment import Augmentation, augment
from ..data.samples import VOID, LabelledImage, SegmentationData
from ..geometry import SquareTransform
from ..prompting import points_in_mask
from ..weights.presets import Preset

LEAST_PIXELS = 16
"""A class with fewer pixels left after augmentation is taken from the image as it was."""


class PromptedSamples(Dataset):
    """Sample i for any i ≥ 0, the same at every call: epochs follow each other, each shuffled anew.

    The papers' sample is one image and one class. With more classes per image, features that do
    not depend on the class are computed once for all of them. A sample is a dict of tensors:
        ``sam`` uint8 (3, S, S): the image laid into SAM's input, padded with zeros;
        ``clip`` uint8 (3, R, R): the image squashed into CLIP's input;
        ``content`` int64 (2,): height and width of the image within SAM's input;
        ``classes`` int64 (G,): index of each class into the data set's names;
        ``targets`` float (G, 1, T, T): share of each target pixel that the class covers;
        ``valid`` float (1, T, T): 1 where a target pixel has labelled pixels, else 0;
        ``clicks`` float (G, K, 2): points (x, y) within the class, in pixels of SAM's input;
        ``click_labels`` int64 (G, K): 1, or -1 for points that are not used;
        ``draws`` int64 (G,): a seed for each class, for what the training draws itself;
        ``manual`` bool (G,): whether the clicks prompt SAM, or points from CLIP's map.
    """

    def __init__(
        self,
        data: SegmentationData,
        samples: Sequence[tuple[int, int]],
        preset: Preset,
        *,
        seed: int,
        classes_per_image: int = 1,
        clicks: tuple[int, int] = (5, 5),
        manual_share: float = 1.0,
        augmentation: Augmentation = "paper",
        target_side: int | None = None,
    ) -> None:
        """Prepare the samples.

        Args:
            data: the images.
            samples: (image index, class value) pairs to train on.
            preset: whose inputs are made.
            seed: of order, augmentation and points.
            classes_per_image: G.
            clicks: fewest and most clicks of a class; K is the most.
            manual_share: share of classes that are prompted with clicks.
            augmentation: see :func:`clipsam.data.augment.augment`.
            target_side: T; ``None`` is the side of SAM's low-resolution masks.
        """
        self.data, self.preset, self.seed = data, preset, seed
        self.group, self.clicks, self.manual_share = classes_per_image, clicks, manual_share
        self.augmentation: Augmentation = augmentation
        self.target_side = target_side or preset.sam.mask_side
        self._classes: dict[int, list[int]] = {}
        for image, value in samples:
            self._classes.setdefault(image, []).append(value)
        self.epoch = sum(-(-len(values) // self.group) for values in self._classes.values())
        """Samples that show every (image, class) pair at least once."""
        self._order: tuple[int, list[tuple[int, list[int]]]] = (-1, [])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        epoch, place = divmod(index, self.epoch)
        image, values = self._shuffled(epoch)[place]
        rng = np.random.default_rng((self.seed, epoch, place))
        original = self.data[image]
        sample = augment(original, self.augmentation, int(rng.integers(2**31)))
        if any(np.count_nonzero(sample.classes == value) < LEAST_PIXELS for value in values):
            sample = original
        return self._tensors(sample, values, rng)

    def _shuffled(self, epoch: int) -> list[tuple[int, list[int]]]:
        """Return the groups of an epoch, (image, classes) each, in order."""
        if self._order[0] != epoch:
            rng = np.random.default_rng((self.seed, epoch))
            groups = []
            for image, values in self._classes.items():
                drawn = rng.permutation(values).tolist()
                for start in range(0, len(drawn), self.group):
                    # A last group that is not full is filled from the front.
                    places = (start + np.arange(self.group)) % len(drawn)
                    groups.append((image, [drawn[place] for place in places]))
            self._order = epoch, [groups[i] for i in rng.permutation(len(groups))]
        return self._order[1]

    def _tensors(
        self, sample: LabelledImage, values: Sequence[int], rng: np.random.Generator
    ) -> dict[str, Tensor]:
        preset, side = self.preset, self.preset.sam.image_size
        transform = SquareTransform(sample.classes.shape, side, preset.fit)
        squash = SquareTransform(sample.classes.shape, preset.clip.surgery_size, "squash")
        height, width = transform.content
        sam = np.zeros((side, side, 3), np.uint8)
        sam[:height, :width] = transform.image(sample.image)
        masks = np.stack([sample.classes == value for value in values])
        known = sample.classes != VOID
        laid = torch.zeros(len(values) + 1, side, side)
        planes = torch.from_numpy(np.concatenate((masks, known[None]))).float()[None]
        laid[:, :height, :width] = F.interpolate(planes, (height, width), mode="area")[0]
        small = F.interpolate(laid[None], (self.target_side,) * 2, mode="area")[0]
        covered, labelled = small[:-1, None], small[-1:]
        points, labels = self._clicks(masks, transform, rng)
        return {
            "sam": torch.from_numpy(sam).permute(2, 0, 1),
            "clip": torch.from_numpy(squash.image(sample.image)).permute(2, 0, 1),
            "content": torch.tensor([height, width]),
            "classes": torch.tensor(values),
            "targets": covered / labelled.clamp(min=1e-6),
            "valid": (labelled > 0).float(),
            "clicks": points,
            "click_labels": labels,
            "draws": torch.from_numpy(rng.integers(2**31, size=len(values))),
            "manual": torch.from_numpy(rng.random(len(values)) < self.manual_share),
        }

    def _clicks(
        self, masks: np.ndarray, transform: SquareTransform, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        least, most = self.clicks
        points = torch.zeros(len(masks), most, 2)
        labels = torch.full((len(masks), most), -1)
        for row, mask in enumerate(masks):
            count = int(rng.integers(least, most, endpoint=True))
            drawn = transform.coordinates(points_in_mask(mask, count, rng))
            points[row, :count], labels[row, :count] = torch.from_numpy(drawn), 1
        return points, labels
