"""The user's labelled images: a zip, or a folder on the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory

from ...data.pairing import is_litter
from ...data.readers import DataError, open_data
from ...data.samples import SegmentationData
from .listings import PART, find_listings, folders_in
from .unpacking import unpack

MAX_CLASSES = 1000

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
        root = _without_wrapping(root)
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
        try:
            data = open_data(f"{found.kind}:{found.folder}", found.name)
        except DataError as error:
            raise DataError(f"{self.describe_error(error)} {RIGHT}") from None
        except (TypeError, KeyError, ValueError, AttributeError, RecursionError) as error:
            raise DataError(f"{self.name}: part “{part}” is damaged ({error}). {RIGHT}") from None
        if not len(data):
            raise DataError(f"{self.name}: part “{part}” contains no image. {RIGHT}")
        if not 1 <= len(data.names) <= MAX_CLASSES:
            raise DataError(
                f"{self.name} has {len(data.names):,} classes, expected 1 to {MAX_CLASSES:,}."
            )
        return data

    def describe_error(self, error: Exception | str) -> str:
        """Describe an error or a note in one sentence, with paths as the user knows them."""
        text = str(error)
        for path, shown in self._shown.items():
            text = text.replace(path, shown)
        return text if text.endswith(".") else f"{text}."

    def close(self) -> None:
        """Delete the unpacked files."""
        self._room.cleanup()


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


def _without_wrapping(root: Path) -> Path:
    """Return the innermost folder that contains everything."""
    while True:
        visible = [path for path in root.iterdir() if not is_litter(PurePath(path.name))]
        if len(visible) != 1 or visible[0].is_symlink() or not visible[0].is_dir():
            return root
        if visible[0].name in ("images", "masks"):
            return root
        root = visible[0]


def _folder_parts(root: Path) -> dict[str, Part]:
    """Return the parts with ``images/`` and ``masks/``."""

    def labelled(folder: Path) -> bool:
        return (folder / "images").is_dir() and (folder / "masks").is_dir()

    if labelled(root):
        return {PART: Part("folder", root, PART)}
    inner = (folder.name for folder in folders_in(root) if labelled(folder))
    return {name: Part("folder", root, name) for name in inner}
