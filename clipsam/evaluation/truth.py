"""Ground truth in the user's formats, matched to the requested classes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..data.images import ImageError, size_rule
from ..data.label_values import LabelNames, cut, is_soft, levels_of
from ..data.samples import BACKGROUND, VOID, VOID_IDS
from ..errors import ClipsamError
from ..names import BACKGROUND_NAMES, SEPARATORS, fold_name
from ..types import Prediction, Prompt
from .metric_table import MaskComparison
from .metrics import Counts

GROUND_TRUTH = "The ground truth"


class TruthError(ClipsamError):
    """A ground truth that cannot be used."""


@dataclass(frozen=True)
class TruthFile:
    """A ground truth as uploaded, not yet matched to classes.

    Attributes:
        ids: int (H, W), values as stored in the file.
        names: class names, index = id; ``None`` if not given.
        note: one sentence on how the file was read, where that needs saying; else empty.
    """

    ids: np.ndarray
    names: Sequence[str] | None = None
    note: str = ""


def read_names(text: str) -> tuple[str, ...] | None:
    """Parse typed class names by id; ``None`` if the text is empty.

    Accepts names with commas between them, a JSON list, or a JSON object of ids to names.

    Raises:
        TruthError: JSON that is neither.
    """
    text = text.strip()
    if not text:
        return None
    if text[0] not in "[{":
        return tuple(name.strip() for name in text.translate(SEPARATORS).split(","))
    try:
        names = json.loads(text)
        if isinstance(names, dict):
            for key in names:
                if not key.strip().isdecimal() or len(key) > 9 or int(key) > VOID_IDS[-1]:
                    raise ValueError(f"“{key[:20]}” is no id from 0 to {VOID_IDS[-1]}")
            by_id = {int(key): name for key, name in names.items()}
            names = [by_id.get(index, "") for index in range(max(by_id, default=-1) + 1)]
        if not all(isinstance(name, str) for name in names):
            raise ValueError("every name must be a text in quotation marks")
    except (ValueError, RecursionError) as error:
        reason = (
            "its brackets are nested too deeply" if isinstance(error, RecursionError) else error
        )
        raise TruthError(f"The list of class names is not valid JSON: {reason}.") from None
    return tuple(names)


@dataclass(frozen=True)
class Truth:
    """True masks of the classes in a ground truth.

    Attributes:
        masks: bool (H, W) by class name as shown (``Concept.text``).
        valid: bool (H, W), pixels that are scored.
        note: one sentence on how the mask was read, where that needs saying; else empty.
    """

    masks: Mapping[str, np.ndarray]
    valid: np.ndarray
    note: str = ""

    @classmethod
    def from_masks(
        cls, masks: Mapping[str, np.ndarray], image_size: tuple[int, int], prompt: Prompt
    ) -> Truth:
        """Build a ground truth from masks in memory.

        Args:
            masks: bool (H, W) by class name or synonym, whatever its case.
            image_size: (height, width) of the image.
            prompt: the classes asked.

        Raises:
            TruthError: a mask of another shape or type, or none of the asked classes.
        """
        for name, mask in masks.items():
            if mask.dtype != bool or mask.shape != tuple(image_size):
                raise TruthError(
                    f"The true mask of “{name}” must be bool {tuple(image_size)}, got "
                    f"{mask.dtype} {mask.shape}."
                )
        by_name = {fold_name(name): mask for name, mask in masks.items()}
        known = {
            concept.text: by_name[name]
            for concept in prompt.concepts
            for name in map(fold_name, reversed(concept.synonyms))
            if name in by_name
        }
        if not known:
            raise TruthError(
                f"None of the requested classes ({', '.join(prompt.texts)}) has a true mask "
                f"({_listed(list(masks))})."
            )
        return cls(known, np.ones(image_size, bool))

    def score(self, prediction: Prediction, index: int, threshold: float = 0.0) -> Counts | None:
        """Count the pixels of one class of a prediction; ``None`` if it is not in the truth."""
        text = prediction.texts[index]
        if text not in self.masks:
            return None
        compared = self.compare(text, prediction.class_mask(index, threshold))
        return None if compared is None else compared.counts

    def compare(self, text: str, mask: np.ndarray) -> MaskComparison | None:
        """Compare a class's mask, bool (H, W), with the truth; ``None`` if it is not in it."""
        truth = self.masks.get(text)
        return None if truth is None else MaskComparison(mask, truth, self.valid)


def match_truth(
    ids: np.ndarray,
    image_size: tuple[int, int],
    prompt: Prompt,
    names: Sequence[str] | None = None,
    binary_class: str | None = None,
) -> Truth:
    """Find the requested classes in a mask.

    Args:
        ids: int (H, W), as :func:`clipsam.data.images.load_mask` reads it.
        image_size: (height, width) of the image.
        prompt: the requested classes.
        names: class names, index = id; matched with the prompt's names and synonyms, whatever
            their case, see :mod:`clipsam.data.label_values`. Without it a mask with one value
            besides 0 and a mask with soft edges are binary, and any other holds the number of the
            class in the prompt, from 1, with 0 as background; so does a mask of 0 and 1 if there
            are several classes and ``binary_class`` is not given. In a mask of zeros, all
            requested classes are absent.
        binary_class: the class (``Concept.text``) that a binary mask shows; may be left out if
            there is only one class.

    Raises:
        TruthError: another size than the image, an id without a name, or no requested class in it.
    """
    if ids.shape != tuple(image_size):
        height, width = ids.shape
        raise TruthError(
            f"The ground truth is {width} × {height} pixels, but the image is "
            f"{image_size[1]} × {image_size[0]}. {size_rule(image_size, (height, width))}"
        )
    concepts = prompt.concepts
    if names is not None:
        return _match_names(ids, prompt, names)
    values = [int(value) for value in levels_of(ids)[0] if value != 0]
    if not values:
        return Truth({c.text: ids != 0 for c in concepts}, np.ones(ids.shape, bool))
    numbers = set(range(1, len(concepts) + 1))
    inside, note = ids != 0, ""
    soft = not set(values) <= numbers | set(VOID_IDS) and is_soft(ids)
    if soft:
        read = cut(ids, GROUND_TRUTH)
        inside, note = read.values, read.note
    one = len(values) == 1 and (values != [1] or len(concepts) == 1 or binary_class is not None)
    if soft or one:
        text = binary_class or (concepts[0].text if len(concepts) == 1 else None)
        if text is None:
            raise TruthError(
                "The ground truth is binary, but there are several classes. Select the class that "
                "it shows."
            )
        return Truth({text: inside}, np.ones(ids.shape, bool), note)
    if not numbers & set(values):
        raise TruthError(
            f"The ground truth contains the ids {_listed(values)}, but the requested classes are "
            f"numbered 1 to {len(concepts)}. Enter the class names by id."
        )
    others = [value for value in values if value not in numbers and value not in VOID_IDS]
    if others:
        note = (
            f"The ground truth also contains the ids {_listed(others)}, which are none of the "
            f"requested classes, numbered 1 to {len(concepts)}."
        )
    masks = {concept.text: ids == number for number, concept in enumerate(concepts, start=1)}
    return Truth(masks, ~np.isin(ids, VOID_IDS), note)


def _match_names(ids: np.ndarray, prompt: Prompt, names: Sequence[str]) -> Truth:
    try:
        labels = LabelNames(names)
        classes = labels.read(ids, GROUND_TRUTH)
    except ImageError as error:
        raise TruthError(str(error)) from None
    by_name = {fold_name(name): index for index, name in enumerate(labels.names)}
    by_name |= dict.fromkeys(BACKGROUND_NAMES, BACKGROUND)
    masks = {}
    for concept in prompt.concepts:
        known = [by_name[s] for s in map(fold_name, concept.synonyms) if s in by_name]
        if known:
            masks[concept.text] = np.isin(classes.values, known)
    if not masks:
        requested = ", ".join(concept.text for concept in prompt.concepts)
        raise TruthError(
            f"None of the requested classes ({requested}) is among the class names by id "
            f"({_listed(names)})."
        )
    return Truth(masks, classes.values != VOID, classes.note)


def _listed(values: Sequence[object]) -> str:
    shown = ", ".join(str(value) for value in values[:8])
    return shown + (", …" if len(values) > 8 else "")
