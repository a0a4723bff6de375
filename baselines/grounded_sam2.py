"""Grounded SAM 2: Grounded SAM (arXiv 2401.14159) with SAM 2.1 instead of SAM."""

from __future__ import annotations

from clipsam.registry import METHODS

from .grounded_sam import GroundedSamPredictor
from .sam2 import Sam2Prompter


class GroundedSam2Predictor(Sam2Prompter, GroundedSamPredictor):
    """Grounded SAM with SAM 2.1; the boxes are the same."""

    info = METHODS["grounded-sam2"]
