"""Pipelines to compare with; importing this package registers them."""

from . import clip_sam, clip_surgery_sam, sam, sam_peft, sam_proposals_clip

__all__ = ["clip_sam", "clip_surgery_sam", "sam", "sam_peft", "sam_proposals_clip"]
