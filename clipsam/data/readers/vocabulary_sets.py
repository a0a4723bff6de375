"""Test sets of open-vocabulary segmentation in the layout of the papers' data preparation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..pairing import FileIndex, list_files
from ..samples import BACKGROUND, VOID
from .common import DataError, PairedData, read_json

CLASS_LISTS = Path(__file__).parents[1] / "class_lists"


@dataclass(frozen=True)
class Layout:
    """Layout of a test set on disk.

    Attributes:
        names: its class list; a mask holds indices into it.
        folders: pairs (images, masks) below the root, of which the first that exists is read.
        suffix: of the mask files.
        void: ids of pixels that are not scored.
        background: id of pixels that show none of the classes; ``None`` if there is none.
    """

    names: str
    folders: tuple[tuple[str, str], ...]
    suffix: str
    void: tuple[int, ...]
    background: int | None = None


# CAT-Seg's folders come first; ODISE and FC-CLIP write the same ids elsewhere.
TEST_SETS = {
    "a-847": Layout(
        "a-847",
        (("images_detectron2/validation", "annotations_detectron2/validation"),),
        ".tif",
        (65535,),
    ),
    "a-150": Layout(
        "a-150", (("images/validation", "annotations_detectron2/validation"),), ".png", (255,)
    ),
    "pc-459": Layout(
        "pc-459",
        (
            ("JPEGImages", "annotations_detectron2/pc459_val"),
            ("images/validation", "annotations_ctx459/validation"),
        ),
        ".tif",
        # 65535 is PASCAL-Context's id 0 less one, in 16 bits.
        (459, 65535),
    ),
    "pc-59": Layout(
        "pc-59",
        (
            ("JPEGImages", "annotations_detectron2/pc59_val"),
            ("images/validation", "annotations_ctx59/validation"),
        ),
        ".png",
        (255,),
    ),
    "pas-20": Layout(
        "pas-20",
        (
            ("JPEGImages", "annotations_detectron2/val"),
            ("images/validation", "annotations_pascal20/validation"),
        ),
        ".png",
        (255,),
    ),
    "pas-20b": Layout(
        "pas-20", (("JPEGImages", "annotations_detectron2_bg/val"),), ".png", (255,), background=20
    ),
}
"""The test sets by their kind in ``open_data``."""


class OpenVocabularyData(PairedData):
    """The validation part of one of :data:`TEST_SETS`; its masks determine the images."""

    kinds = tuple(TEST_SETS)

    def __init__(self, kind: str, root: str | Path, part: str) -> None:
        """Open the data set.

        Args:
            kind: which test set.
            root: the folder ``ADE20K_2021_17_01`` (A-847), ``ADEChallengeData2016`` (A-150),
                ``VOC2010`` or ``pascal_ctx_d2`` (PC), ``VOC2012`` or ``pascal_voc_d2`` (PAS).
            part: ``val``.

        Raises:
            DataError: another part, no such folders, no mask, or a mask without an image.
        """
        root = Path(root)
        if part != "val":
            raise DataError(f"{kind}:{root} is a test set with the part val only, not {part}")
        layout = TEST_SETS[kind]
        names = class_list(layout.names)
        values = {i: i for i in range(len(names))} | dict.fromkeys(layout.void, VOID)
        if layout.background is not None:
            values[layout.background] = BACKGROUND
        more = [str(number) for number in sorted(values) if number >= len(names)]
        known = f"{kind}'s ids are 0..{len(names) - 1} and {' and '.join(more)}"
        super().__init__(names, _list_pairs(root, layout), values, known)

    @classmethod
    def open(cls, kind: str, root: Path, part: str) -> OpenVocabularyData:
        """Open the test set, see :meth:`DataReader.open`."""
        return cls(kind, root, part)


def class_list(name: str) -> tuple[str, ...]:
    """Return the class names of a test set by class value.

    Raises:
        DataError: there is no such list.
    """
    return tuple(read_json(CLASS_LISTS / f"{name}.json"))


def _list_pairs(root: Path, layout: Layout) -> list[tuple[Path, Path]]:
    """Pair every mask with the JPEG of its stem, sorted; images without a mask are ignored."""
    images, masks = _folders(root, layout.folders)
    there = FileIndex(images)
    pairs = []
    for mask in list_files(masks):
        if mask.suffix.lower() != layout.suffix:
            continue
        image = there.find(f"{mask.stem}.jpg")
        if image is None:
            raise DataError(f"{mask} has no image {images / mask.stem}.jpg")
        pairs.append((image, mask))
    if not pairs:
        raise DataError(f"{masks} contains no {layout.suffix} file, expected masks of that format")
    return pairs


def _folders(root: Path, choices: Sequence[tuple[str, str]]) -> tuple[Path, Path]:
    for images, masks in choices:
        if (root / images).is_dir() and (root / masks).is_dir():
            return root / images, root / masks
    wanted = ", nor ".join(f"{images}/ and {masks}/" for images, masks in choices)
    raise DataError(f"{root} lacks the folders {wanted}")
