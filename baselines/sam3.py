"""SAM 3 alone (arXiv 2511.16719): detects and segments all instances of a phrase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from clipsam.encoded_image import EncodedImage
from clipsam.geometry import SquareTransform
from clipsam.measure import Stopwatch
from clipsam.models.sam3_model import Sam3Answer
from clipsam.predictor import PredictOptions, Predictor
from clipsam.registry import METHODS, SEMANTIC, TEXT_AND_BOXES
from clipsam.sam_prompting import empty_result
from clipsam.types import Concept, ConceptResult, Instance, Prompt, SamPrompts
from clipsam.weights.backbones import Backbones

SCORE_THRESHOLD = 0.5
"""Score above which instances are kept, as in SAM 3's examples."""


class Sam3Predictor(Predictor):
    """SAM 3; a class gets the union of its instances, the highest logit at each pixel.

    Neither the preset's SAM nor its CLIP is used. ``presence`` is SAM 3's own probability that the
    class is in the image. Synonyms are queried one by one, and all instances count.

    With boxes, a class is asked by its name and the box drawn around one of its objects, which
    shows what the others look like; a class without a box by its name alone. In the semantic mode,
    the mask is that of the semantic head, which tells no instances apart.
    """

    info = METHODS["sam3"]

    def __init__(self, backbones: Backbones) -> None:
        """Fetch SAM 3.

        Args:
            backbones: only their device is used.

        Raises:
            WeightsError: SAM 3 is not on this machine, damaged, or another network.
        """
        super().__init__(backbones)
        (self._source,) = self.info.networks
        self.sam3 = backbones.extra_network(self._source, self.info.id)

    def network(self) -> nn.Module:
        """Return SAM 3, frozen."""
        return self.sam3

    def _transform(self, encoded: EncodedImage) -> SquareTransform:
        return SquareTransform(encoded.size, self.sam3.side, "squash")

    @property
    def _mask_side(self) -> int:
        return self.sam3.mask_side

    def _is_cut(self, name: str) -> bool:
        return self.sam3.is_cut(name)

    def _modes(self, prompt: Prompt, options: PredictOptions) -> list[str]:
        """Return the mode for each class; unless one is set, a class with a box uses it."""
        modes = super()._modes(prompt, options)
        if options.mode is not None:
            return modes
        pairs = zip(prompt.concepts, modes, strict=True)
        return [mode if concept.box is None else TEXT_AND_BOXES for concept, mode in pairs]

    def _predict_concept(
        self,
        encoded: EncodedImage,
        concept: Concept,
        mode: str,
        options: PredictOptions,
        watch: Stopwatch,
    ) -> ConceptResult:
        with watch.step("SAM 3 image"):
            key = "SAM 3", self._source.repo
            features = encoded.cached(key, lambda: self.sam3.read_image(encoded.image))
        prompts, boxes = SamPrompts(), None
        if mode == TEXT_AND_BOXES and concept.box is not None:
            prompts = SamPrompts(boxes=concept.box[None])
            boxes = torch.from_numpy(prompts.boxes / _extent(encoded.size))
        with watch.step("SAM 3 text and masks"):
            answers = [self.sam3.find(features, name, boxes) for name in concept.synonyms]
        presence = max(answer.presence for answer in answers)
        if mode == SEMANTIC:
            logits = torch.stack([answer.semantic for answer in answers]).amax(0)
            return ConceptResult(logits.float().cpu().numpy(), prompts, presence)
        instances = _instances(answers, encoded.size)
        if not instances:
            best = max(float(answer.scores.max()) for answer in answers)
            note = (
                f"Empty mask: “{concept.text}” has presence {presence:.2f} and best instance score "
                f"{best:.2f} (threshold {SCORE_THRESHOLD:g})."
            )
            empty = empty_result(self._mask_side, note=note, presence=presence, instances=())
            return replace(empty, prompts=prompts)
        logits = np.max([instance.logits for instance in instances], axis=0)
        return ConceptResult(logits, prompts, presence, instances=instances)


def _instances(answers: Sequence[Sam3Answer], size: tuple[int, int]) -> tuple[Instance, ...]:
    """Return the instances above the threshold, highest score first.

    Args:
        answers: for the synonyms of one class.
        size: (height, width) of the image.
    """
    found: list[Instance] = []
    for answer in answers:
        sure = answer.scores > SCORE_THRESHOLD
        masks = answer.logits[sure].float().cpu().numpy()
        boxes = answer.boxes[sure].float().cpu().clamp(0, 1).numpy() * _extent(size)
        parts = zip(masks, boxes, answer.scores[sure].tolist(), strict=True)
        found += [Instance(*part) for part in parts]
    return tuple(sorted(found, key=lambda instance: -instance.score))


def _extent(size: tuple[int, int]) -> np.ndarray:
    """Return what turns fractions of an image of (height, width) into a box of pixels."""
    height, width = size
    return np.array([width, height, width, height], np.float32)
