"""Camouflaged objects: COD10K, CAMO, CHAMELEON, and the papers' packed data sets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..images import ImageError, Loaded, load_binary_mask
from ..samples import BACKGROUND
from .common import DataError, PairedData, list_pairs

ANY_OBJECT, ANY_ANIMAL = "camouflaged object", "camouflaged animal"
"""Classes of images whose file name names no species, as CLIP-Guided SAM's authors word them."""


class CamouflageData(PairedData):
    """One camouflaged object per image, with a binary mask.

    What the file name tells becomes the class, see :func:`camouflaged_class`. COD10K's images
    without a camouflaged object ("NonCAM") are left out, as in the papers.
    """

    kinds = ("camouflage",)
    parts: ClassVar = {"train": "Train", "val": "Test", "test": "Test"}
    single_object = True

    def __init__(self, root: str | Path, part: str) -> None:
        """Open the data set.

        Args:
            root: a folder with one of ``{part}/Image`` and ``{part}/GT_Object`` (COD10K-v3),
                ``Images/{part}`` and ``GT`` (CAMO), ``Image`` and ``GT`` (CHAMELEON), or ``Imgs``
                and ``GT`` (the packed data sets). The last two are not divided into parts.
            part: ``Train`` or ``Test``.

        Raises:
            DataError: none of these folders, or an image has no mask.
        """
        root = Path(root)
        layouts = (
            (root / part / "Image", root / part / "GT_Object"),
            (root / "Images" / part, root / "GT"),
            (root / "Image", root / "GT"),
            (root / "Imgs", root / "GT"),
        )
        found = next((folders for folders in layouts if folders[0].is_dir()), None)
        if found is None:
            raise DataError(
                f"{root} has none of the image folders "
                f"{', '.join(str(images.relative_to(root)) for images, _ in layouts)}"
            )
        pairs = list_pairs(*found, skip="-NonCAM-")
        of_image = [camouflaged_class(image.stem) for image, _ in pairs]
        names = sorted(set(of_image))
        self._class_of = [names.index(name) for name in of_image]
        super().__init__(names, pairs, {}, "")

    def _classes(self, index: int) -> Loaded:
        path = self._pairs[index][1]
        try:
            inside = load_binary_mask(path).values
        except ImageError as error:
            raise DataError(f"{path}: {error}") from None
        return Loaded(np.where(inside, self._class_of[index], BACKGROUND).astype(np.int16))


def camouflaged_class(stem: str) -> str:
    """Return the class that a file name tells.

    COD10K's names contain the animal, "COD10K-CAM-1-Aquatic-1-BatFish-2", and its one kind of
    things that are none, "COD10K-CAM-5-Other-69-Other-…". CHAMELEON's are "animal-1"; CAMO's,
    "camourflage_00012", tell nothing. The animal's name is split into words ("bat fish"): CLIP's
    tokens of "batfish" are not those of its parts.
    """
    if re.fullmatch(r"animal-\d+", stem):
        return ANY_ANIMAL
    match = re.fullmatch(r"COD10K-CAM-\d+-([A-Za-z]+)-\d+-([A-Za-z]+)-\d+", stem)
    if match is None:
        return ANY_OBJECT
    kind, animal = match.groups()
    if animal.lower() == "other":
        return ANY_OBJECT if kind.lower() == "other" else ANY_ANIMAL
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", animal).lower()
