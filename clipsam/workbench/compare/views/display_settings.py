"""Display settings of the Compare tab."""

from __future__ import annotations

from dataclasses import dataclass

from ....marks import find_class
from ....types import Overlap, Prediction

ALL_CLASSES = "masks"
"""Default view, which shows all classes; the others show the selected class."""


@dataclass(frozen=True)
class DisplaySettings:
    """How results are drawn; changing it runs no model.

    Attributes:
        threshold: logits above it belong to the mask.
        min_presence: classes with a lower presence are hidden, unless it is unknown.
        view: one of :data:`.overlays.VIEWS`.
        overlap: assignment of pixels claimed by several classes.
        active: the class selected on the image.
    """

    threshold: float = 0.0
    min_presence: float = 0.0
    view: str = ALL_CLASSES
    overlap: Overlap = "independent"
    active: str | None = None

    def index(self, prediction: Prediction) -> int:
        """Return the index of the selected class in a prediction; 0 if it has none such."""
        classes = [concept.synonyms for concept in prediction.prompt.concepts]
        return (find_class(self.active, classes) if self.active else None) or 0
