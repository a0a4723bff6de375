"""Labelled images that somebody brings to be measured: a zip, or a folder of the server's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ...data.readers import DataError, open_data
from ...data.samples import SegmentationData
from .listings import PART, find_listings, folders_in
from .unpacking import unpack

MAX_CLASSES = 1000

RIGHT = (
    "Right are images/, masks/ (for each image a PNG of class ids with its name) and classes.json "
    "(a list of names), or a COCO JSON of instances or panoptic segments with its images."
)


@dataclass(frozen=True)
class Part:
    """A part of a data set, as ``open_data`` finds it.

    Attributes:
        kind: of the data set.
        folder: of the data set.
        name: of the part.
    """

    kind: str
    folder: Path
    name: str


class Source:
    """What somebody brought, looked through.

    Attributes:
        name: what its owner calls it.
        parts: by their names as shown; at least one.
    """

    def __init__(self, name: str, root: Path, room: TemporaryDirectory) -> None:
        """
        Args:
            name: what its owner calls it.
            root: where it lies.
            room: a folder to work in, the source's own from now on.

        Raises:
            DataError: nothing labelled is found.
        """
        self.name = name
        self._room = room
        root = _without_wrapping(root)
        self._shown = {f"{root}/": "", str(root): name}
        try:
            self.parts = _folder_parts(root) or self._listed_parts(root)
        except DataError as error:
            raise DataError(self.describe_error(error)) from None
        if not self.parts:
            raise DataError(f"{name} holds no labelled images. {RIGHT}")

    def _listed_parts(self, root: Path) -> dict[str, Part]:
        """Parts that a COCO JSON lists."""
        parts: dict[str, Part] = {}
        for number, listing in enumerate(find_listings(root)):
            folder = Path(self._room.name) / f"listing-{number}"
            links = listing.lay_out(folder)
            # The JSON's link first: the name of the masks' is how it begins.
            self._shown = {
                **{str(link): str(target.relative_to(root)) for link, target in links.items()},
                **self._shown,
            }
            name = listing.name if listing.name not in parts else f"{listing.name} ({listing.kind})"
            parts[name] = Part(listing.kind, folder, PART)
        return parts

    @property
    def first_part(self) -> str:
        """What is measured unless its owner says otherwise: rather no training images."""
        held_back = [name for kind in ("val", "test") for name in self.parts if kind in name]
        return [*held_back, *self.parts][0]

    def open(self, part: str) -> SegmentationData:
        """The images of a part.

        Raises:
            DataError: no such part, or it is not what it should be.
        """
        if part not in self.parts:
            raise DataError(f"{self.name} has no part “{part}”: choose {' or '.join(self.parts)}.")
        found = self.parts[part]
        try:
            data = open_data(f"{found.kind}:{found.folder}", found.name)
        except DataError as error:
            raise DataError(f"{self.describe_error(error)} {RIGHT}") from None
        except (TypeError, KeyError, ValueError, AttributeError, RecursionError) as error:
            raise DataError(f"{self.name}: “{part}” is damaged ({error}). {RIGHT}") from None
        if not len(data):
            raise DataError(f"{self.name}: “{part}” holds no image. {RIGHT}")
        if not 1 <= len(data.names) <= MAX_CLASSES:
            raise DataError(
                f"{self.name} names {len(data.names):,} classes: 1 to {MAX_CLASSES:,} are right."
            )
        return data

    def describe_error(self, error: Exception) -> str:
        """What an error says, as a sentence with paths as the owner knows them."""
        text = str(error)
        for path, shown in self._shown.items():
            text = text.replace(path, shown)
        return text if text.endswith(".") else f"{text}."

    def close(self) -> None:
        """Delete what was unpacked."""
        self._room.cleanup()


def from_zip(path: Path) -> Source:
    """Unpack a zip into a temporary folder and look through it.

    Raises:
        DataError: not a zip, one that cannot be trusted, or nothing labelled in it.
    """
    room = TemporaryDirectory(prefix="clipsam-")
    # A folder below the temporary one: readers look for a class list one above.
    unpacked = Path(room.name) / "unpacked"
    unpacked.mkdir()
    try:
        unpack(path, unpacked)
        return Source(path.name, unpacked, room)
    except BaseException:
        room.cleanup()
        raise


def from_server(folders: Sequence[Path], name: str) -> Source:
    """Look through a folder of the server's.

    Args:
        folders: whose sub-folders may be looked at.
        name: one of :func:`offered`.

    Raises:
        DataError: no such folder, or nothing labelled in it.
    """
    found = offered(folders).get(name)
    if found is None:
        raise DataError(f"The server has no folder “{name}”: choose one from the list.")
    return Source(name, found, TemporaryDirectory(prefix="clipsam-"))


def offered(folders: Sequence[Path]) -> dict[str, Path]:
    """Sub-folders of the folders allowed, by the names they are shown with.

    What is hidden is not offered, nor a link that leads out of its folder.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        for inner in folders_in(folder) if folder.is_dir() else ():
            if inner.resolve().is_relative_to(folder.resolve()):
                name = inner.name if inner.name not in found else f"{folder.name}/{inner.name}"
                found[name] = inner
    return found


def _without_wrapping(root: Path) -> Path:
    """The innermost folder that holds everything."""
    while True:
        visible = [path for path in root.iterdir() if path.name[0] != "."]
        if len(visible) != 1 or visible[0].is_symlink() or not visible[0].is_dir():
            return root
        if visible[0].name in ("images", "masks"):
            return root
        root = visible[0]


def _folder_parts(root: Path) -> dict[str, Part]:
    """Parts with ``images/`` and ``masks/``."""

    def labelled(folder: Path) -> bool:
        return (folder / "images").is_dir() and (folder / "masks").is_dir()

    if labelled(root):
        return {PART: Part("folder", root, PART)}
    inner = (folder.name for folder in folders_in(root) if labelled(folder))
    return {name: Part("folder", root, name) for name in inner}
