"""Pipelines to compare with; importing this package registers them."""

from . import (
    clip_sam,
    clip_surgery_sam,
    clip_surgery_sam2,
    clipseg_sam,
    grounded_sam,
    grounded_sam2,
    owlv2_sam,
    sam,
    sam2,
    sam3,
    sam_peft,
    sam_proposals_clip,
)

__all__ = [
    "clip_sam",
    "clip_surgery_sam",
    "clip_surgery_sam2",
    "clipseg_sam",
    "grounded_sam",
    "grounded_sam2",
    "owlv2_sam",
    "sam",
    "sam2",
    "sam3",
    "sam_peft",
    "sam_proposals_clip",
]
