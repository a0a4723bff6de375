"""Display controls; changing them runs no model."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from ...types import Overlap
from ..events import PRIVATE, Updates, Values
from ..fold import fold_button
from .annotator import active_class
from .views.display_settings import ALL_CLASSES, DisplaySettings
from .views.overlays import VIEWS

_HERE = Path(__file__).parent

OVERLAP_WORDS: dict[Overlap, str] = {
    "independent": "Masks may overlap",
    "argmax": "Highest logit wins",
    "highest-presence": "Highest presence wins",
}

MORE = """<button type="button" class="fold" aria-expanded="false" aria-controls="more-panel">More
<span class="arrow" aria-hidden="true">▾</span></button>"""

EXPLANATION = (
    "Pixels with a logit above the threshold belong to the mask. “Masks” shows all classes; the "
    "other views show the class selected above the image. No change here runs a model."
)

SET_OPACITY = "value => {document.documentElement.style.setProperty('--opacity', value)}"
"""JavaScript that sets the opacity of the overlays."""


class DisplayPanel:
    """View, threshold and overlap in one line; opacity and presence behind “More”.

    Attributes:
        threshold, min_presence, view, overlap: see :class:`DisplaySettings`, whose values they are.
        inputs: the components whose values :meth:`read` takes.
    """

    def __init__(self, canvas: gr.HTML) -> None:
        """Build the panel inside the open ``gr.Blocks``.

        Args:
            canvas: on which a class is chosen.
        """
        with gr.Row(elem_id="view-bar"):
            self.view = gr.Radio(
                [(view.title, id) for id, view in VIEWS.items()],
                value=ALL_CLASSES,
                label="View",
                show_label=False,
                container=False,
                scale=6,
                min_width=200,
                elem_id="view",
            )
            self.threshold = gr.Slider(
                -10, 10, 0, step=0.1, label="Threshold", scale=5, min_width=200, elem_id="threshold"
            )
            self.overlap = gr.Dropdown(
                [(words, rule) for rule, words in OVERLAP_WORDS.items()],
                value="independent",
                label="Overlap of classes",
                show_label=False,
                container=False,
                scale=4,
                min_width=150,
                elem_id="overlap",
            )
            with gr.Column(elem_id="more", scale=0, min_width=70):
                fold_button(MORE, "more-fold")
                with gr.Column(elem_id="more-panel", elem_classes="popover"):
                    self._opacity = gr.Slider(
                        0, 1, 0.5, step=0.05, label="Opacity of the masks", elem_id="opacity"
                    )
                    self.min_presence = gr.Slider(
                        0,
                        1,
                        0,
                        step=0.01,
                        label="Hide classes with presence below",
                        info="0 shows all classes.",
                        elem_id="least-presence",
                    )
                    gr.HTML(f"<p class='note'>{EXPLANATION}</p>")
            gr.HTML(
                (_HERE / "viewer.html").read_text(),
                js_on_load=(_HERE / "viewer.js").read_text(),
                apply_default_css=False,
                elem_id="viewer",
            )
        self._canvas = canvas
        self.inputs = {self.threshold, self.min_presence, self.view, self.overlap, canvas}
        self._opacity.change(None, self._opacity, js=SET_OPACITY, **PRIVATE)

    def read(self, values: Values) -> DisplaySettings:
        """Read the display settings from the controls and the canvas."""
        return DisplaySettings(
            threshold=values[self.threshold],
            min_presence=values[self.min_presence],
            view=values[self.view],
            overlap=values[self.overlap],
            active=active_class(values[self._canvas]),
        )

    def show(self, display: DisplaySettings) -> Updates:
        """Set the controls to the display settings."""
        return {
            self.threshold: display.threshold,
            self.min_presence: display.min_presence,
            self.view: display.view,
            self.overlap: display.overlap,
        }
