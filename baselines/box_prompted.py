"""What pipelines have in common that prompt an unchanged SAM with boxes that a detector found."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import nms

from clipsam.measure import Stopwatch
from clipsam.predictor import Options, nothing_found
from clipsam.scene import Scene
from clipsam.types import Concept, ConceptResult, PromptsUsed
from clipsam.weights.backbones import Backbones

from .prompted_sam import SamPrompter


@dataclass(frozen=True)
class DetectionConfig:
    """Which boxes are handed to SAM.

    Attributes:
        score_threshold: boxes with a lower score are dropped.
        nms_threshold: of two boxes of a class whose IoU is above this, the one with the higher
            score stays.
        most: boxes per class, those with the highest scores.
    """

    score_threshold: float
    nms_threshold: float = 0.8
    most: int = 50


class BoxPromptedPredictor(SamPrompter):
    """One mask per box, and a class gets their union; a pipeline is a detector.

    ``presence`` is the highest score of the class anywhere, found or not.
    """

    def __init__(self, backbones: Backbones, config: DetectionConfig | None = None) -> None:
        """
        Args:
            backbones: the preset's networks.
            config: ``None`` takes the detector's own.
        """
        super().__init__(backbones)
        self.config = config or self.design()

    @classmethod
    @abstractmethod
    def design(cls) -> DetectionConfig:
        """What suits the detector."""

    @abstractmethod
    def _detect(self, scene: Scene, name: str, watch: Stopwatch) -> Tensor:
        """Everything that the detector proposes for one name, likely or not.

        Returns:
            float (N, 5): score in [0, 1] and (x0, y0, x1, y1) in pixels of the original image.
        """

    def _predict_concept(
        self, scene: Scene, concept: Concept, mode: str, options: Options, watch: Stopwatch
    ) -> ConceptResult:
        detections = torch.cat([self._detect(scene, name, watch) for name in concept.synonyms])
        scores, boxes = detections.float().cpu().split([1, 4], dim=1)
        scores = scores[:, 0]
        boxes = self._chosen(scores, boxes, scene.size)
        presence = float(scores.max()) if len(scores) else 0.0
        if not len(boxes):
            note = (
                f"Nothing found: of “{concept.text}” the detector is at most {presence:.2f} sure, "
                f"and {self.config.score_threshold:g} is asked."
            )
            return nothing_found(self._mask_side, note=note, presence=presence)
        return self._segment(scene, PromptsUsed(boxes=boxes), watch, presence=presence)

    def _chosen(self, scores: Tensor, boxes: Tensor, size: tuple[int, int]) -> np.ndarray:
        """The boxes (N, 4) that are sure enough, distinct, and inside the image."""
        height, width = size
        boxes = boxes.clamp(min=0)
        boxes = boxes.minimum(torch.tensor([width, height, width, height]))
        sure = (scores >= self.config.score_threshold) & (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        boxes, scores = boxes[sure], scores[sure]
        kept = nms(boxes, scores, self.config.nms_threshold)[: self.config.most]
        return boxes[kept].numpy()
