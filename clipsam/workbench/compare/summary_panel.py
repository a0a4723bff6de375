"""The panel that compares all methods of a run: costs, scores, differences, and two overlays."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import gradio as gr
from gradio.events import Dependency

from ..events import LATEST, Updates, Values
from .display_panel import DisplayPanel
from .session import ComparisonRun, Session
from .summary_html import costs, differences, slider, two


class SummaryPanel:
    """Comparison of the current results; it runs no model.

    Attributes:
        sides: dropdowns of the two choices, see :meth:`offer`.
    """

    def __init__(self, session: gr.State, display: DisplayPanel) -> None:
        """Build the panel inside the open ``gr.Blocks``.

        Args:
            session: of the page.
            display: display settings.
        """
        self._session, self._display = session, display
        with gr.Accordion("All methods: cost, scores, differences", open=False):
            self._costs = gr.HTML(apply_default_css=False, elem_id="costs")
            self._differences = gr.HTML(apply_default_css=False, elem_id="differences")
            with gr.Row():
                self.sides = [
                    gr.Dropdown(
                        [],
                        label=f"{side} image",
                        info="Masks of two methods over one image.",
                        # Else Gradio refuses a value of the run before, which may still be asked.
                        allow_custom_value=True,
                        elem_id=side.lower(),
                    )
                    for side in ("Left", "Right")
                ]
            self._two = slider()

    def connect(self, changes: Sequence[Callable[..., Dependency]]) -> None:
        """Redraw everything whenever one of the events says that the display has changed."""
        gr.on(
            [*changes, *(side.change for side in self.sides)],
            self.summarise,
            {self._session, *self.sides, *self._display.inputs},
            [self._costs, self._differences, self._two],
            **LATEST,
        )

    def offer(self, run: ComparisonRun) -> Updates:
        """Update the methods that the slider can show: initially the first and the last."""
        made = [(run.titles[key], key) for key in run.predictions]
        keys: list[str | None] = [*run.predictions] or [None]
        left, right = self.sides
        return {
            left: gr.Dropdown(made, value=keys[0]),
            right: gr.Dropdown(made, value=keys[-1]),
        }

    def summarise(self, values: Values) -> tuple[str, str, str]:
        """Format costs and scores, differences, and two results over one image."""
        session: Session = values[self._session]
        left, right = (values[side] for side in self.sides)
        run, display = session.run, self._display.read(values)
        if run is None or not run.predictions:
            return "", "", ""
        made = dict(run.predictions)  # A run in progress may add to it.
        truth = session.fitting_truth(display.active)
        titles = run.titles
        pair = ""
        if left in made and right in made:
            pair = two(made[left], made[right], (titles[left], titles[right]), display)
        return (
            costs(made, titles, run.parameters, display, truth, session.map_scores(made, truth)),
            differences(made, titles, display, run.encoded.image),
            pair,
        )
