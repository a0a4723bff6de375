"""Shared base of pipelines that prompt an unchanged SAM with a detector's boxes."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image, nms

from clipsam.encoded_image import EncodedImage
from clipsam.measure import Stopwatch
from clipsam.predictor import PredictOptions
from clipsam.sam_prompting import empty_result
from clipsam.types import Concept, ConceptResult, SamPrompts
from clipsam.weights.backbones import Backbones

from .prompted_sam import SamPrompter


@dataclass(frozen=True)
class DetectionConfig:
    """Selection of the boxes that prompt SAM.

    Attributes:
        score_threshold: boxes with a score up to it are dropped.
        nms_threshold: IoU of two boxes of a class above which only the one with the higher score
            is kept.
        most: boxes per class, those with the highest scores.
    """

    score_threshold: float
    nms_threshold: float = 0.8
    most: int = 50


class BoxPromptedPredictor(SamPrompter):
    """Base class of box-prompted pipelines: one object per box, and their union per class.

    ``presence`` is the highest score of all boxes of the class inside the image, including those
    below the threshold.
    """

    """The detector; methods with the same one share it."""

    def __init__(self, backbones: Backbones, config: DetectionConfig | None = None) -> None:
        """Fetch the detector.

        Args:
            backbones: the preset's networks.
            config: ``None`` for the detector's default.

        Raises:
            WeightsError: the detector is not on this machine, or its files are damaged.
        """
        super().__init__(backbones)
        self.config = config or self.design()
        (source,) = self.info.networks
        self.detector = backbones.extra_network(source, self.info.id)

    @classmethod
    @abstractmethod
    def design(cls) -> DetectionConfig:
        """Return the detector's default configuration."""

    def network(self) -> nn.Module:
        """Return SAM and the detector, both frozen."""
        return nn.ModuleList([super().network(), self.detector])

    @abstractmethod
    def _detect(self, encoded: EncodedImage, name: str, watch: Stopwatch) -> Tensor:
        """Return all detections of one name, likely or not.

        Returns:
            float (N, 5): score in [0, 1] and (x0, y0, x1, y1) in pixels of the original image,
            possibly beyond its border.
        """

    def _is_cut(self, name: str) -> bool:
        return self.detector.is_cut(name)

    def _predict_concept(
        self,
        encoded: EncodedImage,
        concept: Concept,
        mode: str,
        options: PredictOptions,
        watch: Stopwatch,
    ) -> ConceptResult:
        detections = torch.cat([self._detect(encoded, name, watch) for name in concept.synonyms])
        scores, found = _shown(detections.float().cpu(), encoded.size)
        presence = float(scores.max()) if len(scores) else 0.0
        boxes, sure = self._chosen(scores, found)
        if not len(boxes):
            note = (
                f"Empty mask: best detection score for “{concept.text}” is {presence:.3f}; the "
                f"threshold is {self.config.score_threshold:g}."
            )
            return empty_result(self._mask_side, note=note, presence=presence, instances=())
        prompts = SamPrompts(boxes=boxes)
        return self._segment(encoded, prompts, watch, presence=presence, box_scores=sure)

    def _chosen(self, scores: Tensor, boxes: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return the distinct boxes (N, 4) above the threshold, and their scores; best first."""
        sure = scores > self.config.score_threshold
        boxes, scores = boxes[sure], scores[sure]
        kept = nms(boxes, scores, self.config.nms_threshold)[: self.config.most]
        return boxes[kept].numpy(), scores[kept].numpy()


def _shown(detections: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Clip boxes to the image; return scores (N,) and boxes (N, 4) of those that overlap it."""
    boxes = clip_boxes_to_image(detections[:, 1:], size)
    inside = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    return detections[inside, 0], boxes[inside]
