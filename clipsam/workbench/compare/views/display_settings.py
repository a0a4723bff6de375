"""What the page's controls ask of a drawing."""

from __future__ import annotations

from dataclasses import dataclass

from ....marks import find_class
from ....types import Overlap, Prediction

ALL_CLASSES = "masks"
"""The view of all classes at once, which is shown first; others are of the class chosen."""


@dataclass(frozen=True)
class DisplaySettings:
    """How results are to be drawn; no model runs for a change of it.

    Attributes:
        threshold: logits above it are mask.
        min_presence: classes less likely present are not drawn; unknown presence always is.
        view: what is shown of each answer, one of :data:`.overlays.VIEWS`.
        overlap: who gets a pixel that several classes claim.
        active: the class chosen on the picture.
    """

    threshold: float = 0.0
    min_presence: float = 0.0
    view: str = ALL_CLASSES
    overlap: Overlap = "independent"
    active: str | None = None

    def index(self, prediction: Prediction) -> int:
        """Place of the chosen class among those answered; the first if it is none of them."""
        classes = [concept.synonyms for concept in prediction.prompt.concepts]
        return (find_class(self.active, classes) if self.active else None) or 0
