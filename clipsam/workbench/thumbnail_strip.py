"""A row of thumbnails to click."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image, ImageOps

from .. import drawing

SIDE = 144
"""Side of a thumbnail, pixels."""

CURRENT = " aria-current='true'"


@dataclass(frozen=True)
class Thumbnail:
    """One thumbnail.

    Attributes:
        image: uint8 (H, W, 3).
        title: below it.
        hint: tooltip.
        is_current: whether it is the one shown.
    """

    image: np.ndarray
    title: str
    hint: str
    is_current: bool = False


def strip(heading: str, items: Iterable[Thumbnail], elem_id: str, **settings: Any) -> gr.HTML:
    """Build the row; its ``click`` event carries ``index``.

    Args:
        heading: above it.
        items: the thumbnails.
        elem_id: of the component.
        settings: others of ``gr.HTML``.
    """
    return gr.HTML(
        strip_html(heading, items),
        js_on_load="""
            element.onclick = (event) => {
              const button = event.target.closest("button");
              if (button) trigger("click", { index: Number(button.dataset.index) });
            };
        """,
        apply_default_css=False,
        elem_id=elem_id,
        elem_classes="strip",
        **settings,
    )


def strip_html(heading: str, items: Iterable[Thumbnail]) -> str:
    """Format the content of the row, for an update."""
    buttons = "".join(
        f"<button type='button' data-index='{index}' title='{escape(item.hint)}'"
        f"{CURRENT if item.is_current else ''}>"
        f"<img src='{_uri(item.image)}' alt=''><span>{escape(item.title)}</span></button>"
        for index, item in enumerate(items)
    )
    return f"<p>{escape(heading)}</p><div class='row'>{buttons}</div>"


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Crop and reduce an image to a thumbnail: uint8 (H, W, 3) → uint8 (SIDE, SIDE, 3)."""
    return np.asarray(ImageOps.fit(Image.fromarray(drawing.display_pixels(image)), (SIDE, SIDE)))


def _uri(image: np.ndarray) -> str:
    return drawing.data_uri(Image.fromarray(thumbnail(image)), "JPEG", quality=85)
