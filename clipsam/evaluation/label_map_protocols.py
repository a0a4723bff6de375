"""Open-vocabulary evaluation: every class of a benchmark is queried in every image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from ..data.readers import DataError, class_list
from ..data.samples import BACKGROUND, SegmentationData

LabelMapOf = Callable[[np.ndarray, tuple[str, ...]], np.ndarray]
"""A method: (image uint8 (H, W, 3), names) → int (H, W), index into the names."""


@dataclass(frozen=True, eq=False)
class ConfusionMatrix:
    """Pixel counts by true and predicted class; matrices of several images can be added.

    Attributes:
        counts: int64 (K, K), row = true class, column = predicted class.
    """

    counts: np.ndarray

    @classmethod
    def of(cls, truth: np.ndarray, predicted: np.ndarray, classes: int) -> ConfusionMatrix:
        """Build the matrix of one image.

        Args:
            truth: int (H, W); pixels below 0 are not counted.
            predicted: int (H, W).
            classes: K.

        Raises:
            ValueError: the shapes differ, or a counted pixel has no class.
        """
        if truth.shape != predicted.shape:
            raise ValueError(
                f"truth and prediction must have the same shape, got {truth.shape} and "
                f"{predicted.shape}"
            )
        counted = truth >= 0
        pixels = np.stack((truth[counted], predicted[counted])).astype(np.int64)
        if pixels.size and not (pixels.min() >= 0 and pixels.max() < classes):
            raise ValueError(
                f"counted pixels must be in 0..{classes - 1}, got {pixels.min()}..{pixels.max()}"
            )
        counts = np.bincount(pixels[0] * classes + pixels[1], minlength=classes**2)
        return cls(counts.reshape(classes, classes))

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        return ConfusionMatrix(self.counts + other.counts)

    @property
    def present(self) -> np.ndarray:
        """Classes that occur in the truth, bool (K,)."""
        return self.counts.sum(1) > 0

    def iou_per_class(self) -> np.ndarray:
        """Return the IoU of each class, float64 (K,); NaN if neither in the truth nor predicted."""
        hits = np.diagonal(self.counts)
        union = self.counts.sum(0) + self.counts.sum(1) - hits
        return np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)

    def mean_iou(self) -> float:
        """Average the IoU over the classes in the truth; NaN if there are none."""
        present = self.present
        return float(self.iou_per_class()[present].mean()) if present.any() else float("nan")


@dataclass(frozen=True)
class Protocol:
    """Benchmark protocol: the queries of a method, and how pixels are counted.

    Void pixels are never scored. Background is scored only if it counts as a class; then every
    prompt beyond the classes means background.

    Attributes:
        name: as the papers call it.
        kind: of its data set, for ``open_data``.
        classes: names of the data set's classes; the index is the class value.
        prompts: queries of the method; the first ones are the classes, in order.
        background: whether background counts as one more class, the last.
    """

    name: str
    kind: str
    classes: tuple[str, ...]
    prompts: tuple[str, ...]
    background: bool = False

    def __post_init__(self) -> None:
        extra = len(self.prompts) - len(self.classes)
        if extra < 0 or (extra > 0) != self.background:
            raise ValueError(
                f"{self.name}: {len(self.prompts)} prompts do not fit {len(self.classes)} classes "
                f"{'with' if self.background else 'without'} background"
            )

    @property
    def scored(self) -> tuple[str, ...]:
        """Names of the confusion matrix's rows."""
        return (*self.classes, "background") if self.background else self.classes

    def count(self, truth: np.ndarray, predicted: np.ndarray) -> ConfusionMatrix:
        """Count the pixels of one image.

        Args:
            truth: int (H, W), a class map as in ``LabelledImage``.
            predicted: int (H, W), index into ``prompts``.

        Raises:
            ValueError: the shapes differ, or the prediction holds anything but such indices.
        """
        if not np.issubdtype(predicted.dtype, np.integer):
            raise ValueError(f"a label map must contain integers, got {predicted.dtype}")
        if predicted.size and not (predicted.min() >= 0 and predicted.max() < len(self.prompts)):
            raise ValueError(
                f"a label map of {self.name} must be in 0..{len(self.prompts) - 1}, got "
                f"{predicted.min()}..{predicted.max()}"
            )
        if self.background:
            last = len(self.classes)
            truth = np.where(truth == BACKGROUND, last, truth)
            predicted = np.minimum(predicted, last)
        return ConfusionMatrix.of(truth, predicted, len(self.scored))


PROTOCOLS = ("A-847", "PC-459", "A-150", "PC-59", "PAS-20", "PAS-20b")
"""Names of the benchmarks, in the papers' order."""


@cache
def load_protocol(name: str) -> Protocol:
    """Load one of :data:`PROTOCOLS`, as defined by CAT-Seg.

    Raises:
        DataError: there is no such benchmark.
    """
    if name not in PROTOCOLS:
        raise DataError(f"there is no benchmark {name}, expected one of {', '.join(PROTOCOLS)}")
    kind = name.lower()
    background = kind == "pas-20b"
    prompts = class_list(kind)
    return Protocol(
        name,
        kind,
        classes=class_list("pas-20") if background else prompts,
        # The first of a class's synonyms is queried.
        prompts=tuple(names.split(", ")[0] for names in prompts),
        background=background,
    )


@dataclass(frozen=True)
class OpenVocabularyResult:
    """Scores of a method on a benchmark.

    Attributes:
        protocol: the benchmark.
        images: how many were scored.
        confusion: counts over all of them, by ``protocol.scored``.
    """

    protocol: Protocol
    images: int
    confusion: ConfusionMatrix

    @property
    def mean_iou(self) -> float:
        """Mean IoU of the confusion matrix, 0 to 1; NaN without a scored pixel."""
        return self.confusion.mean_iou()


def evaluate_open_vocabulary(
    data: SegmentationData,
    label_map_of: LabelMapOf,
    protocol: Protocol,
    progress: Callable[[int, int], object] | None = None,
) -> OpenVocabularyResult:
    """Evaluate a method on a benchmark, each image at its own resolution.

    Args:
        data: the benchmark's images. Other kinds with the same class ids work too:
            ``ade20k`` for A-150, ``pascal-context`` for PC-59, ``voc`` for PAS-20 and PAS-20b.
        label_map_of: the method.
        protocol: the benchmark.
        progress: called with (images done, total).

    Raises:
        DataError: the data set has another number of classes, or an image cannot be read.
        ValueError: the method's label map is not one.
    """
    if len(data.names) != len(protocol.classes):
        raise DataError(
            f"{protocol.name} has {len(protocol.classes)} classes, but the data set has "
            f"{len(data.names)}; open it as {protocol.kind}:PATH"
        )
    size = len(protocol.scored)
    total = ConfusionMatrix(np.zeros((size, size), np.int64))
    for done in range(len(data)):
        sample = data[done]
        predicted = label_map_of(sample.image, protocol.prompts)
        total += protocol.count(sample.classes, predicted)
        if progress is not None:
            progress(done + 1, len(data))
    return OpenVocabularyResult(protocol, len(data), total)
