"""Collections of images to segment, which need no labels."""

from __future__ import annotations

import io
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import tee
from pathlib import Path, PurePosixPath
from typing import Any

from ..names import fold_name
from ..writing import printable
from .images import ImageError, Loaded, load_image
from .pairing import IMAGE_ENDINGS, FileIndex, is_litter
from .readers.coco_json import read_coco
from .readers.common import DataError

ROWS_AT_A_TIME = 16
"""Images of a table in memory."""


@dataclass(frozen=True)
class SourceImage:
    """An image of a collection.

    Attributes:
        key: a name that is unique in the collection and the same whenever it is read.
        path: where it is from, for people.
        read: reads its pixels, uint8 (H, W, 3), before the next image is asked for; raises
            :class:`.images.ImageError` for one that cannot be used.
    """

    key: str
    path: str
    read: Callable[[], Loaded]


@dataclass(frozen=True)
class ImageSource:
    """A collection of images.

    Attributes:
        images: begins to go through them, always in the same order.
        count: how many there are; ``None`` if that is not known before.
        coco_images: id of each image by its key, if the collection is COCO's.
        coco_categories: id of each category by its folded name, if the collection is COCO's.
    """

    images: Callable[[], Iterator[SourceImage]]
    count: int | None
    coco_images: Mapping[str, Any] | None = None
    coco_categories: Mapping[str, Any] = field(default_factory=dict)


def is_source(text: str) -> bool:
    """Return whether a text names a collection, not a single image."""
    kind, colon, _ = text.partition(":")
    return (bool(colon) and kind in SOURCES) or Path(text).expanduser().is_dir()


def open_source(text: str, out: Path) -> ImageSource:
    """Open a collection.

    Args:
        text: a folder, or ``KIND:PATH`` with one of :data:`SOURCES`.
        out: folder of results, which is not searched for images.

    Raises:
        DataError: it does not exist, is damaged, or holds no image.
    """
    kind, colon, path = text.partition(":")
    if colon and kind in SOURCES:
        return SOURCES[kind](Path(path).expanduser())
    folder = Path(text).expanduser()
    results = out.absolute()
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in IMAGE_ENDINGS
        and not is_litter(path.relative_to(folder))
        and results not in path.absolute().parents
        and path.is_file()
    ]
    if not found:
        raise DataError(f"{printable(folder)} holds no image")

    def images() -> Iterator[SourceImage]:
        for path in found:
            key = printable(path.relative_to(folder).as_posix())
            yield SourceImage(key, printable(path), partial(load_image, path))

    return ImageSource(images, len(found))


def _open_coco(path: Path) -> ImageSource:
    """Open the images of a COCO JSON.

    They lie beside it, in ``images/``, in ``../PART`` for ``…_PART.json``, or in either of these
    above it; the first of them that has the image.
    """
    content = read_coco(path)
    part = path.stem.rpartition("_")[2]
    bases = [folder for up in (path.parent, path.parent.parent) for folder in (up, up / "images")]
    folders = [FileIndex(folder) for folder in (*bases, path.parent.parent / part)]
    keys = list(_unique(image["file_name"] for image in content.images))
    if not keys:
        raise DataError(f"{path} lists no image")

    def images() -> Iterator[SourceImage]:
        for key, image in zip(keys, content.images, strict=True):
            places = (found for one in folders if (found := one.find(image["file_name"])))
            place = next(places, path.parent / image["file_name"])
            yield SourceImage(key, printable(place), partial(load_image, place))

    categories: dict[str, Any] = {}
    for number, value in content.values.items():
        if value >= 0:
            categories.setdefault(fold_name(content.names[value]), number)
    ids = dict(zip(keys, (image["id"] for image in content.images), strict=True))
    return ImageSource(images, len(keys), ids, categories)


def _open_parquet(path: Path) -> ImageSource:
    """Open the images of a Parquet file, or of all in a folder.

    The image is in a column of bytes, or of ``{bytes, path}`` as Hugging Face's data sets have it;
    the key in a column ``key``, otherwise it is the file and the number of the row.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = _files(path, (".parquet",))
    tables, counts = [], []
    for file in files:
        try:
            schema, metadata = pq.read_schema(file), pq.read_metadata(file)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{printable(file)} is not a Parquet file: {error}") from None
        columns = [one.name for one in schema if _holds_bytes(one.type)]
        if not columns:
            raise DataError(
                f"{printable(file)} has no column of image bytes; its columns are "
                f"{', '.join(schema.names)}"
            )
        column = next((name for name in ("image", "bytes") if name in columns), columns[0])
        tables.append((file, column, "key" in schema.names))
        counts.append(metadata.num_rows)

    def rows() -> Iterator[SourceImage]:
        for file, column, has_keys in tables:
            names = [column, "key"] if has_keys else [column]
            batches = pq.ParquetFile(file).iter_batches(ROWS_AT_A_TIME, columns=names)
            number = 0
            for batch in batches:
                for row in batch.to_pylist():
                    place = f"{printable(file.name)}/{number}"
                    key = str(row["key"]) if row.get("key") is not None else place
                    value = row[column]
                    content = value["bytes"] if isinstance(value, dict) else value
                    yield SourceImage(key, place, partial(_load, content, place))
                    number += 1

    return ImageSource(lambda: _with_unique_keys(rows()), sum(counts))


def _holds_bytes(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_struct(kind):
        return any(one.name == "bytes" and _holds_bytes(one.type) for one in kind)
    return types.is_binary(kind) or types.is_large_binary(kind)


def _open_webdataset(path: Path) -> ImageSource:
    """Open the images of a WebDataset: tar archives, one or all in a folder.

    A sample is the files that share a name up to its first dot; its image is the first one whose
    ending is an image's.
    """
    files = _files(path, (".tar", ".tar.gz", ".tgz"))

    def samples() -> Iterator[SourceImage]:
        for file in files:
            try:
                yield from _tar_images(file)
            except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
                name, reason = printable(file.name), str(error)
                yield SourceImage(name, name, partial(_damaged, name, reason))

    return ImageSource(lambda: _with_unique_keys(samples()), None)


def _tar_images(file: Path) -> Iterator[SourceImage]:
    name = printable(file.name)
    last = None
    with tarfile.open(file) as archive:
        for member in archive:
            path = PurePosixPath(printable(member.name))
            stem, dot, ending = path.name.partition(".")
            sample = (path.parent, stem)
            if not member.isfile() or is_litter(path) or sample == last:
                continue
            if (dot + ending).lower() not in IMAGE_ENDINGS:
                continue
            last = sample

            read = partial(_load_member, archive, member)
            yield SourceImage(f"{name}/{path.parent / stem}", f"{name}/{path}", read)


def _load_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Loaded:
    name = printable(member.name)
    try:
        opened = archive.extractfile(member)
        content = None if opened is None else opened.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise ImageError(f"{name} cannot be read from its archive: {error}") from None
    return _load(content, name)


def _damaged(name: str, reason: str) -> Loaded:
    raise ImageError(f"The archive {name} is damaged here, and the rest of it is missing: {reason}")


def _load(content: bytes | None, name: str) -> Loaded:
    if not content:
        raise ImageError(f"{name} has no bytes of an image.")
    stream = io.BytesIO(content)
    stream.name = name  # for messages
    return load_image(stream)


def _files(path: Path, endings: tuple[str, ...]) -> list[Path]:
    """Return the file, or those of a folder with one of the endings, sorted."""
    found = [path] if path.is_file() else []
    if path.is_dir():
        found = [one for one in sorted(path.iterdir()) if one.name.lower().endswith(endings)]
    if not found:
        raise DataError(f"{printable(path)} is no file and no folder of {' or '.join(endings)}")
    return found


def _unique(keys: Iterable[str]) -> Iterator[str]:
    """Yield keys, with numbers for those that occur again: ``a``, ``a (2)``."""
    seen: Counter[str] = Counter()
    for key in keys:
        unique = key
        while unique in seen:
            seen[key] += 1
            unique = f"{key} ({seen[key]})"
        seen[unique] = 1
        yield unique


def _with_unique_keys(images: Iterator[SourceImage]) -> Iterator[SourceImage]:
    here, for_keys = tee(images)
    for image, key in zip(here, _unique(one.key for one in for_keys), strict=True):
        yield replace(image, key=key)


SOURCES: dict[str, Callable[[Path], ImageSource]] = {
    "coco": _open_coco,
    "parquet": _open_parquet,
    "webdataset": _open_webdataset,
}
"""How a collection is opened by its kind, but for a folder, which has none."""
