"""Augmentation of labelled images as in the papers' training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from .samples import VOID, LabelledImage

Augmentation = Literal["paper", "crop", "mirror", "none"]

_MEAN_COLOUR = (124, 116, 104)


def _paper() -> v2.Transform:
    """Return CLIP-Guided SAM's augmentation for COCO, ADE20K and VOC.

    Kinds and probabilities are the authors'. Their code differs in three places:

    - Affine: it interpolates images by nearest neighbour, here bilinearly. What comes in from
      outside has the mean colour and is not trained on.
    - Blur: the kernel has 5 × 5 pixels of the image at its own size, its deviation is drawn from
      0.1 to 2.
    - Cutout: it erases the labels as well, here the image alone. A side of 64 pixels is one of
      SAM's 1024, so here 1/16 of the image's long side.
    """
    bilinear = v2.InterpolationMode.BILINEAR
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(0.5),
            v2.RandomVerticalFlip(0.5),
            v2.RandomApply([_ScaledCrop()], 0.5),
            v2.RandomApply(
                [
                    v2.RandomAffine(
                        degrees=30,
                        translate=(0.05, 0.05),
                        scale=(0.8, 1.2),
                        shear=10,
                        interpolation=bilinear,
                        fill={tv_tensors.Image: list(_MEAN_COLOUR), tv_tensors.Mask: VOID},
                    )
                ],
                0.5,
            ),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.7),
            v2.RandomApply([v2.GaussianBlur(5)], 0.2),
            v2.RandomApply([v2.ColorJitter(0.2, 0.2)], 0.2),
            _Cutout(64 / 1024, 0.3),
        ]
    )


class _ScaledCrop(v2.RandomResizedCrop):
    """Random crop of scale 0.7–1 and ratio 0.75–1.33, resized to the original size."""

    def __init__(self) -> None:
        super().__init__((1, 1), scale=(0.7, 1.0), ratio=(0.75, 1.33), antialias=True)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        self.size = tuple(flat_inputs[0].shape[-2:])
        return super().make_params(flat_inputs)


class _SquareCrop(v2.Transform):
    """Random square crop as large as the image's short side."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = flat_inputs[0].shape[-2:]
        side = min(height, width)
        top, left = (int(torch.randint(length - side + 1, ())) for length in (height, width))
        return {"top": top, "left": left, "height": side, "width": side}

    def transform(self, inpt: object, params: dict[str, Any]) -> object:
        return v2.functional.crop(inpt, **params)


class _Cutout(v2.Transform):
    """Random erasing of a square whose side is a fraction of the image's long side."""

    def __init__(self, share: float, p: float) -> None:
        super().__init__()
        self.share, self.p = share, p

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = flat_inputs[0].shape[-2:]
        side = max(1, round(self.share * max(height, width)))
        top, left = int(torch.randint(height, ())), int(torch.randint(width, ()))
        return {"hidden": torch.rand(()) < self.p, "at": (top, left, side)}

    def transform(self, inpt: object, params: dict[str, Any]) -> object:
        if not params["hidden"] or not isinstance(inpt, tv_tensors.Image):
            return inpt
        top, left, side = params["at"]
        hidden = inpt.clone()
        hidden[..., top : top + side, left : left + side] = 0
        return tv_tensors.wrap(hidden, like=inpt)


_TRANSFORMS: dict[str, v2.Transform] = {
    "paper": _paper(),
    "crop": v2.Compose(
        [_SquareCrop(), v2.RandomPhotometricDistort(), v2.RandomHorizontalFlip(0.5)]
    ),
    "mirror": v2.RandomHorizontalFlip(0.5),
    "none": v2.Identity(),
}


def augment(sample: LabelledImage, kind: Augmentation, seed: int) -> LabelledImage:
    """Augment an image and its class map, keeping the numbers of segments.

    Args:
        sample: the sample.
        kind: ``paper`` (CLIP-Guided SAM's: flips, crop, affine, colour, blur, cutout), ``crop``
            (CAT-Seg's: a square of the short side, colour, mirror), ``mirror`` (left and right
            alone), or ``none`` (camouflage, in the papers).
        seed: the same seed changes an image in the same way.
    """
    pixels = torch.from_numpy(sample.image.copy()).permute(2, 0, 1)
    labels = torch.from_numpy(np.stack((sample.classes, sample.segments)).astype(np.int32))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        image, masks = _TRANSFORMS[kind](tv_tensors.Image(pixels), tv_tensors.Mask(labels))
    classes, segments = masks.numpy()
    return replace(
        sample,
        image=np.ascontiguousarray(image.permute(1, 2, 0).numpy()),
        classes=classes.astype(np.int16),
        segments=np.maximum(segments, 0),
    )
