"""The papers' methods; importing this package registers them."""

from . import clip_guided_sam, esc_net, sam_ptx

__all__ = ["clip_guided_sam", "esc_net", "sam_ptx"]
