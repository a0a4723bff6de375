"""Inputs and outputs of methods: small frozen dataclasses that validate themselves."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
import torch
from scipy import ndimage

from .errors import PromptError
from .geometry import SquareTransform
from .names import SEPARATORS, fold_name

NOTHING = -32.0
"""Logit of every pixel of an empty mask."""

Overlap = Literal["independent", "argmax", "highest-presence"]
"""Which class a pixel claimed by several goes to.

``independent``: all of them. ``argmax``: the one with the highest logit. ``highest-presence``: the
one with the highest presence, ties by logit.
"""

OVERLAPS: tuple[Overlap, ...] = get_args(Overlap)

MOST_REGIONS = 100
"""Connected regions of a mask that are taken for objects, the largest; COCO counts 100 as well."""


ScoreSpace = Literal["logits", "probabilities"]
"""What is resized from a network's resolution to the image's: logits, as SAM does, or their
sigmoid, as CAT-Seg does. Near a steep edge the two differ."""


@dataclass(frozen=True)
class Concept:
    """One class to segment.

    Attributes:
        synonyms: names of the class; the first is shown.
        points: float32 (K, 2), (x, y) in pixels of the original image.
        labels: int64 (K,), 1 foreground, 0 background.
        box: float32 (4,), (x0, y0, x1, y1) in pixels of the original image, or ``None``.
    """

    synonyms: tuple[str, ...]
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    box: np.ndarray | None = None

    def __post_init__(self) -> None:
        names = tuple(" ".join(name.split()) for name in self.synonyms)
        if not names or not all(names):
            raise PromptError("A class needs a name.")
        if any("\ud800" <= letter <= "\udfff" for name in names for letter in name):
            raise PromptError("A class name contains half a character. Type it again.")
        points = np.asarray(self.points, np.float32)
        labels = np.asarray(self.labels, np.int64)
        if points.ndim != 2 or points.shape[1] != 2:
            raise PromptError(f"{names[0]}: points must be (K, 2), got {points.shape}.")
        if labels.shape != (len(points),):
            raise PromptError(
                f"{names[0]}: {len(points)} points need {len(points)} labels, got {labels.shape}."
            )
        if not np.isin(labels, (0, 1)).all():
            raise PromptError(f"{names[0]}: point labels must be 1 (foreground) or 0 (background).")
        object.__setattr__(self, "synonyms", names)
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "labels", labels)
        if self.box is not None:
            box = np.asarray(self.box, np.float32)
            if box.shape != (4,) or not (box[0] < box[2] and box[1] < box[3]):
                raise PromptError(
                    f"{names[0]}: a box must be (x0, y0, x1, y1) with x0 < x1 and y0 < y1."
                )
            object.__setattr__(self, "box", box)

    @property
    def text(self) -> str:
        """Display name."""
        return self.synonyms[0]

    @property
    def key(self) -> Hashable:
        """Key of the whole content; classes with equal keys give equal results."""
        box = None if self.box is None else self.box.tobytes()
        return self.synonyms, self.points.tobytes(), self.labels.tobytes(), box

    @property
    def prompts(self) -> SamPrompts:
        """The user's points and box as SAM prompts."""
        boxes = np.zeros((0, 4), np.float32) if self.box is None else self.box[None]
        return SamPrompts(self.points, self.labels, boxes)

    @property
    def has_user_prompt(self) -> bool:
        """Whether the user gave a foreground point or a box."""
        return self.box is not None or bool((self.labels == 1).any())


@dataclass(frozen=True)
class Prompt:
    """The classes to segment in one image, each with its points and box."""

    concepts: tuple[Concept, ...]

    def __post_init__(self) -> None:
        if not self.concepts:
            raise PromptError("Enter at least one class name, for example: dog; puppy, grass")
        texts = [fold_name(concept.text) for concept in self.concepts]
        for text in texts:
            if texts.count(text) > 1:
                raise PromptError(f"The class “{text}” is given twice.")

    @property
    def texts(self) -> tuple[str, ...]:
        """Class names, in order."""
        return tuple(concept.text for concept in self.concepts)

    @property
    def keys(self) -> list[Hashable]:
        """Keys of the classes; prompts with equal keys give equal results."""
        return [concept.key for concept in self.concepts]

    def check_inside(self, image_size: tuple[int, int]) -> None:
        """Check the points and boxes.

        Raises:
            PromptError: a point or box lies outside an image of (height, width).
        """
        height, width = image_size
        for concept in self.concepts:
            corners = np.zeros((0, 2)) if concept.box is None else concept.box.reshape(2, 2)
            for x, y in np.concatenate((concept.points, corners)):
                if not (0 <= x <= width and 0 <= y <= height):
                    raise PromptError(
                        f"{concept.text}: ({x:g}, {y:g}) lies outside the image, which is "
                        f"{width} × {height} pixels."
                    )


def parse_classes(text: str) -> tuple[tuple[str, ...], ...]:
    """Parse class names: ``,`` separates classes, ``;`` synonyms of one class.

    Commas and semicolons of other scripts, such as ``，``, ``、`` and ``；``, count as theirs.

    >>> parse_classes("dog; puppy, grass")
    (('dog', 'puppy'), ('grass',))
    """
    classes = [
        tuple(name for part in entry.split(";") if (name := " ".join(part.split())))
        for entry in text.translate(SEPARATORS).split(",")
    ]
    return tuple(names for names in classes if names)


@dataclass(frozen=True)
class SamPrompts:
    """SAM prompts of one class.

    Attributes:
        points: float32 (K, 2), (x, y) in pixels of the original image.
        labels: int64 (K,), 1 foreground, 0 background.
        boxes: float32 (N, 4), (x0, y0, x1, y1) in pixels of the original image; each of several
            yields a mask of its own.
        dense: bool (h, w), where the dense prompt was foreground, over SAM's square; or ``None``.
    """

    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    dense: np.ndarray | None = None


@dataclass(frozen=True)
class BlockTrace:
    """Intermediate state of one block of an iterative method for one class.

    Attributes:
        similarity: float32 (gh, gw) over the whole image: the input of the block, so the first
            one is the result's own ``similarity`` (M⁰) and the k-th is M^{k−1}. The output of the
            last block is the result's logits.
        points: float32 (K, 2), the pseudo points, (x, y) in pixels of the original image.
        regions: bool (K, gh, gw), the pseudo masks that these points stand for, disjoint, on the
            cells of ``similarity``; ``None`` if the method does not prompt SAM, then K is 0.
    """

    similarity: np.ndarray
    points: np.ndarray
    regions: np.ndarray | None


@dataclass(frozen=True)
class Instance:
    """One object of a class, as a method found it.

    Attributes:
        logits: float32 (h, w) at the network's own resolution, over its square input.
        box: float32 (4,), (x0, y0, x1, y1) in pixels of the original image; ``None`` if the method
            has no box of its own.
        score: in [0, 1], higher for a surer find.
    """

    logits: np.ndarray
    box: np.ndarray | None
    score: float


@dataclass(frozen=True)
class InstanceMask:
    """One object of a class at the size of the image.

    Attributes:
        mask: bool (H, W), not empty.
        box: float32 (4,), (x0, y0, x1, y1) in pixels of the image: the method's own box, otherwise
            around the mask.
        score: in [0, 1], higher for a surer find.
    """

    mask: np.ndarray
    box: np.ndarray
    score: float


@dataclass(frozen=True)
class ConceptResult:
    """Result of a method for one class.

    Attributes:
        logits: float32 (h, w) at the network's own resolution, over its square input.
        prompts: SAM prompts.
        presence: probability in [0, 1] that the class is in the image; NaN if
            unknown.
        similarity: float32 (gh, gw), raw similarity with the text over the whole image, or
            ``None``.
        similarity_unit: unit of its values (cosines, unless the preset differs).
        candidates: float32 (3, h, w), SAM's masks for an ambiguous prompt, or ``None``.
        candidate_scores: float32 (3,), their IoU predicted by SAM, or ``None``.
        candidate: index of the candidate selected instead of the method's own mask, if any.
        block_traces: state of each block, in order; empty for non-iterative methods.
        note: one sentence for the user, or empty.
        instances: the objects of which the class's mask is the union, highest score first; ``None``
            if the method does not tell objects apart.
    """

    logits: np.ndarray
    prompts: SamPrompts
    presence: float = float("nan")
    similarity: np.ndarray | None = None
    similarity_unit: str = "cosine"
    candidates: np.ndarray | None = None
    candidate_scores: np.ndarray | None = None
    candidate: int | None = None
    block_traces: tuple[BlockTrace, ...] = ()
    note: str = ""
    instances: tuple[Instance, ...] | None = None


@dataclass(frozen=True)
class Prediction:
    """Result of one method for one image and prompt.

    Logits are kept at the network's own resolution and resized on demand, so a page can change
    threshold, colours and size without rerunning a model.

    Attributes:
        method, preset, mode: what ran.
        prompt: the prompt.
        transform: how the image lies in the square that the logits cover.
        results: one per concept of the prompt, in its order.
        seconds: wall-clock time of each step, by name.
        peak_memory_mb: peak memory during the prediction, MB (of the GPU if one is used,
            otherwise of the process).
        note: remark on the computation for the user; usually empty.
        overrides: settings that the user set in place of the method's own, by name.
        protocol: name of the paper's protocol that was followed, see :mod:`clipsam.protocols`;
            empty for none.
        score_space: what is resized to the image's size.
    """

    method: str
    preset: str
    mode: str
    prompt: Prompt
    transform: SquareTransform
    results: tuple[ConceptResult, ...]
    seconds: Mapping[str, float]
    peak_memory_mb: float
    note: str = ""
    overrides: Mapping[str, int | float | str] = field(default_factory=dict)
    protocol: str = ""
    score_space: ScoreSpace = "logits"

    def __post_init__(self) -> None:
        expected = len(self.prompt.concepts)
        if len(self.results) != expected:
            raise ValueError(f"{self.method}: expected {expected} results, got {len(self.results)}")
        for result in self.results:
            if result.logits.dtype != np.float32 or result.logits.ndim != 2:
                raise ValueError(
                    f"{self.method}: logits must be float32 (h, w), got "
                    f"{result.logits.dtype} {result.logits.shape}"
                )

    @property
    def texts(self) -> tuple[str, ...]:
        """Class names, in order."""
        return self.prompt.texts

    @property
    def presence(self) -> np.ndarray:
        """float32 (C,), NaN where unknown."""
        return np.array([result.presence for result in self.results], np.float32)

    @property
    def total_seconds(self) -> float:
        """Wall-clock time of the whole prediction."""
        return sum(self.seconds.values())

    def logits(self, size: tuple[int, int] | None = None) -> np.ndarray:
        """Return logits, float32 (C, H, W), at the original resolution or at ``size``."""
        height, width = size or self.transform.image_size
        out = np.empty((len(self.results), height, width), np.float32)
        for index in range(len(self.results)):
            out[index] = self.class_logits(index, size)
        return out

    def class_logits(self, index: int, size: tuple[int, int] | None = None) -> np.ndarray:
        """Return the logits of one class, float32 (H, W), at the original size or at ``size``."""
        return self._resized(self.results[index].logits, size)

    def class_mask(
        self,
        index: int,
        threshold: float = 0.0,
        size: tuple[int, int] | None = None,
        overlap: Overlap = "independent",
    ) -> np.ndarray:
        """Return the mask of one class, bool (H, W): logits above ``threshold``.

        Pixels that ``overlap`` assigns to another class are left out.
        """
        if overlap == "independent":
            return self.class_logits(index, size) > threshold
        return self._owners(threshold, size, overlap) == index

    def masks(
        self,
        threshold: float = 0.0,
        size: tuple[int, int] | None = None,
        overlap: Overlap = "independent",
    ) -> np.ndarray:
        """Return masks, bool (C, H, W): logits above ``threshold``, disjoint unless independent."""
        return np.stack(list(self.each_mask(threshold, size, overlap)))

    def each_mask(
        self,
        threshold: float = 0.0,
        size: tuple[int, int] | None = None,
        overlap: Overlap = "independent",
        indices: Iterable[int] | None = None,
    ) -> Iterator[np.ndarray]:
        """Yield the masks of :meth:`masks`, bool (H, W), one by one, to save memory.

        Args:
            threshold, size, overlap: see :meth:`masks`.
            indices: indices of the classes; ``None`` for all.
        """
        indices = range(len(self.results)) if indices is None else indices
        if overlap == "independent":
            yield from (self.class_mask(index, threshold, size) for index in indices)
        else:
            owners = self._owners(threshold, size, overlap)
            yield from (owners == index for index in indices)

    def each_instance(self, index: int, threshold: float = 0.0) -> Iterator[InstanceMask]:
        """Yield the objects of one class, highest score first.

        Those that the method found, without those whose mask is empty. A method that does not tell
        objects apart is given the connected regions of its mask, see :func:`connected_regions`.

        Args:
            index: of the class.
            threshold: masks are logits above it.
        """
        result = self.results[index]
        if result.instances is None:
            yield from connected_regions(self.class_logits(index), threshold, result.presence)
            return
        for found in result.instances:
            mask = self._resized(found.logits, None) > threshold
            if mask.any():
                box = _box_around(mask) if found.box is None else found.box
                yield InstanceMask(mask, box, found.score)

    def label_map(
        self, threshold: float | None = None, size: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Return the class of each pixel: the one with the highest logit, the first one of ties.

        Logits are enlarged class by class, since those of hundreds of classes at the image's own
        size would not fit into memory.

        Args:
            threshold: a pixel whose best logit is not above it is background, −1; ``None`` gives
                every pixel to a class, as in the benchmarks of open-vocabulary segmentation.
            size: (H, W); ``None`` takes the image's own.

        Returns:
            int64 (H, W), index into the classes.
        """
        best = self.class_logits(0, size)
        labels = np.zeros(best.shape, np.int64)
        for index in range(1, len(self.results)):
            logits = self.class_logits(index, size)
            labels[logits > best] = index
            best = np.maximum(best, logits)
        if threshold is not None:
            labels[best <= threshold] = -1
        return labels

    def _owners(
        self, threshold: float, size: tuple[int, int] | None, overlap: Overlap
    ) -> np.ndarray:
        """Return the class assigned to each pixel, int64 (H, W); −1 for none.

        Unknown presence counts as lowest.
        """
        if overlap == "argmax":
            return self.label_map(threshold, size)
        shape = size or self.transform.image_size
        owners = np.full(shape, -1)
        best_presence = np.full(shape, -np.inf, np.float32)
        best = np.full(shape, -np.inf, np.float32)
        for index, presence in enumerate(np.nan_to_num(self.presence, nan=-1.0)):
            logits = self.class_logits(index, size)
            higher = (presence == best_presence) & (logits > best)
            won = (logits > threshold) & ((presence > best_presence) | higher)
            owners[won] = index
            best_presence[won] = presence
            best[won] = logits[won]
        return owners

    def candidate_masks(
        self, index: int, threshold: float = 0.0, size: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Return SAM's candidate masks for one class, bool (3, H, W); (0, H, W) without any."""
        candidates = self.results[index].candidates
        if candidates is None:
            return np.zeros((0, *(size or self.transform.image_size)), bool)
        return np.stack([self._resized(c, size) > threshold for c in candidates])

    def with_candidate(self, index: int, candidate: int) -> Prediction:
        """Replace the result for one class by one of SAM's candidates.

        Args:
            index: of the class.
            candidate: index from 0; messages count from 1.

        Raises:
            PromptError: there is no such candidate.
        """
        result = self.results[index]
        candidates = () if result.candidates is None else result.candidates
        count = len(candidates)
        if not 0 <= candidate < count:
            raise PromptError(
                f"{self.method}: there is no candidate {candidate + 1} for “{self.texts[index]}”; "
                f"SAM returned {count or 'none'}."
            )
        logits, instances = candidates[candidate], result.instances
        if instances:  # Candidates are those of a single object.
            instances = (replace(instances[0], logits=logits),)
        chosen = replace(result, logits=logits, candidate=candidate, instances=instances)
        results = (*self.results[:index], chosen, *self.results[index + 1 :])
        return replace(self, results=results)

    def _resized(self, logits: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
        maps = torch.from_numpy(logits)[None, None]
        if self.score_space == "probabilities":
            return self.transform.to_image(maps.sigmoid(), size)[0, 0].logit(eps=1e-7).numpy()
        return self.transform.to_image(maps, size)[0, 0].numpy()


def connected_regions(
    logits: np.ndarray, threshold: float = 0.0, presence: float = float("nan")
) -> list[InstanceMask]:
    """Split a mask into its connected regions, highest score first.

    The score of a region is that of MaskFormer's instances (arXiv 2107.06278): the probability of
    the class times the mean probability of the region's pixels.

    Args:
        logits: float32 (H, W), at the size of the image.
        threshold: the mask is where logits are above it. Pixels that touch at a corner are
            connected.
        presence: probability of the class; 1 if it is NaN.

    Returns:
        At most :data:`MOST_REGIONS`, the largest.
    """
    labels, count = ndimage.label(logits > threshold, np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    numbers = np.argsort(-areas, kind="stable")[:MOST_REGIONS] + 1
    found = []
    for number in numbers:
        mask = labels == number
        probability = float((1 / (1 + np.exp(-logits[mask].astype(np.float64)))).mean())
        score = probability if np.isnan(presence) else float(presence) * probability
        found.append(InstanceMask(mask, _box_around(mask), score))
    return sorted(found, key=lambda one: -one.score)


def _box_around(mask: np.ndarray) -> np.ndarray:
    """Return the box around a mask that is not empty, float32 (x0, y0, x1, y1)."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


def prompt_from_classes(classes: Sequence[Sequence[str]]) -> Prompt:
    """Build a prompt of class names alone."""
    return Prompt(tuple(Concept(tuple(synonyms)) for synonyms in classes))
