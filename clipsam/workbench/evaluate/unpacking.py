"""Unpacking a zip that a stranger made."""

from __future__ import annotations

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from ...data.readers import DataError

MAX_FILES = 20_000
"""In one zip."""

MAX_BYTES = 2 * 2**30
"""Of all files of a zip, unpacked."""

MAX_JSON_BYTES = 100 * 2**20
"""Of a JSON, which is read into memory as a whole."""

CHUNK = 2**20


def unpack(path: Path, folder: Path) -> None:
    """Unpack a zip, believing nothing that it says of its sizes.

    Args:
        path: the zip.
        folder: an empty one.

    Raises:
        DataError: not a zip, damaged, empty, too large, or with anything but plain files below it.
    """
    name = path.name
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not _is_litter(entry)]
            if not entries:
                raise DataError(f"{name} is empty: pack a folder with files in it.")
            if len(entries) > MAX_FILES:
                raise DataError(
                    f"{name} holds {len(entries):,} files, more than {MAX_FILES:,}: leave some out."
                )
            left = MAX_BYTES
            for entry in entries:
                target = folder / _inside(entry, name)
                if entry.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                left -= _unpack_one(archive, entry, target, left, name)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        if not zipfile.is_zipfile(path):
            raise DataError(f"{name} is not a zip archive: upload a .zip.") from None
        raise DataError(f"{name} is a damaged zip ({error}): pack it again.") from None
    except FileExistsError as error:
        twice = Path(error.filename).relative_to(folder)
        raise DataError(f"{name} holds “{twice}” twice: leave one out.") from None
    except OSError as error:
        raise DataError(f"{name} cannot be unpacked here ({error.strerror}).") from None


def _is_litter(entry: zipfile.ZipInfo) -> bool:
    """Whether it is what macOS adds, or nothing."""
    parts = PurePosixPath(entry.filename).parts
    return not parts or "__MACOSX" in parts or parts[-1].startswith("._") or ".DS_Store" in parts


def _inside(entry: zipfile.ZipInfo, name: str) -> PurePosixPath:
    """Where an entry belongs, relative to the folder that it is unpacked into."""
    path = PurePosixPath(entry.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise DataError(
            f"{name} holds “{entry.filename}”, a path that leads out of the zip: pack a folder, so "
            "that every path lies below it."
        )
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DataError(f"{name} holds “{path}” as a link: pack the file that it leads to.")
    if entry.flag_bits & 1:
        raise DataError(f"{name} is locked with a password: pack it without one.")
    # All others may unpack any amount at once.
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{name} is compressed in an unusual way: pack it with “deflate”.")
    return path


def _unpack_one(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, left: int, name: str
) -> int:
    """Unpack a file of at most ``left`` bytes; returns its size."""
    is_json = target.suffix.lower() == ".json"
    size = 0
    with archive.open(entry) as packed, target.open("xb") as file:
        while chunk := packed.read(CHUNK):
            size += len(chunk)
            if is_json and size > MAX_JSON_BYTES:
                raise DataError(
                    f"{name} holds {target.name} of more than {MAX_JSON_BYTES // 2**20} MB: leave "
                    "out images that are not measured."
                )
            if size > left:
                raise DataError(
                    f"{name} unpacks to more than {MAX_BYTES // 2**30} GB: leave out images that "
                    "are not measured."
                )
            file.write(chunk)
    return size
