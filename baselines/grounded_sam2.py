"""Grounded SAM 2: Grounded SAM (arXiv 2401.14159) with SAM 2.1 in the place of SAM."""

from __future__ import annotations

from clipsam.predictor import MethodInfo

from .grounded_sam import GroundedSamPredictor
from .sam2 import Sam2Prompter


class GroundedSam2Predictor(Sam2Prompter, GroundedSamPredictor):
    """The same boxes; only the SAM that is told differs."""

    info = MethodInfo(
        id="grounded-sam2",
        name="Grounded SAM 2",
        paper="arXiv 2401.14159",
        kind="baseline",
        modes=("text",),
        summary="Boxes that Grounding DINO finds for the name, each handed to SAM 2.1.",
    )
