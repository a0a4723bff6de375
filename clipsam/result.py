"""The result of a method for one image, for programs."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pycocotools import mask as run_lengths

from .encoded_masks import coco_annotation, encode_masks
from .errors import PromptError
from .evaluation.metric_table import shown_in_compare
from .evaluation.truth import Truth
from .export import IMAGE, coco_annotations, write_prediction, write_results
from .marks import find_class
from .registry import find_info
from .types import InstanceMask, Prediction

if TYPE_CHECKING:
    import supervision
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Result:
    """A prediction with its image, and with its ground truth if known.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        prediction: logits, SAM's prompts, times; for other thresholds and sizes.
        truth: true masks, or ``None``.
        image_name: file name of the image.
    """

    image: np.ndarray
    prediction: Prediction
    truth: Truth | None = None
    image_name: str = IMAGE

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in order."""
        return self.prediction.texts

    @property
    def masks(self) -> np.ndarray:
        """Masks, bool (C, H, W): logits above 0."""
        return self.prediction.masks()

    @property
    def similarity(self) -> np.ndarray | None:
        """Raw similarity of each class, float32 (C, h, w), over the whole image.

        NaN for a class without a map; ``None`` if no class has one.
        """
        maps = [result.similarity for result in self.prediction.results]
        shape = next((one.shape for one in maps if one is not None), None)
        if shape is None:
            return None
        unknown = np.full(shape, np.nan, np.float32)
        return np.stack([unknown if one is None else one for one in maps]).astype(np.float32)

    @property
    def scores(self) -> dict[str, dict[str, float]]:
        """Scores of each class, by its name.

        ``presence`` is the probability in [0, 1] that the class is in the image. If its truth is
        known, ``iou`` and ``dice`` in [0, 1] follow. NaN stands for what is unknown.
        """
        scores = {}
        each = zip(self.classes, self.prediction.results, self.masks, strict=True)
        for text, result, mask in each:
            scores[text] = {"presence": float(result.presence)}
            compared = None if self.truth is None else self.truth.compare(text, mask)
            if compared is not None:
                for name, metric in shown_in_compare("mask").items():
                    scores[text][name] = metric.of_sample(compared)
        return scores

    def instances(self, name: str, threshold: float = 0.0) -> list[InstanceMask]:
        """Return the objects of a class, highest score first.

        For a method that tells no objects apart, these are the connected regions of its mask.

        Args:
            name: of the class, or one of its synonyms.
            threshold: masks are logits above it.

        Raises:
            PromptError: a name that was not asked for.
        """
        return list(self.prediction.each_instance(self._index(name), threshold))

    def plot(self, classes: Sequence[str] | None = None) -> Figure:
        """Draw the image, and the mask and similarity map of each class; needs matplotlib.

        Args:
            classes: names of those to draw; ``None`` draws all.

        Raises:
            PromptError: a name that was not asked for.
        """
        from . import drawing
        from .figure import FigurePage

        names = self.classes if classes is None else tuple(classes)
        indices = [self._index(name) for name in names]
        shown = drawing.display_pixels(self.image)
        size = shown.shape[:2]
        results = self.prediction.results
        has_maps = any(results[index].similarity is not None for index in indices)
        titles = ["image", *(self.classes[index] for index in indices)]
        page = FigurePage(size, titles, two_rows=has_maps or self.truth is not None)
        page.show(0, shown)
        if self.truth is not None:
            known = (self.truth.masks.get(text) for text in self.classes)
            nothing = np.zeros(size, bool)
            masks = [nothing if one is None else drawing.nearest(one, size) for one in known]
            page.show_below(0, drawing.overlay_masks(shown, masks), "ground truth")
        for cell, index in enumerate(indices, start=1):
            masks = [np.zeros(size, bool)] * len(results)
            masks[index] = self.prediction.class_mask(index, size=size)
            page.show(cell, drawing.overlay_masks(shown, masks))
            if has_maps:
                page.show_map(cell, self.prediction, index)
        page.add_legend(self.classes)
        return page.figure

    def _index(self, name: str) -> int:
        index = find_class(name, [concept.synonyms for concept in self.prediction.prompt.concepts])
        if index is None:
            raise PromptError(f"“{name}” is not one of the classes ({', '.join(self.classes)}).")
        return index

    def _repr_jpeg_(self) -> bytes:
        """Show :meth:`plot` for a result at the end of a notebook's cell."""
        from .figure import LAYOUT

        stream = io.BytesIO()
        self.plot().savefig(stream, format="jpeg", dpi=110, **LAYOUT)
        return stream.getvalue()

    def save(self, folder: str | Path) -> None:
        """Write the files of ``clipsam segment``.

        That is ``results.json``, and a folder named after the method with masks, similarity maps
        and COCO annotations, see :func:`clipsam.export.write_prediction`.
        """
        folder, prediction = Path(folder), self.prediction
        entry = write_prediction(
            prediction, folder / prediction.method, truth=self.truth, image_name=self.image_name
        )
        write_results(folder, self.image_name, prediction.prompt, [entry])

    def to_coco(self, instances: bool = False) -> dict:
        """Return ``images``, ``categories`` and ``annotations`` in COCO format.

        Masks are run lengths; see :func:`clipsam.export.coco_annotations`.

        Args:
            instances: one annotation for each object, see :meth:`instances`, instead of each class.
        """
        masks = [run_lengths.encode(np.asfortranarray(m.view(np.uint8))) for m in self.masks]
        content = coco_annotations(self.prediction, masks, self.image_name)
        if instances:
            size = self.prediction.transform.image_size
            objects = enumerate(encode_masks(self.prediction, regions=True), start=1)
            content["annotations"] = [
                coco_annotation(one, size, number, 1, one.category + 1) for number, one in objects
            ]
        return content

    def to_supervision(self) -> supervision.Detections:
        """Return one detection for each class with a mask, for the package ``supervision``.

        The confidence is the class's presence, 1 where that is unknown; ``class_id`` is the class's
        index, ``data["class_name"]`` its name.

        Raises:
            ImportError: supervision is not installed.
        """
        import supervision

        masks = self.masks
        kept = np.flatnonzero(masks.any(axis=(1, 2)))
        if not len(kept):
            return supervision.Detections.empty()
        presence = self.prediction.presence[kept]
        return supervision.Detections(
            xyxy=supervision.mask_to_xyxy(masks[kept]),
            mask=masks[kept],
            confidence=np.where(np.isnan(presence), 1, presence),
            class_id=kept,
            data={"class_name": np.array(self.classes)[kept]},
        )

    def __repr__(self) -> str:
        """Return method, mode, and the share of the image that each class covers."""
        shares = zip(self.classes, self.masks, strict=True)
        found = ", ".join(f"{text} {100 * mask.mean():.1f} %" for text, mask in shares)
        seconds = self.prediction.total_seconds
        method = find_info(self.prediction.method).name
        took = "" if math.isnan(seconds) else f", {seconds:.2f} s"
        return f"<Result of {method} ({self.prediction.mode}): {found}{took}>"
