"""Bundles trained in one session, offered on every tab like the project's own."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from ..registry import find_method
from .choices import MethodChoice, choices_of

MAX_BUNDLES = 4
"""Bundles kept per session; adding another deletes the oldest."""


@dataclass(frozen=True)
class SessionBundle:
    """A method with weights trained in this session.

    Attributes:
        name: as shown.
        method: its id.
        preset: name of the preset that it fits.
        folder: the bundle, as ``train`` writes it.
        archive: the same as one zip.
    """

    name: str
    method: str
    preset: str
    folder: Path
    archive: Path

    @property
    def choices(self) -> tuple[MethodChoice, ...]:
        """The method with these weights, in each of its modes."""
        return choices_of(find_method(self.method), self.name, self.folder)


@dataclass
class SessionBundles:
    """Bundles trained in one open page, never shared with others.

    Attributes:
        kept: the latest last, at most :data:`MAX_BUNDLES`.
        trained: number of bundles so far.
    """

    kept: list[SessionBundle] = field(default_factory=list)
    trained: int = 0
    _folder: TemporaryDirectory | None = None

    def choices(self, preset: str) -> tuple[MethodChoice, ...]:
        """Return the choices that the bundles offer with a preset."""
        fitting = (bundle for bundle in self.kept if bundle.preset == preset)
        return tuple(choice for bundle in fitting for choice in bundle.choices)

    def new_folder(self, name: str) -> Path:
        """Create a folder that is deleted with the session at the latest."""
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="clipsam-adapt-", ignore_cleanup_errors=True)
        return Path(self._folder.name) / name

    def keep(self, bundle: SessionBundle) -> None:
        """Add a bundle and delete the oldest ones above the limit."""
        self.trained += 1
        self.kept.append(bundle)
        for old in self.kept[:-MAX_BUNDLES]:
            shutil.rmtree(old.folder, ignore_errors=True)
            old.archive.unlink(missing_ok=True)
        del self.kept[:-MAX_BUNDLES]

    def close(self) -> None:
        """Delete all files of the session."""
        if self._folder is not None:
            self._folder.cleanup()
