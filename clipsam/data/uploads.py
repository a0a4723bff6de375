"""Labelled images that somebody else packed: a zip, or a folder on the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from .listings import PART, find_listings, folders_in
from .readers import DataError, open_data
from .readers.common import read_json
from .samples import SegmentationData
from .unpacking import CLASSES, MAX_NAMES_BYTES, unpack, without_wrapping

MAX_CLASSES = 1000
"""Classes of labelled images."""

RIGHT = (
    "Expected images/, masks/ (for each image a PNG of class ids with the same name) and "
    "classes.json (a list of names), or a COCO JSON of instances or panoptic segments with its "
    "images."
)


@dataclass(frozen=True)
class Part:
    """A part of a data set, as accepted by ``open_data``.

    Attributes:
        kind: of the data set.
        folder: of the data set.
        name: of the part.
    """

    kind: str
    folder: Path
    name: str


class Source:
    """The user's images, validated.

    Attributes:
        name: display name.
        parts: by their names as shown; at least one.
    """

    def __init__(self, name: str, root: Path, room: TemporaryDirectory) -> None:
        """Find the parts.

        Args:
            name: display name.
            root: its folder.
            room: a temporary folder, owned by the source from now on.

        Raises:
            DataError: there are no labelled images.
        """
        self.name = name
        self._room = room
        root = without_wrapping(root)
        self._shown = {f"{root}/": "", str(root): name}
        try:
            self.parts = _folder_parts(root) or self._listed_parts(root)
        except DataError as error:
            raise DataError(self.describe_error(error)) from None
        if not self.parts:
            raise DataError(f"{name} contains no labelled images. {RIGHT}")

    def _listed_parts(self, root: Path) -> dict[str, Part]:
        """Return the parts that a COCO JSON lists."""
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
        """The default part, preferably not the training images."""
        held_back = [name for kind in ("val", "test") for name in self.parts if kind in name]
        return [*held_back, *self.parts][0]

    def open(self, part: str) -> SegmentationData:
        """Open the images of a part.

        Raises:
            DataError: no such part, or it is invalid.
        """
        if part not in self.parts:
            raise DataError(
                f"{self.name} has no part “{part}”, expected {' or '.join(self.parts)}."
            )
        found = self.parts[part]
        folder = self.folder(part)
        if folder is not None:  # Before a reader compares the names with each other.
            try:
                read_class_list(folder)
            except DataError as error:
                raise DataError(f"{self.describe_error(error)} {RIGHT}") from None
        try:
            data = open_data(f"{found.kind}:{found.folder}", found.name)
        except DataError as error:
            raise DataError(f"{self.describe_error(error)} {RIGHT}") from None
        if not len(data):
            raise DataError(f"{self.name}: part “{part}” contains no image. {RIGHT}")
        if not data.names:
            raise DataError(f"{self.name} has 0 classes, expected 1 to {MAX_CLASSES:,}.")
        check_class_count(data.names, self.name)
        return data

    def folder(self, part: str) -> Path | None:
        """Return the folder of a part's ``images/`` and ``masks/``; ``None`` if a JSON lists it."""
        found = self.parts[part]
        if found.kind != "folder":
            return None
        inner = found.folder / found.name
        return inner if (inner / "images").is_dir() else found.folder

    def describe_error(self, error: Exception | str) -> str:
        """Describe an error or a note in one sentence, with paths as the user knows them."""
        text = str(error)
        for path, shown in self._shown.items():
            text = text.replace(path, shown)
        return text if text.endswith(".") else f"{text}."

    def close(self) -> None:
        """Delete the unpacked files."""
        self._room.cleanup()


def read_class_list(folder: Path) -> tuple[str, ...] | None:
    """Read the class names of a folder of labelled images, index = id.

    They stand in :data:`~.unpacking.CLASSES` in the folder or one above; ``None`` without it.

    Raises:
        DataError: it is no list of names, or too long.
    """
    path = next((p for f in (folder, folder.parent) if (p := f / CLASSES).is_file()), None)
    if path is None:
        return None
    if path.stat().st_size > MAX_NAMES_BYTES:
        raise DataError(
            f"{path} is larger than {MAX_NAMES_BYTES // 2**20} MB, expected a list of class names"
        )
    names = read_json(path)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path} is not a list of class names")
    check_class_count(names, str(path))
    return tuple(names)


def check_class_count(names: Sequence[str], what: str) -> None:
    """Check the number of classes.

    Args:
        names: of the classes.
        what: where they stand, for the message.

    Raises:
        DataError: they are too many.
    """
    if len(names) > MAX_CLASSES:
        raise DataError(
            f"{what} has {len(names):,} classes, more than the limit of {MAX_CLASSES:,}."
        )


def from_zip(path: Path) -> Source:
    """Unpack a zip into a temporary folder and find its parts.

    Raises:
        DataError: not a zip, an unsafe one, or one without labelled images.
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
    """Open a folder on the server.

    Args:
        folders: folders whose sub-folders may be used.
        name: one of :func:`offered`.

    Raises:
        DataError: no such folder, or no labelled images in it.
    """
    found = offered(folders).get(name)
    if found is None:
        raise DataError(f"The server has no folder “{name}”. Choose one from the list.")
    return Source(name, found, TemporaryDirectory(prefix="clipsam-"))


def offered(folders: Sequence[Path]) -> dict[str, Path]:
    """List the sub-folders of the allowed folders, by display name.

    Hidden folders are not listed, nor links out of a folder.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        for inner in folders_in(folder) if folder.is_dir() else ():
            if inner.resolve().is_relative_to(folder.resolve()):
                name = inner.name if inner.name not in found else f"{folder.name}/{inner.name}"
                found[name] = inner
    return found


def _folder_parts(root: Path) -> dict[str, Part]:
    """Return the parts with ``images/`` and ``masks/``."""

    def labelled(folder: Path) -> bool:
        return (folder / "images").is_dir() and (folder / "masks").is_dir()

    if labelled(root):
        return {PART: Part("folder", root, PART)}
    inner = (folder.name for folder in folders_in(root) if labelled(folder))
    return {name: Part("folder", root, name) for name in inner}
