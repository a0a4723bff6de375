"""Shared base of pipelines that prompt an unchanged SAM."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from clipsam.encoded_image import EncodedImage
from clipsam.measure import Stopwatch
from clipsam.models.sam_model import decode_masks
from clipsam.predictor import Predictor
from clipsam.sam_prompting import class_result, prompt_tensors
from clipsam.types import ConceptResult, SamPrompts


class SamPrompter(Predictor):
    """Base class of pipelines that prompt the preset's SAM."""

    def network(self) -> nn.Module:
        """Return SAM, frozen."""
        return self._sam

    @property
    def _sam(self) -> nn.Module:
        """The SAM to prompt."""
        return self.backbones.sam

    def _embed(self, encoded: EncodedImage) -> Any:
        """Encode the image for SAM's decoder, once per image."""
        return encoded.sam_embedding(self.backbones)

    def _segment(
        self,
        encoded: EncodedImage,
        prompts: SamPrompts,
        watch: Stopwatch,
        dense: Tensor | None = None,
        **result: Any,
    ) -> ConceptResult:
        """Segment one class.

        Args:
            encoded: caches SAM's image embedding.
            prompts: points and boxes in pixels of the original image.
            watch: measures the run time.
            dense: (1, 1, 4h, 4w) mask logits.
            result: further arguments of :func:`~clipsam.sam_prompting.class_result`.
        """
        with watch.step("SAM encoder"):
            embedding = self._embed(encoded)
        with watch.step("SAM decoder"):
            transform, device = self._transform(encoded), self.backbones.device
            points, boxes = prompt_tensors(prompts, transform, device)
            logits, scores = self._decode_masks(embedding, points, boxes, dense)
            return class_result(logits, scores, prompts, **result)

    def _decode_masks(
        self,
        embedding: Any,
        points: tuple[Tensor, Tensor] | None,
        boxes: Tensor | None,
        dense: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Decode B prompts in one image, see :func:`~clipsam.models.sam_model.decode_masks`.

        Args:
            embedding: as :meth:`_embed` gives it.
            points, boxes, dense: of the prompts, in pixels of SAM's square.
        """
        sam = self._sam
        count = 1 if boxes is None else len(boxes)
        embeddings = embedding.expand(count, -1, -1, -1)
        return decode_masks(sam.mask_decoder, sam.prompt_encoder, embeddings, points, boxes, dense)
