"""Display controls; changing them runs no model."""

from __future__ import annotations

import gradio as gr

from ...types import Overlap
from ..events import PRIVATE, Updates, Values
from .annotator import active_class
from .views.display_settings import ALL_CLASSES, DisplaySettings
from .views.overlays import VIEWS

OVERLAP_WORDS: dict[Overlap, str] = {
    "independent": "To all of them",
    "argmax": "To the highest logit",
    "highest-presence": "To the highest presence",
}

SET_OPACITY = "value => {document.documentElement.style.setProperty('--opacity', value)}"
"""JavaScript that sets the opacity of the overlays."""


class DisplayPanel:
    """Threshold, presence, view, overlap and opacity.

    Attributes:
        threshold, min_presence, view, overlap: see :class:`DisplaySettings`, whose values they are.
        inputs: the components whose values :meth:`read` takes.
    """

    def __init__(self, canvas: gr.HTML) -> None:
        """Build the panel inside the open ``gr.Blocks``.

        Args:
            canvas: on which a class is chosen.
        """
        self.threshold = gr.Slider(
            -10,
            10,
            0,
            step=0.1,
            label="Threshold",
            info="Pixels with a higher logit belong to the mask. No model is rerun.",
            elem_id="threshold",
        )
        with gr.Row():
            self._opacity = gr.Slider(
                0,
                1,
                0.5,
                step=0.05,
                label="Opacity",
                info="Opacity of the masks.",
                elem_id="opacity",
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
        self.view = gr.Radio(
            [(view.title, id) for id, view in VIEWS.items()],
            value=ALL_CLASSES,
            label="View",
            info="All but the first show the class selected on the image.",
            elem_id="view",
        )
        self.overlap = gr.Radio(
            [(words, rule) for rule, words in OVERLAP_WORDS.items()],
            value="independent",
            label="Overlapping classes",
            info="Which class a pixel claimed by several classes is assigned to.",
            elem_id="overlap",
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
