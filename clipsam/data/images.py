"""Safe opening of uploaded images and masks, with errors in one sentence."""

from __future__ import annotations

import logging
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from ..errors import ClipsamError

MAX_PIXELS = 100_000_000
"""Pixel limit; the logits of larger images do not fit into a laptop's memory."""

STRIP_PIXELS = 4_000_000
"""Pixels converted at a time."""

FORMATS = (
    *("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "DIB", "GIF"),
    *("PPM", "JPEG2000", "AVIF"),
)
"""Formats that are opened, as Pillow names them; its readers of others are rarely tried."""


LOSSY = frozenset({"JPEG", "MPO", "JPEG2000"})
"""Formats, as Pillow names them, whose compression changes values."""

MAYBE_LOSSY = frozenset({"WEBP", "AVIF"})
"""Formats with and without such a compression; Pillow does not say which a file has."""

WEBP_HEAD = 4096
"""Bytes at the beginning of a WebP file, in which its frame is named unless a profile is longer."""

LOSSY_SPREAD = 8
"""Levels by which the channels of a grey picture may differ after compression."""

_ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")

logger = logging.getLogger(__name__)

ImageLike = str | Path | BinaryIO | Image.Image | np.ndarray
"""An image in the forms accepted by :func:`as_pixels`."""


class ImageError(ClipsamError):
    """An image or mask that cannot be used."""


@dataclass(frozen=True)
class Loaded:
    """What was read from a file.

    Attributes:
        values: pixels, ids or classes.
        note: one sentence on how they were read, where that needs saying; else empty.
        full_size: (height, width) of an image that was reduced while it was decoded; else ``None``.
    """

    values: np.ndarray
    note: str = ""
    full_size: tuple[int, int] | None = None


class _DecodingBudget:
    """Pixels that this process decodes at a time; who asks for more waits for the others."""

    def __init__(self, pixels: int) -> None:
        self._free = pixels
        self._changed = threading.Condition()

    @contextmanager
    def take(self, pixels: int) -> Iterator[None]:
        """Hold pixels, at most :data:`MAX_PIXELS`, during the block."""
        with self._changed:
            while pixels > self._free:
                self._changed.wait()
            self._free -= pixels
        try:
            yield
        finally:
            with self._changed:
                self._free += pixels
                self._changed.notify_all()


_decoding = _DecodingBudget(MAX_PIXELS)


def open_image(source: str | Path | BinaryIO, side: int | None = None) -> np.ndarray:
    """Read an image as :func:`load_image`, and log how, if that needs saying.

    Returns:
        uint8 (H, W, 3), RGB.
    """
    return _logged(load_image(source, side))


def load_image(source: str | Path | BinaryIO, side: int | None = None) -> Loaded:
    """Read an image in RGB with its orientation applied.

    EXIF rotation is applied, transparency becomes white, deeper grey is scaled to 8 bits by the
    range that it uses, CMYK and palettes become RGB, and of an animation the first frame is taken.

    Args:
        source: the file.
        side: if the caller reduces the image to this long side anyway, a JPEG is decoded at half,
            a quarter or an eighth of its size, as long as it stays larger.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        ImageError: not an image, incomplete, missing, or above :data:`MAX_PIXELS`.
    """
    with _loaded(source, side) as (picture, full):
        upright = _upright(picture)
        loaded = _to_rgb(upright, _name(source))
        if full == picture.size:
            return loaded
        turned = upright.size != picture.size
        return replace(loaded, full_size=full if turned else full[::-1])


def as_pixels(image: ImageLike) -> np.ndarray:
    """Return the pixels of an image in any accepted form.

    Args:
        image: what :func:`open_image` reads, a PIL image (treated alike), or the pixels.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        ImageError: as :func:`open_image`, or an array of another shape or type.
    """
    if isinstance(image, Image.Image):
        return _logged(_to_rgb(_upright(image)))
    if not isinstance(image, np.ndarray):
        return open_image(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ImageError(f"image must be uint8 (H, W, 3), got {image.dtype} {image.shape}")
    return image


def _to_rgb(picture: Image.Image, name: str = "The image") -> Loaded:
    """Convert an upright image to RGB, see :func:`load_image`."""
    if picture.mode.startswith(("I", "F")):
        grey = _to_eight_bits(np.asarray(picture), name)
        return Loaded(np.repeat(grey.values[..., None], 3, axis=2), grey.note)
    if picture.mode in _ALPHA_MODES or "transparency" in picture.info:
        return Loaded(_by_strips(picture, _on_white))
    return Loaded(_by_strips(picture, lambda strip: strip.convert("RGB")))


def _by_strips(picture: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """Convert an image to RGB strip by strip, since Pillow takes four bytes for each pixel."""
    width, height = picture.size
    rows = max(1, STRIP_PIXELS // width)
    if rows >= height:
        return np.array(convert(picture))
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        strip = picture.crop((0, top, width, min(top + rows, height)))
        strip.info = picture.info  # A crop has no transparent colour of its own.
        pixels[top : top + rows] = np.asarray(convert(strip))
    return pixels


def _on_white(picture: Image.Image) -> Image.Image:
    """Convert a transparent image to RGB over white."""
    picture = picture.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")


def open_mask(source: str | Path | BinaryIO) -> np.ndarray:
    """Read a mask as :func:`load_mask`, and log how, if that needs saying.

    Returns:
        int64 (H, W).
    """
    return _logged(load_mask(source))


def load_mask(source: str | Path | BinaryIO) -> Loaded:
    """Read the values of a mask: palette indices, grey levels or 16-bit ids, unchanged.

    EXIF rotation is applied. What cannot be ids becomes a binary mask of 0 and 255, cut in the
    middle: transparency over a single colour, a JPEG of black and white, fractions.

    Returns:
        int64 (H, W). What the values mean is for :mod:`.label_values` to say.

    Raises:
        ImageError: as :func:`open_image`, or a mask that is neither ids nor binary.
    """
    with _loaded(source) as (picture, _):
        webp = picture.format == "WEBP" and _is_lossy_webp(source)
        return _mask_values(picture, _name(source), webp or picture.format in LOSSY)


def _mask_values(picture: Image.Image, name: str, lossy: bool) -> Loaded:
    """Read an opened mask, see :func:`load_mask`."""
    picture_format = picture.format
    picture = _upright(picture)
    inside = _transparency_mask(picture, name)
    if inside is not None:
        return _binary(inside, f"The mask {name} was read from its transparency.")
    if picture.mode in _ALPHA_MODES:
        picture = picture.convert("RGB" if picture.mode in ("PA", "RGBA", "RGBa") else "L")
    if picture.mode == "RGB":
        grey, exact = _one_channel(picture, name, lossy or picture_format in MAYBE_LOSSY)
        picture, lossy = grey, lossy or not exact
    if picture.mode == "F":
        return _fractions(np.asarray(picture), name)
    if picture.mode not in ("1", "L", "P", "I") and not picture.mode.startswith("I;16"):
        raise ImageError(
            f"{name} has colour mode {picture.mode}. A mask must contain ids: one grey channel, a "
            "palette PNG, or 16-bit grey."
        )
    values = np.asarray(picture).astype(np.int64)
    return _black_or_white(values, name) if lossy else Loaded(values)


def load_binary_mask(source: str | Path | BinaryIO) -> Loaded:
    """Read a mask of one object whatever its values are: 1-bit, palette, grey or transparency.

    Returns:
        bool (H, W).

    Raises:
        ImageError: as :func:`open_image`.
    """
    with _loaded(source) as (picture, _):
        picture = _upright(picture)
        inside = _transparency_mask(picture, _name(source))
        if inside is None:
            grey = _to_rgb(picture).values[..., 0]
            inside = grey > (0 if grey.max() == 1 else 127)
        return Loaded(inside)


def size_rule(image: tuple[int, int], mask: tuple[int, int]) -> str:
    """Return the sentence that says what sizes must be, when those of image and mask differ."""
    if tuple(image) == mask[::-1]:
        return (
            "Both must have the same size; it seems that only one of them was turned, as an EXIF "
            "orientation does."
        )
    return "Both must have the same size."


def _transparency_mask(picture: Image.Image, name: str) -> np.ndarray | None:
    """Return where a picture of a single colour is opaque, bool (H, W).

    ``None`` if it has no transparency, or if what it hides is one grey level, as the background of
    a mask of ids.

    Raises:
        ImageError: the picture has several colours as well as transparency.
    """
    if picture.mode not in _ALPHA_MODES:
        return None
    alpha = np.asarray(picture.getchannel("A"))
    if alpha.min() == alpha.max():
        return None
    colours = np.asarray(picture.convert("RGBA"))[..., :3]
    seen = colours[alpha > alpha.max() // 2]  # Colours of faint pixels are rounding errors.
    if (seen == seen[0]).all():
        return alpha > 127
    hidden = colours[alpha == 0]
    grey = (colours == colours[..., :1]).all()
    if grey and ((alpha == 0) | (alpha == 255)).all() and (hidden == hidden[0]).all():
        return None
    raise ImageError(
        f"{name} has several colours as well as transparency. A mask must contain ids in one grey "
        "channel or a palette, or be a single colour with transparency around it."
    )


def _is_lossy_webp(source: str | Path | BinaryIO) -> bool:
    """Return whether a WebP file holds a lossy frame, by the name of its chunk."""
    if isinstance(source, str | Path):
        with Path(source).open("rb") as file:
            return b"VP8 " in file.read(WEBP_HEAD)
    place = source.tell()
    source.seek(0)
    head = source.read(WEBP_HEAD)
    source.seek(place)
    return b"VP8 " in head


def _one_channel(picture: Image.Image, name: str, compressed: bool) -> tuple[Image.Image, bool]:
    """Reduce a colour picture whose channels are equal to one of them.

    Returns:
        The channel, and whether the others are exactly equal.

    Raises:
        ImageError: the channels differ, by more than :data:`LOSSY_SPREAD` if it is compressed.
    """
    spread = int(np.ptp(np.asarray(picture), axis=2).max())
    if spread > (LOSSY_SPREAD if compressed else 0):
        raise ImageError(
            f"{name} is a colour image. A mask must contain ids: one grey channel, a palette PNG, "
            "or 16-bit grey."
        )
    return picture.getchannel("G"), not spread


def _black_or_white(values: np.ndarray, name: str) -> Loaded:
    """Cut a compressed mask, int (H, W) of 8-bit levels, in the middle.

    Raises:
        ImageError: it is not black and white.
    """
    middle = np.count_nonzero((values > 63) & (values < 192))
    if values.any() and (values.max() < 192 or 2 * middle > values.size):
        raise ImageError(
            f"{name} is compressed like a photograph, which changes ids. Save the mask as PNG."
        )
    note = (
        f"The mask {name} is compressed like a photograph, so it was read as black and white, cut "
        "in the middle."
    )
    return _binary(values > 127, note)


def _fractions(values: np.ndarray, name: str) -> Loaded:
    """Read a mask of floating-point numbers: whole numbers are ids, others a binary mask.

    Raises:
        ImageError: a number is not finite or outside 0..1 and 0..255.
    """
    finite = np.isfinite(values).all() and values.min() >= 0
    if finite and values.max() <= 65535 and (values == values.round()).all():
        return Loaded(values.astype(np.int64))
    if not finite or values.max() > 255:
        raise ImageError(
            f"{name} holds floating-point numbers. A mask must contain ids (whole numbers from 0), "
            "or fractions from 0 to 1."
        )
    top = 1.0 if values.max() <= 1 else 255.0
    note = f"The mask {name} holds fractions, so it was read as binary, cut at {top / 2:g}."
    return _binary(values > top / 2, note)


def _binary(inside: np.ndarray, note: str) -> Loaded:
    return Loaded(np.where(inside, 255, 0).astype(np.int64), note)


def _upright(picture: Image.Image) -> Image.Image:
    """Apply EXIF rotation; a damaged EXIF block says nothing."""
    try:
        if picture.getexif().get(ExifTags.Base.Orientation, 1) == 1:
            return picture  # The other function would copy it.
        return ImageOps.exif_transpose(picture)
    except Exception:  # Pillow does not document what a damaged block raises.
        return picture


def _logged(loaded: Loaded) -> np.ndarray:
    if loaded.note:
        logger.warning(loaded.note)
    return loaded.values


@contextmanager
def _loaded(
    source: str | Path | BinaryIO, side: int | None = None
) -> Iterator[tuple[Image.Image, tuple[int, int]]]:
    """Decode an image, within the budget of pixels while it is in use.

    Yields:
        The image, and the (width, height) that it has in its file.
    """
    picture, full = _open(source, side)
    width, height = picture.size
    with _decoding.take(width * height):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                picture.load()
        except Exception as error:  # Pillow's readers raise anything at damaged files.
            raise _damaged(source, error) from None
        yield picture, full


def _open(source: str | Path | BinaryIO, side: int | None) -> tuple[Image.Image, tuple[int, int]]:
    """Read the header of an image: the image, and its (width, height) before any reduction.

    Raises:
        ImageError: it is none, is missing, or has too many pixels.
    """
    name = _name(source)
    try:
        if isinstance(source, str | Path) and not stat.S_ISREG(Path(source).stat().st_mode):
            kind = "a folder" if Path(source).is_dir() else "no regular file"
            raise ImageError(f"{name} is {kind}, expected an image.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.init()  # Pillow may have been built without some.
            formats = [name for name in FORMATS if name in Image.OPEN]
            picture = Image.open(source, formats=formats)
        full = picture.size
        if side is not None and picture.format in ("JPEG", "MPO"):
            picture.draft(None, (side, side))
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{name} does not exist.") from None
    except Image.DecompressionBombError:
        raise ImageError(
            f"{name} has more pixels than the limit of {MAX_PIXELS // 1_000_000} million. Reduce "
            "its size first."
        ) from None
    except UnidentifiedImageError:
        raise ImageError(
            f"{name} is not a supported image (PNG, JPEG, WebP, TIFF, BMP, GIF, PPM, JPEG 2000, "
            "AVIF)."
        ) from None
    except Exception as error:  # Pillow's readers raise anything at damaged files.
        raise _damaged(source, error) from None
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name} has {width} × {height} pixels, more than the limit of "
            f"{MAX_PIXELS // 1_000_000} million. Reduce its size first."
        )
    if not width * height:
        raise ImageError(f"{name} has no pixels.")
    return picture, full


def _damaged(source: str | Path | BinaryIO, error: Exception) -> ImageError:
    """Explain in one sentence why an image cannot be decoded."""
    name = _name(source)
    if isinstance(error, MemoryError):
        return ImageError(f"{name} does not fit into memory. Reduce its size first.")
    if isinstance(error, OSError) and error.strerror:
        return ImageError(f"{name} cannot be read ({error.strerror}).")
    said = " ".join(str(error).split())[:200].rstrip(".")
    told = isinstance(error, OSError | SyntaxError | ValueError) and said
    return ImageError(f"{name} is damaged or incomplete{f': {said}' if told else ''}.")


def _name(source: str | Path | BinaryIO) -> str:
    name = source if isinstance(source, (str, Path)) else getattr(source, "name", "the upload")
    return Path(str(name)).name


GREY_BITS = (8, 10, 12, 14, 16)
"""Depths of grey levels that cameras and scanners write into 16 or 32 bits."""


def _to_eight_bits(values: np.ndarray, name: str) -> Loaded:
    """Convert deep grey levels to uint8 by the range that they use, and say which, unless plain.

    Plain are 8 bits, and 16 bits that are used in full. NaN becomes 0.
    """
    whole = np.issubdtype(values.dtype, np.integer)
    values = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = values.min(), values.max()
    bits = next((bits for bits in GREY_BITS if low >= 0 and high <= 2**bits - 1), None)
    if not whole and low >= 0 and high <= 1:
        scaled, used = values * 255, "0 to 1"
    elif bits is not None:
        scaled = values * (255 / (2**bits - 1))
        used = "" if bits in (8, 16) else f"0 to {2**bits - 1:,} ({bits} bits)"
    else:
        scaled, used = (values - low) / ((high - low) or 1.0) * 255, f"{low:g} to {high:g}"
    note = f"{name} was scaled to 8 bits from the range {used}." if used else ""
    return Loaded(scaled.round().astype(np.uint8), note)
