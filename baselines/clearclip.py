"""ClearCLIP (Lan et al., "Decomposing CLIP Representations for Dense Vision-Language Inference").

ECCV 2024, arXiv 2407.12442.
"""

from __future__ import annotations

from clipsam.models.clip import Readout
from clipsam.registry import METHODS

from .map_prompted import ReadoutPredictor


class ClearClipPredictor(ReadoutPredictor):
    """CLIP's last query-query attention alone, without residual connection and MLP.

    Left out are the authors' windows of 448 pixels, for which tiles can be used.
    """

    info = METHODS["clearclip"]
    readout = Readout(layers=1, attention=("query-query",), residual=False)
