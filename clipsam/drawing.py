"""Drawing without Gradio: images for display, mask overlays, similarity maps."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from functools import cache

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy import ndimage

from .geometry import SquareTransform
from .types import SamPrompts

DISPLAY_SIDE = 1024
"""Long side above which an image is reduced for display, pixels."""

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
"""One colour per class, in order; distinguishable with most colour vision deficiencies."""


DENSE_COLOUR = "#f0e442"
"""Colour of the outline of a dense prompt, on black."""


def class_colour(index: int) -> str:
    """Return the hex colour of a class by index."""
    return CLASS_COLOURS[index % len(CLASS_COLOURS)]


def fit_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Scale (height, width) so that the long side is ``side`` and no side is below one pixel."""
    scale = side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def display_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the (height, width) at which an image is displayed, never enlarged."""
    return size if max(size) <= DISPLAY_SIDE else fit_size(size, DISPLAY_SIDE)


def display_uri(image: np.ndarray) -> str:
    """Encode an image as a data URI, no longer than :data:`DISPLAY_SIDE`; lossless if not reduced.

    Args:
        image: uint8 (H, W, 3).
    """
    picture = _shown(image)
    if picture.size == image.shape[1::-1]:
        return data_uri(picture)
    return data_uri(picture, "JPEG", quality=90)


def display_pixels(image: np.ndarray) -> np.ndarray:
    """Reduce an image for display: uint8 (H, W, 3) → uint8 (h, w, 3)."""
    return np.asarray(_shown(image))


def _shown(image: np.ndarray) -> Image.Image:
    height, width = display_size(image.shape[:2])
    picture = Image.fromarray(image)
    if (width, height) == picture.size:
        return picture
    # reduce() averages whole blocks first: an 8000 × 6000 picture is small in 0.1 s, not 0.5 s.
    factor = max(1, min(picture.width // width, picture.height // height) // 2)
    return picture.reduce(factor).resize((width, height), Image.Resampling.BILINEAR)


def outline(mask: np.ndarray) -> np.ndarray:
    """Return the inner outline of a mask: bool (H, W) → bool (H, W)."""
    return mask & ~ndimage.binary_erosion(mask, iterations=_rim(mask.shape), border_value=1)


def borders(labels: np.ndarray) -> np.ndarray:
    """Keep the borders between classes of a label map, int (H, W), and set the rest to −1.

    The borders are as thick as an :func:`outline` on either side.
    """
    side = 1 + 2 * _rim(labels.shape)
    lowest, highest = ndimage.minimum_filter(labels, side), ndimage.maximum_filter(labels, side)
    return np.where(lowest == highest, -1, labels)


def nearest(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a mask with nearest neighbours: bool (H, W) → (h, w)."""
    if mask.shape == size:
        return mask
    rows, columns = (
        (2 * np.arange(after) + 1) * before // (2 * after)
        for before, after in zip(mask.shape, size, strict=True)
    )
    return mask[rows[:, None], columns]


def overlay_masks(shown: np.ndarray, masks: Iterable[np.ndarray]) -> np.ndarray:
    """Overlay masks and their outlines in the classes' colours, as the page does.

    Args:
        shown: uint8 (h, w, 3).
        masks: bool (h, w) of each class, in order.

    Returns:
        uint8 (h, w, 3).
    """
    picture = shown.astype(np.float32)
    rims = []
    for index, mask in enumerate(masks):
        colour = rgb(class_colour(index))
        picture[mask] = (picture[mask] + colour) / 2
        rims.append((outline(mask), colour))
    for rim, colour in rims:
        picture[rim] = colour
    return picture.round().astype(np.uint8)


def mask_layer(mask: np.ndarray, colour: str) -> str:
    """Encode a mask, bool (H, W), in one colour on transparency as a PNG data URI."""
    picture = Image.fromarray(mask.astype(np.uint8), mode="P")
    picture.putpalette([0, 0, 0, *rgb(colour)])
    return data_uri(picture, transparency=bytes([0, 255]), bits=1)


def label_map_layer(labels: np.ndarray) -> str:
    """Encode a label map, int (H, W), in the classes' colours as a PNG data URI; −1 is clear."""
    places = np.where(labels < 0, 0, 1 + labels % len(CLASS_COLOURS))
    picture = Image.fromarray(places.astype(np.uint8), mode="P")
    picture.putpalette([0, 0, 0, *(value for colour in CLASS_COLOURS for value in rgb(colour))])
    alpha = bytes([0, *(255 for _ in CLASS_COLOURS)])
    return data_uri(picture, transparency=alpha, bits=4)


def mask_picture(mask: np.ndarray) -> np.ndarray:
    """Draw a mask in white on black: bool (H, W) → uint8 (H, W)."""
    return mask.astype(np.uint8) * 255


def heat_picture(logits: np.ndarray, threshold: float) -> np.ndarray:
    """Colour logits from blue (below the threshold) over white (at it) to red (above it).

    Blue and red are equally deep at the same distance from the threshold, and deepest at
    :func:`heat_reach`.

    Args:
        logits: float (h, w).
        threshold: of the mask.

    Returns:
        uint8 (h, w, 3).
    """
    scale = 127.5 / heat_reach(logits, threshold)
    places = logits * np.float32(scale)
    places += np.float32(128 - threshold * scale)  # Rounded by being cut off.
    return apply_palette(_diverging(), places.clip(0, 255).astype(np.uint8))


def heat_reach(logits: np.ndarray, threshold: float) -> float:
    """Return the largest distance of the logits, float (h, w), from the threshold; never 0."""
    return max(float(logits.max()) - threshold, threshold - float(logits.min())) or 1.0


def heat_colours(count: int) -> list[str]:
    """Return evenly spaced hex colours of :func:`heat_picture`, lowest first."""
    places = np.linspace(0, 255, count).round().astype(int)
    return [f"#{bytes(colour).hex()}" for colour in _diverging()[places]]


def apply_palette(table: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Look up a colour per pixel: uint8 (N, 3) and int (h, w), index into it → uint8 (h, w, 3)."""
    # As one number of four bytes: NumPy is slower to look up three bytes.
    numbers = np.pad(table, ((0, 0), (0, 1))).view(np.uint32)[:, 0]
    return np.ascontiguousarray(numbers[places].view(np.uint8).reshape(*places.shape, 4)[..., :3])


def cells(similarity: np.ndarray) -> str:
    """Encode a map in viridis, scaled to its range, one pixel per cell, as a PNG data URI."""
    return data_uri(Image.fromarray(_in_viridis(_scaled(similarity))))


def similarity_picture(
    similarity: np.ndarray, prompts: SamPrompts, image_size: tuple[int, int]
) -> np.ndarray:
    """Draw a similarity map in viridis, scaled to its range, with the SAM prompts.

    Args:
        similarity: float (h, w), raw, over the whole image.
        prompts: points and box in pixels of the original image.
        image_size: (height, width) of the original image.

    Returns:
        uint8 (H, W, 3), as wide and high as the image, but with a long side of :data:`MAP_SIDE`.
    """
    height, width = fit_size(image_size, MAP_SIDE)
    smooth = Image.fromarray(_scaled(similarity)).resize((width, height), Image.Resampling.BILINEAR)
    picture = Image.fromarray(_in_viridis(np.asarray(smooth)))
    scale = np.array([width / image_size[1], height / image_size[0]])
    _draw_prompts(ImageDraw.Draw(picture), prompts, scale)
    return np.asarray(picture)


def prompts_picture(
    shown: np.ndarray, prompts: SamPrompts, transform: SquareTransform
) -> np.ndarray:
    """Draw the SAM prompts over an image: points, boxes, and the dense prompt's outline in yellow.

    Args:
        shown: uint8 (h, w, 3), the image at any size.
        prompts: points and boxes in pixels of the original image, dense prompt over the square.
        transform: how the image lies in that square.

    Returns:
        uint8 (h, w, 3).
    """
    height, width = shown.shape[:2]
    pixels = shown.copy()
    if prompts.dense is not None:
        cover = torch.from_numpy(prompts.dense.astype(np.float32))[None, None]
        edge = outline(transform.to_image(cover, (height, width))[0, 0].numpy() > 0.5)
        pixels[ndimage.binary_dilation(edge, iterations=_rim(edge.shape))] = 0
        pixels[edge] = rgb(DENSE_COLOUR)
    picture = Image.fromarray(pixels)
    scale = np.array([width, height]) / transform.image_size[::-1]
    _draw_prompts(ImageDraw.Draw(picture), prompts, scale, radius=max(5, max(width, height) // 90))
    return np.asarray(picture)


def _draw_prompts(
    draw: ImageDraw.ImageDraw, prompts: SamPrompts, scale: np.ndarray, radius: int = 5
) -> None:
    """Draw a disc per foreground point, a cross per background point, a rectangle per box."""
    for x0, y0, x1, y1 in prompts.boxes * np.tile(scale, 2):
        draw.rectangle((x0, y0, x1, y1), outline="black", width=4)
        draw.rectangle((x0 + 1, y0 + 1, x1 - 1, y1 - 1), outline="white", width=2)
    for (x, y), label in zip(prompts.points * scale, prompts.labels, strict=True):
        around = (x - radius, y - radius, x + radius, y + radius)
        if label:
            draw.ellipse(around, fill="#ff3860", outline="white", width=2)
        else:
            for colour, stroke in (("white", radius), ("black", radius * 2 // 5)):
                draw.line(around, fill=colour, width=stroke)
                draw.line((x - radius, y + radius, x + radius, y - radius), colour, stroke)


def data_uri(picture: Image.Image, kind: str = "PNG", **options: object) -> str:
    """Encode an image as a data URI."""
    stream = io.BytesIO()
    # Level 1 is four times as fast as the default and a tenth larger.
    picture.save(stream, kind, **({"compress_level": 1} if kind == "PNG" else {}), **options)
    encoded = base64.b64encode(stream.getvalue()).decode()
    return f"data:image/{kind.lower()};base64,{encoded}"


def _rim(shape: tuple[int, ...]) -> int:
    """Return the line width for an image of (height, width), pixels."""
    return 2 if max(shape) >= 512 else 1


def _scaled(similarity: np.ndarray) -> np.ndarray:
    """Scale values to 0..1, float32; a constant map becomes 0."""
    low, high = float(similarity.min()), float(similarity.max())
    scaled = (similarity - low) / (high - low) if high > low else np.zeros_like(similarity)
    return scaled.astype(np.float32)


def _in_viridis(scaled: np.ndarray) -> np.ndarray:
    """Colour values in viridis: float (H, W) in [0, 1] → uint8 (H, W, 3)."""
    return _viridis()[(scaled * 255).round().astype(np.uint8)]


def rgb(colour: str) -> tuple[int, ...]:
    """Convert a hex colour to red, green and blue, 0 to 255."""
    return tuple(bytes.fromhex(colour[1:]))


def _viridis() -> np.ndarray:
    """Return viridis: uint8 (256, 3)."""
    return _colours("viridis")


def _diverging() -> np.ndarray:
    """Return a diverging colour map, blue to white to red: uint8 (256, 3)."""
    return _colours("RdBu_r")


@cache
def _colours(name: str) -> np.ndarray:
    """Return a colour map of matplotlib: uint8 (256, 3)."""
    return (matplotlib.colormaps[name](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
