"""SAM3-LiteText alone (arXiv 2602.12173): SAM 3 with a small text tower."""

from __future__ import annotations

from clipsam.registry import METHODS

from .sam3 import Sam3Predictor


class Sam3LiteTextPredictor(Sam3Predictor):
    """As SAM 3, with weights of its own."""

    info = METHODS["sam3-litetext"]
