"""SAM3-LiteText (arXiv 2602.12173): SAM 3 with MobileCLIP's small text tower.

Apart from SAM 3, since not every release of transformers 5 has it.
"""

from __future__ import annotations

from transformers import Sam3LiteTextModel

from .sam3_model import TextOnce


class TextOnceSam3LiteTextModel(TextOnce, Sam3LiteTextModel):
    """SAM3-LiteText with cached text features."""
