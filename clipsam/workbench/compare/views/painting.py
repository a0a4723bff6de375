"""Images of few colours, each with a meaning, over the greyscale image.

They are redrawn at every step of a slider, so they are painted by table lookup and sent as a layer
of few colours over the image that the browser already has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from PIL import Image

from ....drawing import apply_palette, data_uri, rgb

GREY_FROM = 155
"""Grey value that replaces black, so that dark colours stand out."""

STRENGTH = 0.75
"""Opacity of a colour over the greyscale image."""


@dataclass(frozen=True)
class Part:
    """Meaning of one colour.

    Attributes:
        name: display name.
        colour: hex; ``None`` leaves the image as it is.
        share: share of the image's pixels, 0 to 1.
    """

    name: str
    colour: str | None
    share: float


@dataclass(frozen=True)
class Painting:
    """A colour for every pixel.

    Attributes:
        places: uint8 (h, w), index into ``parts``.
        parts: in the order of the legend.
    """

    places: np.ndarray
    parts: tuple[Part, ...]

    def over(self, grey: np.ndarray) -> np.ndarray:
        """Draw over a greyscale image: uint8 (h, w), see :func:`greyed` → uint8 (h, w, 3)."""
        # Few colours on 256 greys: looked up, not mixed for every pixel.
        shades = np.tile(np.arange(256)[:, None], 3)
        mixed = [
            shades
            if part.colour is None
            else shades * (1 - STRENGTH) + STRENGTH * np.array(rgb(part.colour))
            for part in self.parts
        ]
        table = np.concatenate(mixed).round().astype(np.uint8)
        return apply_palette(table, self.places.astype(np.uint16) * 256 + grey)

    def mask_layer(self) -> str:
        """Encode the colours alone, transparent elsewhere, as a PNG data URI."""
        picture = Image.fromarray(self.places, mode="P")
        colours = [part.colour for part in self.parts]
        picture.putpalette([value for colour in colours for value in rgb(colour or "#000000")])
        alpha = bytes(0 if colour is None else round(255 * STRENGTH) for colour in colours)
        return data_uri(picture, transparency=alpha)

    def legend(self) -> str:
        """Format the legend, a line per colour."""
        lines = ""
        for part in self.parts:
            style = "" if part.colour is None else f" style='--c:{part.colour}'"
            lines += (
                f"<li{style}><i></i><b>{escape(part.name)}</b> "
                f"<span>area {percent(part.share)}</span></li>"
            )
        return f"<ul class='legend'>{lines}</ul>"


def counted(places: np.ndarray, kinds: Sequence[tuple[str, str | None]]) -> Painting:
    """Build a painting with the area share of each colour.

    Args:
        places: uint8 (h, w), index into ``kinds``.
        kinds: name and colour of each, in the order of the legend.
    """
    # Pillow is faster at counting bytes than NumPy.
    counts = Image.fromarray(places).histogram()
    parts = (Part(*kind, counts[index] / places.size) for index, kind in enumerate(kinds))
    return Painting(places, tuple(parts))


def greyed(image: np.ndarray) -> np.ndarray:
    """Convert to pale greyscale as a background: uint8 (h, w, 3) → uint8 (h, w)."""
    table = np.linspace(GREY_FROM, 255, 256).round().astype(int).tolist()
    return np.asarray(Image.fromarray(image).convert("L").point(table))


def percent(share: float) -> str:
    """Format a share from 0 to 1 as a percentage."""
    if share == 0:
        return "0 %"
    return f"{100 * share:.1f} %" if share >= 0.001 else "< 0.1 %"
