"""The open images as thumbnails, and the button that runs the methods on all of them."""

from __future__ import annotations

import gradio as gr

from ..events import Updates
from ..thumbnail_strip import Thumbnail, strip, strip_html
from .session import OpenImage, Session


class ImagesPanel:
    """A strip of thumbnails below a button; shown where several images are open.

    Attributes:
        strip: the thumbnails; its ``click`` event carries ``index``.
        start: the button.
        outputs: all components that its updates change.
    """

    def __init__(self) -> None:
        """Build the panel inside the open ``gr.Blocks``."""
        with gr.Column(visible=False, elem_id="images-panel") as self._box:
            self.start = gr.Button("Run on all", size="sm", elem_id="run-all")
            self.strip = strip("", [], "images")
        self.outputs: list[gr.blocks.Block] = [self._box, self.start, self.strip]

    def show(self, session: Session) -> Updates:
        """Show the open images, if there are several."""
        count = len(session.images)
        items = [_item(image, image is session.current) for image in session.images]
        return {
            self._box: gr.Column(visible=count > 1),
            self.start: f"Run on all {count} images",
            self.strip: strip_html("Images (click one to show it)", items),
        }


def _item(image: OpenImage, is_current: bool) -> Thumbnail:
    count = 0 if image.run is None else len(image.run.predictions)
    title = f"✓ {image.name}" if count else image.name
    if image.was_dropped:
        about = "results dropped to save memory"
    else:
        about = f"results of {count} methods" if count else "no results yet"
    return Thumbnail(image.thumbnail, title, f"{image.name}: {about}", is_current)
