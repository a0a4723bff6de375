"""MaskCLIP (Zhou, Loy and Dai, "Extract Free Dense Labels from CLIP").

ECCV 2022, arXiv 2112.01071.
"""

from __future__ import annotations

from clipsam.models.clip import Readout
from clipsam.registry import METHODS

from .map_prompted import ReadoutPredictor


class MaskClipPredictor(ReadoutPredictor):
    """CLIP whose last attention is left out: each patch keeps its own value.

    The paper drops queries and keys and turns value and output projection into 1 × 1 convolutions.
    As in the authors' code for ViT, the layer's residual connection and MLP stay. Left out are key
    smoothing, prompt denoising, and MaskCLIP+, which is trained.
    """

    info = METHODS["maskclip"]
    readout = Readout(layers=1, attention=("none",), feed_forward=True)
