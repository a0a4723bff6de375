"""Safe unpacking of an untrusted zip: the only way in which archives of labels are opened."""

from __future__ import annotations

import atexit
import io
import stat
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import BinaryIO

from .pairing import is_litter
from .readers.common import DataError

CLASSES = "classes.json"
"""File of the class names by id."""

MAX_FILES = 20_000
"""Files in one zip."""

MAX_DIRECTORY_BYTES = 8 * 2**20
"""Bytes of a zip's directory, which is read into memory as a whole."""

MAX_BYTES = 2 * 2**30
"""Bytes of all files of a zip, unpacked."""

MAX_RATIO, RATIO_FROM = 100, 100 * 2**20
"""How many times larger than the zip its files may be, once they exceed so many bytes.

Photographs hardly shrink in a zip; only a bomb grows a hundredfold.
"""

MAX_JSON_BYTES = 100 * 2**20
"""Bytes of a JSON, which is read into memory as a whole."""

MAX_NAMES_BYTES = 2**20
"""Bytes of :data:`CLASSES`."""

CHUNK = 2**20


def unpack(path: Path, folder: Path) -> None:
    """Unpack a zip without trusting what its directory says.

    Args:
        path: the zip.
        folder: an empty one.

    Raises:
        DataError: not a zip, damaged, empty, too large, or with anything but plain files.
    """
    name = path.name
    try:
        with path.open("rb") as file:
            _check_directory(file, name)
            with zipfile.ZipFile(file) as archive:
                _unpack_all(archive, folder, path)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, struct.error) as error:
        if not zipfile.is_zipfile(path):
            raise DataError(f"{name} is not a zip archive, expected a .zip file.") from None
        raise DataError(f"{name} is a damaged zip ({error}). Create it again.") from None
    except FileExistsError as error:
        twice = Path(error.filename).relative_to(folder)
        raise DataError(f"{name} contains “{twice}” twice. Remove one of them.") from None
    except (OSError, ValueError, UnicodeError) as error:
        if isinstance(error, DataError):
            raise
        reason = getattr(error, "strerror", None) or "a file name cannot be used"
        raise DataError(f"{name} cannot be unpacked ({reason}).") from None


def unpacked(path: Path) -> Path:
    """Unpack a zip into a temporary folder that exists until this program ends.

    Returns:
        The innermost folder that contains everything.

    Raises:
        DataError: see :func:`unpack`.
    """
    room = TemporaryDirectory(prefix="clipsam-")
    atexit.register(room.cleanup)
    # Named like the zip, for messages, and below the temporary folder: readers look for a class
    # list one above.
    folder = Path(room.name) / path.name
    folder.mkdir()
    unpack(path, folder)
    return without_wrapping(folder)


def without_wrapping(root: Path) -> Path:
    """Return the innermost folder that contains everything."""
    while True:
        visible = [path for path in root.iterdir() if not is_litter(PurePosixPath(path.name))]
        if len(visible) != 1 or visible[0].is_symlink() or not visible[0].is_dir():
            return root
        if visible[0].name in ("images", "masks"):
            return root
        root = visible[0]


def _check_directory(file: BinaryIO, name: str) -> None:
    """Check the size of the directory before it is read.

    Raises:
        DataError: it is larger than that of any zip with :data:`MAX_FILES` files.
    """
    end = file.seek(0, io.SEEK_END)
    # The last record is 22 bytes and a comment; before it may stand where its 64-bit twin is.
    start = max(0, end - 22 - 65_535 - 20)
    file.seek(start)
    tail = file.read()
    file.seek(0)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) < at + 22:
        return  # no zip, as the next one will say
    count, size = struct.unpack_from("<HI", tail, at + 10)
    if at >= 20 and tail[at - 20 : at - 16] == b"PK\6\7":
        (place,) = struct.unpack_from("<Q", tail, at - 12)
        file.seek(min(place, end))
        record = file.read(56)
        file.seek(0)
        if record.startswith(b"PK\6\6") and len(record) == 56:
            count, size = struct.unpack_from("<QQ", record, 32)
    if count > 2 * MAX_FILES or size > MAX_DIRECTORY_BYTES:
        raise DataError(f"{name} contains more files than the limit of {MAX_FILES:,}.")


def _unpack_all(archive: zipfile.ZipFile, folder: Path, path: Path) -> None:
    name = path.name
    places = ((entry, _inside(entry, name)) for entry in archive.infolist())
    entries = [(entry, place) for entry, place in places if place.parts and not is_litter(place)]
    if not entries:
        raise DataError(f"{name} is empty, expected a folder with files.")
    if len(entries) > MAX_FILES:
        raise DataError(
            f"{name} contains {len(entries):,} files, more than the limit of {MAX_FILES:,}."
        )
    left = _Allowance(name, path.stat().st_size)
    left.take(sum(entry.file_size for entry, _ in entries))  # An honest bomb is told at once.
    left = _Allowance(name, path.stat().st_size)
    for entry, place in entries:
        target = folder / place
        if entry.is_dir() or entry.filename.endswith("\\"):
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        _unpack_one(archive, entry, target, left)


class _Allowance:
    """Bytes that may still come out of a zip."""

    def __init__(self, name: str, packed: int) -> None:
        self.name = name
        self._packed, self._done = packed, 0

    def take(self, size: int) -> None:
        """Count bytes.

        Raises:
            DataError: they are too many.
        """
        self._done += size
        if self._done > MAX_BYTES:
            raise DataError(
                f"{self.name} is larger than {MAX_BYTES / 2**30:.3g} GB when unpacked. Remove "
                "images that are not needed."
            )
        if self._done > max(RATIO_FROM, MAX_RATIO * self._packed):
            raise DataError(
                f"{self.name} grows more than {MAX_RATIO} times when unpacked, as no archive of "
                "photographs does. Save its images as PNG or JPEG."
            )


def _inside(entry: zipfile.ZipInfo, name: str) -> PurePosixPath:
    """Return the path of an entry relative to the target folder."""
    path = PurePosixPath(entry.filename.replace("\\", "/"))
    if is_litter(path) or not path.parts:
        return path
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise DataError(
            f"{name} contains “{entry.filename}”, a path outside the zip. All paths must lie "
            "inside it."
        )
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DataError(f"{name} contains the link “{path}”. Include the file itself instead.")
    if entry.flag_bits & 1:
        raise DataError(f"{name} is protected by a password. Create it without one.")
    # All others may unpack any amount at once.
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{name} uses an unsupported compression. Create it with “deflate”.")
    return path


def _unpack_one(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, left: _Allowance
) -> None:
    """Unpack a file, as far as it is allowed."""
    most = None
    if target.name.lower() == CLASSES:
        most = MAX_NAMES_BYTES
    elif target.suffix.lower() == ".json":
        most = MAX_JSON_BYTES
    size = 0
    with archive.open(entry) as packed, target.open("xb") as file:
        while chunk := packed.read(CHUNK):
            size += len(chunk)
            if most is not None and size > most:
                raise DataError(
                    f"{left.name} contains {target.name} of more than {most // 2**20} MB. Remove "
                    "what is not needed."
                )
            left.take(len(chunk))
            file.write(chunk)
