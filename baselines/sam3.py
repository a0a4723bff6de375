"""SAM 3 alone (arXiv 2511.16719): detects and segments all instances of a phrase."""

from __future__ import annotations

import torch
from torch import nn

from clipsam.encoded_image import EncodedImage
from clipsam.geometry import SquareTransform
from clipsam.measure import Stopwatch
from clipsam.predictor import PredictOptions, Predictor
from clipsam.registry import METHODS
from clipsam.sam_prompting import empty_result
from clipsam.types import Concept, ConceptResult, Instance, SamPrompts
from clipsam.weights.backbones import Backbones
from clipsam.weights.published import SAM3

SCORE_THRESHOLD = 0.5
"""Score above which instances are kept, as in SAM 3's examples."""


class Sam3Predictor(Predictor):
    """SAM 3; a class gets the union of its instances, the highest logit at each pixel.

    Neither the preset's SAM nor its CLIP is used. The SAM prompts of a result are empty, since the
    input is text only. ``presence`` is SAM 3's own probability that the class is in the image.
    Synonyms are queried one by one, and all instances count.
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
        self.sam3 = backbones.extra_network(SAM3, self.info.id)

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

    def _predict_concept(
        self,
        encoded: EncodedImage,
        concept: Concept,
        mode: str,
        options: PredictOptions,
        watch: Stopwatch,
    ) -> ConceptResult:
        with watch.step("SAM 3 image"):
            features = encoded.cached(("SAM 3",), lambda: self.sam3.read_image(encoded.image))
        with watch.step("SAM 3 text and masks"):
            proposed = [self.sam3.find(features, name) for name in concept.synonyms]
        presence = max(instances.presence for instances in proposed)
        scores = torch.cat([instances.scores for instances in proposed])
        kept = torch.cat([i.logits[i.scores > SCORE_THRESHOLD] for i in proposed])
        sure, order = scores[scores > SCORE_THRESHOLD].sort(descending=True, stable=True)
        if not len(kept):
            note = (
                f"Empty mask: “{concept.text}” has presence {presence:.2f} and best instance score "
                f"{float(scores.max()):.2f} (threshold {SCORE_THRESHOLD:g})."
            )
            return empty_result(self._mask_side, note=note, presence=presence, instances=())
        masks = kept[order].float().cpu().numpy()
        parts = zip(masks, sure.tolist(), strict=True)
        return ConceptResult(
            logits=masks.max(0),
            prompts=SamPrompts(),
            presence=presence,
            instances=tuple(Instance(mask, None, score) for mask, score in parts),
        )
