"""Pictures to start with: drawn scenes, whose truth is known, and photographs that Gradio ships."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

import gradio as gr
import numpy as np
from PIL import Image, ImageOps

from ..data.images import open_image
from ..data.samples import BACKGROUND, LabelledImage
from ..data.scenes import SceneData
from . import drawing
from .session import TruthFile

SEED = 7
"""Below 20, where the seeds of the training scenes begin: no example was trained on."""

THUMBNAIL_SIDE = 144


@dataclass(frozen=True)
class Example:
    """One picture to start with.

    Attributes:
        title: as shown.
        image: uint8 (H, W, 3).
        classes: as one would type them.
        truth: what is really there, if known.
    """

    title: str
    image: np.ndarray
    classes: str
    truth: TruthFile | None = None


def all_examples() -> list[Example]:
    """Examples, drawn scenes first; photographs that this Gradio does not ship are left out."""
    seen, unseen = SceneData(12, SEED), SceneData(12, SEED, pairs="unseen")
    hidden = SceneData(12, SEED, mode="camouflage")
    return [
        _scene("Pairs never trained on", unseen[3], "red star, green cross, checked disc"),
        _scene("Shapes", seen[3], "red heart, red cross, checked star"),
        _scene("One is absent", seen[11], "yellow ring, striped disc, green square"),
        _scene("Camouflage", hidden[4], "striped triangle"),
        *_photographs(),
    ]


def strip(examples: list[Example]) -> gr.HTML:
    """One button per example; its ``click`` event carries ``index``."""
    buttons = "".join(
        f"<button type='button' data-index='{index}' title='{escape(example.classes)}'>"
        f"<img src='{_thumbnail(example.image)}' alt=''>{escape(example.title)}</button>"
        for index, example in enumerate(examples)
    )
    return gr.HTML(
        f"<p>Examples: click one, then Run</p><div class='row'>{buttons}</div>",
        js_on_load="""
            element.onclick = (event) => {
              const button = event.target.closest("button");
              if (button) trigger("click", { index: Number(button.dataset.index) });
            };
        """,
        apply_default_css=False,
        elem_id="examples",
    )


def _thumbnail(image: np.ndarray) -> str:
    picture = ImageOps.fit(Image.fromarray(image), (THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    return drawing.data_uri(picture, "JPEG", quality=85)


def _scene(title: str, scene: LabelledImage, classes: str) -> Example:
    """Ids of the truth: 0 for the background, class c of the data set is c + 1."""
    ids = np.where(scene.classes == BACKGROUND, -1, scene.classes).astype(np.int64) + 1
    return Example(title, scene.image, classes, TruthFile(ids, ("background", *scene.names)))


def _photographs() -> list[Example]:
    named = (("cheetah.jpg", "cheetah, grass"), ("lion.jpg", "lion"), ("tower.jpg", "tower, sky"))
    return [
        Example(Path(name).stem.capitalize(), open_image(path), classes)
        for name, classes in named
        if (path := _shipped(name)) is not None
    ]


def _shipped(name: str) -> Path | None:
    try:
        return Path(gr.get_image(name))
    except FileNotFoundError:
        return None
