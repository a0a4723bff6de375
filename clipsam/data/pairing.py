"""Files found by name, whatever the Unicode form of the name and the case of its ending."""

from __future__ import annotations

import unicodedata
from pathlib import Path, PurePath

PICTURE_ENDINGS = (".png", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".jpg", ".jpeg")
"""Endings of masks in a user's folder, of which an earlier one is preferred."""

IMAGE_ENDINGS = (*PICTURE_ENDINGS, ".jfif", ".mpo", ".jp2", ".avif", ".ppm", ".pgm", ".dib")
"""Endings of images that are looked for in a folder, in lower case."""

_LITTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


def is_litter(path: PurePath) -> bool:
    """Return whether a relative path is hidden, or something that an operating system left."""
    parts = [part for part in path.parts if part not in (".", "..")]
    return any(part.startswith(".") or part.lower() in _LITTER for part in parts)


def stem_of(path: PurePath) -> str:
    """Return the stem of a file, composed: what its labels share with it."""
    return unicodedata.normalize("NFC", path.stem)


class FileIndex:
    """The files below a folder, each folder listed when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._listed: dict[Path, dict[str, Path]] = {}

    def find(self, name: str | PurePath) -> Path | None:
        """Find a file.

        Args:
            name: relative to the folder; the file may differ from it in the Unicode form of the
                name and in the case of the ending, unless there is one that does not.
        """
        path = self.folder / name
        if path.is_file():
            return path
        return self._list(path.parent).get(_normal(path))

    def locate(self, name: str | PurePath) -> Path:
        """Find a file, or say where it should be."""
        return self.find(name) or self.folder / name

    def _list(self, folder: Path) -> dict[str, Path]:
        if folder not in self._listed:
            files = list_files(folder) if folder.is_dir() else []
            self._listed[folder] = {_normal(path): path for path in files}
        return self._listed[folder]


def list_files(folder: Path) -> list[Path]:
    """Return the files of a folder, sorted, without litter."""
    return [p for p in sorted(folder.iterdir()) if not is_litter(PurePath(p.name)) and p.is_file()]


def _normal(path: PurePath) -> str:
    return stem_of(path) + path.suffix.lower()
