"""CLIP Surgery + SAM 2.1: CLIP Surgery + SAM (arXiv 2304.05653) with the newer SAM."""

from __future__ import annotations

from clipsam.predictor import MethodInfo

from .clip_surgery_sam import ClipSurgerySamPredictor
from .map_prompted import DENSE, VANILLA
from .sam2 import Sam2Prompter


class ClipSurgerySam2Predictor(Sam2Prompter, ClipSurgerySamPredictor):
    """CLIP Surgery + SAM with SAM 2.1; points and map are the same."""

    info = MethodInfo(
        id="clip-surgery-sam2",
        name="CLIP Surgery + SAM 2.1",
        paper="arXiv 2408.00714",
        kind="baseline",
        modes=(VANILLA, DENSE),
        summary="Points where CLIP's similarity map is high prompt an unchanged SAM 2.1.",
    )
