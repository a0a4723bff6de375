"""Safe unpacking of an untrusted zip."""

from __future__ import annotations

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from ...data.pairing import is_litter
from ...data.readers import DataError

MAX_FILES = 20_000
"""Files in one zip."""

MAX_BYTES = 2 * 2**30
"""Bytes of all files of a zip, unpacked."""

MAX_JSON_BYTES = 100 * 2**20
"""Bytes of a JSON, which is read into memory as a whole."""

CHUNK = 2**20


def unpack(path: Path, folder: Path) -> None:
    """Unpack a zip without trusting the sizes that it declares.

    Args:
        path: the zip.
        folder: an empty one.

    Raises:
        DataError: not a zip, damaged, empty, too large, or with anything but plain files.
    """
    name = path.name
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not _is_litter(entry)]
            if not entries:
                raise DataError(f"{name} is empty, expected a folder with files.")
            if len(entries) > MAX_FILES:
                raise DataError(
                    f"{name} contains {len(entries):,} files, more than the limit of {MAX_FILES:,}."
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
            raise DataError(f"{name} is not a zip archive, expected a .zip file.") from None
        raise DataError(f"{name} is a damaged zip ({error}). Create it again.") from None
    except FileExistsError as error:
        twice = Path(error.filename).relative_to(folder)
        raise DataError(f"{name} contains “{twice}” twice. Remove one of them.") from None
    except OSError as error:
        raise DataError(f"{name} cannot be unpacked ({error.strerror}).") from None


def _is_litter(entry: zipfile.ZipInfo) -> bool:
    """Return whether an entry is empty, hidden, or something that an operating system left."""
    path = PurePosixPath(entry.filename.replace("\\", "/"))
    return not path.parts or is_litter(path)


def _inside(entry: zipfile.ZipInfo, name: str) -> PurePosixPath:
    """Return the path of an entry relative to the target folder."""
    path = PurePosixPath(entry.filename.replace("\\", "/"))
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
                    f"{name} contains {target.name} of more than {MAX_JSON_BYTES // 2**20} MB. "
                    "Remove images that are not needed."
                )
            if size > left:
                raise DataError(
                    f"{name} is larger than {MAX_BYTES // 2**30} GB when unpacked. Remove images "
                    "that are not needed."
                )
            file.write(chunk)
    return size
