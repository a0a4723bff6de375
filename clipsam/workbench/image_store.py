"""Images of all sessions on disk, so that they take no memory and never more than a set space."""

from __future__ import annotations

import shutil
import threading
import weakref
from collections import OrderedDict
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

import numpy as np

from ..data.images import ImageError
from ..encoded_image import EncodedImage

MAX_BYTES = 4 * 2**30
"""Bytes of all stored images; above it, those that were not used for longest are deleted."""

SPARE = 2**28
"""Bytes of the disk that are left free."""

GONE = "This image is no longer stored, because many others came. Load it again."


class ImageStore:
    """Images in files of a temporary folder, bounded over all sessions."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        """Start empty.

        Args:
            max_bytes: limit of all images.
        """
        self.max_bytes = max_bytes
        self._room = TemporaryDirectory(prefix="clipsam-images-", ignore_cleanup_errors=True)
        self._folder = Path(self._room.name)
        self._sizes: OrderedDict[int, int] = OrderedDict()
        self._held = 0
        self._numbers = count()
        self._lock = threading.RLock()

    @property
    def bytes(self) -> int:
        """Size of all stored images."""
        return self._held + sum(self._sizes.values())

    def keep(self, image: np.ndarray) -> EncodedImage:
        """Store an image, uint8 (H, W, 3), until nobody refers to it or others need its place.

        Raises:
            ImageError: there is no space.
        """
        with self._lock:
            self._make_room(image.nbytes)
            number = next(self._numbers)
            self._write(self._path(number), image)
            self._sizes[number] = image.nbytes
        stored = _Stored(self, number, image.shape)
        weakref.finalize(stored, self._drop, number)
        return _StoredImage(stored)

    def hold(self, values: np.ndarray) -> np.ndarray:
        """Return the same array on disk, for as long as somebody refers to it.

        Raises:
            ImageError: there is no space.
        """
        with self._lock:
            self._make_room(values.nbytes)
            try:
                with TemporaryFile(dir=self._folder) as file:  # without a name: nothing to delete
                    copy = np.memmap(file, values.dtype, "w+", shape=values.shape)
                    copy[...] = values
            except OSError as error:
                raise _unwritten(error) from None
            self._held += values.nbytes
        weakref.finalize(copy, self._release, values.nbytes)
        return copy

    def _read(self, number: int, shape: tuple[int, ...]) -> np.ndarray:
        with self._lock:
            if number not in self._sizes:
                raise ImageError(GONE)
            self._sizes.move_to_end(number)
            # Copied on writing, so that torch takes it without a warning; nobody writes.
            return np.memmap(self._path(number), np.uint8, "c", shape=shape)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.pixels"

    def _write(self, path: Path, image: np.ndarray) -> None:
        try:
            image.tofile(path)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise _unwritten(error) from None

    def _make_room(self, needed: int) -> None:
        """Delete the least recently used images until there is room.

        Raises:
            ImageError: there is not enough.
        """
        self._folder.mkdir(exist_ok=True)
        while self._sizes and self.bytes + needed > self.max_bytes:
            self._drop(next(iter(self._sizes)))
        free = shutil.disk_usage(self._folder).free
        if self.bytes + needed > self.max_bytes or free < needed + SPARE:
            raise ImageError("The server has no space for more images now. Try again later.")

    def _drop(self, number: int) -> None:
        with self._lock:
            if self._sizes.pop(number, None) is not None:
                self._path(number).unlink(missing_ok=True)

    def _release(self, size: int) -> None:
        with self._lock:
            self._held -= size


class _Stored:
    """A place in the store, shared by all copies of an encoded image."""

    def __init__(self, store: ImageStore, number: int, shape: tuple[int, ...]) -> None:
        self.store, self.number, self.shape = store, number, shape

    def __deepcopy__(self, _: object) -> _Stored:
        return self


class _StoredImage(EncodedImage):
    """An image whose pixels are mapped from the store whenever they are needed."""

    def __init__(self, stored: _Stored) -> None:
        super().__init__(np.zeros((1, 1, 3), np.uint8))
        self._stored = stored

    @property
    def image(self) -> np.ndarray:
        """The pixels, uint8 (H, W, 3), RGB.

        Raises:
            ImageError: they were deleted for others.
        """
        return self._stored.store._read(self._stored.number, self._stored.shape)

    def shows_same(self, other: EncodedImage) -> bool:
        """Return whether two images have the same pixels; those no longer stored have not."""
        if isinstance(other, _StoredImage) and other._stored is self._stored:
            return True
        try:
            return self.size == other.size and super().shows_same(other)
        except ImageError:
            return False

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), pixels."""
        height, width, _ = self._stored.shape
        return height, width


def _unwritten(error: OSError) -> ImageError:
    return ImageError(f"The image cannot be stored on the server ({error.strerror}).")
