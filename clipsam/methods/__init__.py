"""The papers' methods; importing this package registers them."""

from . import clip_guided_sam

__all__ = ["clip_guided_sam"]
