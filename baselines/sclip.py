"""SCLIP (Wang, Mei and Yuille, "Rethinking Self-Attention for Dense Vision-Language Inference").

ECCV 2024, arXiv 2312.01597.
"""

from __future__ import annotations

from clipsam.models.clip import Readout
from clipsam.registry import METHODS

from .map_prompted import ReadoutPredictor


class SclipPredictor(ReadoutPredictor):
    """CLIP whose last attention is correlative: softmax(q qᵀ s) + softmax(k kᵀ s), s = 1 / √d.

    Residual connection and MLP of the layer stay. Left out are the authors' windows of 224 pixels
    (tiles give similar ones) and their refinement of masks by colours.
    """

    info = METHODS["sclip"]
    readout = Readout(layers=1, attention=("query-query", "key-key"), feed_forward=True)
