"""Pictures for the page: the image as shown, mask layers, similarity maps. Knows no Gradio."""

from __future__ import annotations

import base64
import io
from functools import cache

import matplotlib
import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from ..types import PromptsUsed

SHOWN_SIDE = 1024
"""Long side, in pixels, above which a picture is made smaller to be shown."""

MAP_SIDE = 320
"""Long side of a drawn similarity map, pixels."""

CLASS_COLOURS = (
    "#e69f00",
    "#56b4e9",
    "#d62a7d",
    "#009e73",
    "#f0e442",
    "#8c6bd8",
    "#d55e00",
    "#1f6fd6",
    "#7ac74f",
    "#b07a4a",
)
"""One colour per class, in order; told apart by most colour-blind eyes."""


def class_colour(index: int) -> str:
    """Hex colour of the class at a place in the prompt."""
    return CLASS_COLOURS[index % len(CLASS_COLOURS)]


def fitted(size: tuple[int, int], side: int) -> tuple[int, int]:
    """(height, width) scaled so that the long side is ``side``, no side below one pixel."""
    scale = side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def shown_size(size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) at which an image of (height, width) is shown: never enlarged."""
    return size if max(size) <= SHOWN_SIDE else fitted(size, SHOWN_SIDE)


def shown_picture(image: np.ndarray) -> str:
    """The image as a data URI, no longer than :data:`SHOWN_SIDE`; lossless if not made smaller.

    Args:
        image: uint8 (H, W, 3).
    """
    height, width = shown_size(image.shape[:2])
    picture = Image.fromarray(image)
    if (width, height) == picture.size:
        return data_uri(picture)
    # reduce() averages whole blocks first: an 8000 × 6000 picture is small in 0.1 s, not 0.5 s.
    factor = max(1, min(picture.width // width, picture.height // height) // 2)
    picture = picture.reduce(factor).resize((width, height), Image.Resampling.BILINEAR)
    return data_uri(picture, "JPEG", quality=90)


def outline(mask: np.ndarray) -> np.ndarray:
    """The rim of a mask, inside it: bool (H, W) → bool (H, W)."""
    return mask & ~ndimage.binary_erosion(mask, iterations=_rim(mask.shape), border_value=1)


def borders(labels: np.ndarray) -> np.ndarray:
    """What of a label map (int (H, W), −1 for none) lies at an edge between classes; −1 elsewhere.

    As thick as an :func:`outline` on either side.
    """
    side = 1 + 2 * _rim(labels.shape)
    lowest, highest = ndimage.minimum_filter(labels, side), ndimage.maximum_filter(labels, side)
    return np.where(lowest == highest, -1, labels)


def layer(mask: np.ndarray, colour: str) -> str:
    """One colour where the mask is true, nothing elsewhere: bool (H, W) → PNG data URI."""
    picture = Image.fromarray(mask.astype(np.uint8), mode="P")
    picture.putpalette([0, 0, 0, *_rgb(colour)])
    return data_uri(picture, transparency=bytes([0, 255]), bits=1)


def label_layer(labels: np.ndarray) -> str:
    """Each pixel in its class's colour: int (H, W), −1 for none, which is clear → PNG data URI."""
    places = np.where(labels < 0, 0, 1 + labels % len(CLASS_COLOURS))
    picture = Image.fromarray(places.astype(np.uint8), mode="P")
    picture.putpalette([0, 0, 0, *(value for colour in CLASS_COLOURS for value in _rgb(colour))])
    alpha = bytes([0, *(255 for _ in CLASS_COLOURS)])
    return data_uri(picture, transparency=alpha, bits=4)


def cells(similarity: np.ndarray) -> str:
    """A map in viridis from its lowest to its highest value, a pixel per cell → PNG data URI."""
    return data_uri(Image.fromarray(_in_viridis(_scaled(similarity))))


def similarity_picture(
    similarity: np.ndarray, prompts: PromptsUsed, image_size: tuple[int, int]
) -> np.ndarray:
    """A similarity map in viridis from its lowest to its highest value, and what SAM was fed.

    Args:
        similarity: float (h, w), raw, over the whole image.
        prompts: points and box in pixels of the original image.
        image_size: (height, width) of the original image.

    Returns:
        uint8 (H, W, 3), as wide and high as the image, but with a long side of :data:`MAP_SIDE`.
    """
    height, width = fitted(image_size, MAP_SIDE)
    smooth = Image.fromarray(_scaled(similarity)).resize((width, height), Image.Resampling.BILINEAR)
    picture = Image.fromarray(_in_viridis(np.asarray(smooth)))
    scale = np.array([width / image_size[1], height / image_size[0]])
    _draw_prompts(ImageDraw.Draw(picture), prompts, scale)
    return np.asarray(picture)


def _draw_prompts(draw: ImageDraw.ImageDraw, prompts: PromptsUsed, scale: np.ndarray) -> None:
    for x0, y0, x1, y1 in prompts.boxes * np.tile(scale, 2):
        draw.rectangle((x0, y0, x1, y1), outline="black", width=4)
        draw.rectangle((x0 + 1, y0 + 1, x1 - 1, y1 - 1), outline="white", width=2)
    for (x, y), label in zip(prompts.points * scale, prompts.labels, strict=True):
        if label:
            draw.ellipse((x - 5, y - 5, x + 5, y + 5), fill="#ff3860", outline="white", width=2)
        else:
            for colour, stroke in (("white", 5), ("black", 2)):
                draw.line((x - 5, y - 5, x + 5, y + 5), fill=colour, width=stroke)
                draw.line((x - 5, y + 5, x + 5, y - 5), fill=colour, width=stroke)


def data_uri(picture: Image.Image, kind: str = "PNG", **options: object) -> str:
    """A picture as ``data:`` URI."""
    stream = io.BytesIO()
    # Level 1 is four times as fast as the default and a tenth larger.
    picture.save(stream, kind, **({"compress_level": 1} if kind == "PNG" else {}), **options)
    encoded = base64.b64encode(stream.getvalue()).decode()
    return f"data:image/{kind.lower()};base64,{encoded}"


def _rim(shape: tuple[int, ...]) -> int:
    """How thick an edge is drawn in a picture of (height, width), pixels."""
    return 2 if max(shape) >= 512 else 1


def _scaled(similarity: np.ndarray) -> np.ndarray:
    """float32, from 0, the lowest, to 1, the highest value; a constant map is 0."""
    low, high = float(similarity.min()), float(similarity.max())
    scaled = (similarity - low) / (high - low) if high > low else np.zeros_like(similarity)
    return scaled.astype(np.float32)


def _in_viridis(scaled: np.ndarray) -> np.ndarray:
    """float (H, W) in [0, 1] → uint8 (H, W, 3)."""
    return _viridis()[(scaled * 255).round().astype(np.uint8)]


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))


@cache
def _viridis() -> np.ndarray:
    """uint8 (256, 3)."""
    return (matplotlib.colormaps["viridis"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
