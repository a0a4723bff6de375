"""ADE20K as prepared for scene parsing: 150 classes, ADEChallengeData2016."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ..samples import VOID
from .common import DataError, PairedData, list_pairs, read_lines


class Ade20kData(PairedData):
    """ADE20K's 150 classes; all other pixels (id 0) are :data:`VOID`."""

    kinds = ("ade20k",)
    parts: ClassVar = {"train": "training", "val": "validation"}

    def __init__(self, root: str | Path, part: str) -> None:
        """Open the data set.

        Args:
            root: the folder ``ADEChallengeData2016`` with ``images/{part}/``,
                ``annotations/{part}/`` and ``objectInfo150.txt``, of which the first synonym of
                each class is used.
            part: ``training`` or ``validation``.

        Raises:
            DataError: one of them is missing or damaged, or an image has no mask.
        """
        root = Path(root)
        listing = root / "objectInfo150.txt"
        _, *rows = read_lines(listing, "ADE20K's table of classes") or [""]
        names = [row.split("\t")[-1].split(",")[0].strip() for row in rows]
        if [row.split("\t")[0].strip() for row in rows] != [str(i) for i in range(1, 151)]:
            raise DataError(
                f"{listing} is not ADE20K's table, expected a heading and 150 rows that begin with "
                "1..150, separated by tabs"
            )
        values = {0: VOID} | {i + 1: i for i in range(len(names))}
        pairs = list_pairs(root / "images" / part, root / "annotations" / part)
        super().__init__(names, pairs, values, "ADE20K's ids are 0..150")
