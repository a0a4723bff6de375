"""The panel that compares all methods of a run: costs, scores and differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import gradio as gr
from gradio.events import Dependency

from ..events import LATEST, Values
from .display_panel import DisplayPanel
from .session import Session
from .summary_html import costs, differences


class SummaryPanel:
    """Comparison of the current results; it runs no model."""

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

    def connect(self, changes: Sequence[Callable[..., Dependency]]) -> None:
        """Redraw everything whenever one of the events says that the display has changed."""
        gr.on(
            changes,
            self.summarise,
            {self._session, *self._display.inputs},
            [self._costs, self._differences],
            **LATEST,
        )

    def summarise(self, values: Values) -> tuple[str, str]:
        """Format costs and scores, and differences."""
        session: Session = values[self._session]
        run, display = session.run, self._display.read(values)
        if run is None or not run.predictions:
            return "", ""
        made = dict(run.predictions)  # A run in progress may add to it.
        truth = session.fitting_truth(display.active)
        return (
            costs(
                made,
                run.titles,
                run.parameters,
                display,
                truth,
                session.map_scores(made, truth),
            ),
            differences(made, run.titles, display, run.encoded.image),
        )
