"""A plain folder of images and masks."""

from __future__ import annotations

from pathlib import Path

from ..samples import BACKGROUND, VOID
from .common import DataError, PairedData, list_pairs, read_json


class FolderData(PairedData):
    """A plain folder: ``images/``, ``masks/`` (index PNGs of the same stems), ``classes.json``.

    The class list may lie in the folder or one above it. A class named ``background`` becomes
    :data:`BACKGROUND`, one named ``unlabelled`` becomes :data:`VOID`; so does id 255.
    """

    kinds = ("folder",)

    def __init__(self, folder: str | Path) -> None:
        """Open the folder.

        Raises:
            DataError: a part is missing or damaged, or an image has no mask.
        """
        self.folder = Path(folder)
        classes = next(
            (p for f in (self.folder, self.folder.parent) if (p := f / "classes.json").is_file()),
            None,
        )
        if classes is None:
            raise DataError(f"{self.folder} has no classes.json (a list of class names)")
        listed = read_json(classes)
        if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
            raise DataError(f"{classes} is not a list of class names")
        special = {"background": BACKGROUND, "unlabelled": VOID}
        names = [name for name in listed if name not in special]
        values = {255: VOID}
        for index, name in enumerate(listed):
            values[index] = special[name] if name in special else names.index(name)
        pairs = list_pairs(self.folder / "images", self.folder / "masks")
        known = f"{classes} lists {len(listed)} names (ids 0..{len(listed) - 1})"
        super().__init__(names, pairs, values, known)

    @classmethod
    def open(cls, kind: str, root: Path, part: str) -> FolderData:
        """Open one part; a folder without parts is used as a whole, see :meth:`DataReader.open`."""
        for folder in (root / part, root):
            if (folder / "images").is_dir():
                return cls(folder)
        raise DataError(f"neither the folder {root / part / 'images'} nor {root / 'images'} exists")
