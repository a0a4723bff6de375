"""CLIP Surgery + SAM 2.1: CLIP Surgery + SAM (arXiv 2304.05653) with the newer SAM."""

from __future__ import annotations

from clipsam.registry import METHODS

from .clip_surgery_sam import ClipSurgerySamPredictor
from .sam2 import Sam2Prompter


class ClipSurgerySam2Predictor(Sam2Prompter, ClipSurgerySamPredictor):
    """CLIP Surgery + SAM with SAM 2.1; points and map are the same."""

    info = METHODS["clip-surgery-sam2"]
