"""Safe opening of uploaded images and masks, with errors in one sentence."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import ClipsamError

MAX_PIXELS = 100_000_000
"""Pixel limit; the logits of larger images do not fit into a laptop's memory."""


ImageLike = str | Path | BinaryIO | Image.Image | np.ndarray
"""An image in the forms accepted by :func:`as_pixels`."""


class ImageError(ClipsamError):
    """An image or mask that cannot be used."""


def open_image(source: str | Path | BinaryIO) -> np.ndarray:
    """Read an image in RGB with its orientation applied.

    EXIF rotation is applied, transparency becomes white, 16-bit grey is scaled to 8 bits,
    CMYK and palettes become RGB, and of an animation the first frame is taken.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        ImageError: not an image, incomplete, missing, or above :data:`MAX_PIXELS`.
    """
    return _to_rgb(_load(source))


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
        return _to_rgb(image)
    if not isinstance(image, np.ndarray):
        return open_image(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ImageError(f"image must be uint8 (H, W, 3), got {image.dtype} {image.shape}")
    return image


def _to_rgb(picture: Image.Image) -> np.ndarray:
    """Convert an opened image to RGB, see :func:`open_image`."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith(("I", "F")):
        return np.repeat(_to_eight_bits(np.asarray(picture))[..., None], 3, axis=2)
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return np.array(picture.convert("RGB"))


def open_mask(source: str | Path | BinaryIO) -> np.ndarray:
    """Read a mask without changing its values: palette indices, grey levels or 16-bit ids.

    Returns:
        int64 (H, W). A colour image is accepted only if all its pixels are grey.

    Raises:
        ImageError: as :func:`open_image`, or a mask whose colours carry the labels.
    """
    picture = _load(source)
    if picture.mode in ("RGB", "RGBA"):
        channels = np.asarray(picture.convert("RGB"))
        if (channels != channels[..., :1]).any():
            raise ImageError(
                f"{_name(source)} is a colour image. A mask must contain ids: one grey channel, a "
                "palette PNG, or 16-bit grey."
            )
        return channels[..., 0].astype(np.int64)
    if picture.mode == "LA":
        picture = picture.convert("L")
    if picture.mode not in ("1", "L", "P", "I") and not picture.mode.startswith("I;16"):
        raise ImageError(
            f"{_name(source)} has colour mode {picture.mode}. A mask must contain ids: one grey "
            "channel, a palette PNG, or 16-bit grey."
        )
    return np.asarray(picture).astype(np.int64)


def _load(source: str | Path | BinaryIO) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(source)
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise ImageError(
                    f"{_name(source)} has {width} × {height} pixels, more than the limit of "
                    f"{MAX_PIXELS // 1_000_000} million. Reduce its size first."
                )
            picture.load()
    except FileNotFoundError:
        raise ImageError(f"{_name(source)} does not exist.") from None
    except IsADirectoryError:
        raise ImageError(f"{_name(source)} is a folder, expected an image.") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{_name(source)} has too many pixels. Reduce its size first.") from None
    except UnidentifiedImageError:
        raise ImageError(
            f"{_name(source)} is not a supported image (PNG, JPEG, WebP, TIFF, BMP, GIF)."
        ) from None
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{_name(source)} is damaged or incomplete: {error}.") from None
    return picture


def _name(source: str | Path | BinaryIO) -> str:
    name = source if isinstance(source, (str, Path)) else getattr(source, "name", "the upload")
    return Path(str(name)).name


def _to_eight_bits(values: np.ndarray) -> np.ndarray:
    """Convert 16-bit or 32-bit grey levels to uint8, by the range of the format or of the image.

    NaN becomes 0.
    """
    values = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = values.min(), values.max()
    if low >= 0 and high <= 255:
        scaled = values
    elif low >= 0 and high <= 65535:
        scaled = values / 257
    else:
        scaled = (values - low) / ((high - low) or 1.0) * 255
    return scaled.round().astype(np.uint8)
