"""Class names that an image may show, by the presence that CLIP gives to each of a vocabulary."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .data.imagenet import imagenet_names
from .data.readers.vocabulary_sets import class_list
from .data.synthetic import CLASS_NAMES
from .encoded_image import EncodedImage
from .errors import PromptError
from .memory import move_tensors, weights
from .models.clip import similarity_grid
from .names import fold_name
from .types import parse_classes
from .weights.backbones import Backbones

COMMON = "common"
"""Vocabulary that is read if no other is asked for."""

IMAGENET = "imagenet"

VOCABULARIES = {
    COMMON: "the shapes of the synthetic scenes and PASCAL-Context's 59 names",
    "a-150": "ADE20K's 150 names",
    "pc-459": "PASCAL-Context's 459 names",
    "a-847": "ADE20K's 847 names",
    "coco-171": "COCO-Stuff's 171 names",
    IMAGENET: "ImageNet's 1,000 names",
}
"""Vocabularies by name, with a description."""

MAX_NAMES = 2000
"""Longest vocabulary; every name is read by CLIP."""

TEXTS_AT_A_TIME = 256


@dataclass(frozen=True)
class Suggestion:
    """A class that the image may show.

    Attributes:
        name: of the class; its synonyms are left out.
        presence: probability that it is present; NaN if CLIP is not calibrated.
        similarity: highest value of its raw similarity map, by which suggestions are ordered.
    """

    name: str
    presence: float
    similarity: float

    def to_json(self) -> dict[str, str | float | None]:
        """Return the fields; an unknown presence is ``None``."""
        presence = None if math.isnan(self.presence) else self.presence
        return {"name": self.name, "presence": presence, "similarity": self.similarity}


def read_vocabulary(text: str) -> tuple[str, ...]:
    """Return the names of a vocabulary, each once and without its synonyms.

    Args:
        text: a name in :data:`VOCABULARIES`, or class names as they are typed, also one a line.

    Raises:
        PromptError: there is no name, or there are more than :data:`MAX_NAMES`.
    """
    classes: list[tuple[str, ...]]
    if text == COMMON:
        classes = [(name,) for name in (*CLASS_NAMES, *class_list("pc-59"))]
    elif text == IMAGENET:
        classes = [(name,) for name in imagenet_names()]
    elif text in VOCABULARIES:
        # These lists separate synonyms by commas.
        classes = [tuple(name.split(",")) for name in class_list(text)]
    else:
        classes = list(parse_classes(",".join(text.splitlines())))
    names = tuple({fold_name(synonyms[0]): synonyms[0].strip() for synonyms in classes}.values())
    if not 0 < len(names) <= MAX_NAMES:
        raise PromptError(
            f"The vocabulary has {len(names)} names, expected 1 to {MAX_NAMES}: one of "
            f"{', '.join(VOCABULARIES)}, or names separated by commas or line breaks."
        )
    return names


@torch.inference_mode()
def suggest(
    encoded: EncodedImage, backbones: Backbones, names: Sequence[str], count: int = 8
) -> list[Suggestion]:
    """Return the classes of a vocabulary that the image most likely shows, the likeliest first.

    Args:
        encoded: the image.
        backbones: their CLIP is read with CLIP Surgery, as by CLIP Surgery + SAM.
        names: the vocabulary.
        count: of the suggestions.
    """
    move_tensors(weights(backbones.clip).values(), backbones.device)
    tokens = encoded.clip_tokens(backbones, backbones.vision, "surgery")
    found = []
    for start in range(0, len(names), TEXTS_AT_A_TIME):
        some = names[start : start + TEXTS_AT_A_TIME]
        text = backbones.text([(name,) for name in some])
        maps = similarity_grid(tokens.expand(len(some), -1, -1), text).float().cpu().numpy()
        found += [
            Suggestion(name, backbones.calibration.presence(one), float(one.max()))
            for name, one in zip(some, maps, strict=True)
        ]
    return sorted(found, key=lambda one: -one.similarity)[:count]


def confident(suggestions: Sequence[Suggestion], most: int = 3) -> list[str]:
    """Return the names worth a first question: those more likely present than not, or the first.

    Args:
        suggestions: the likeliest first.
        most: number of names at most.
    """
    likely = [
        one.name for one in suggestions if not math.isnan(one.presence) and one.presence > 0.5
    ]
    return likely[:most] or [one.name for one in suggestions[:1]]
