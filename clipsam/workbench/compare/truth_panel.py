"""The ground-truth panel: a mask file, the names of its ids, and the table of scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import gradio as gr
from gradio.events import Dependency

from ...data.images import open_mask
from ...errors import ClipsamError
from ...evaluation.truth import TruthError, TruthFile, read_names
from ..events import FILED, LATEST, Values, note, problem
from .display_panel import DisplayPanel
from .score_tables import score_table, table_html
from .session import Session


class TruthPanel:
    """Takes a ground truth for the picture shown, and scores the results with it.

    Attributes:
        file: the mask file.
    """

    def __init__(self, session: gr.State, display: DisplayPanel) -> None:
        """Build it inside the ``gr.Blocks`` that is open.

        Args:
            session: of the page.
            display: how answers are drawn.
        """
        self._session, self._display = session, display
        with gr.Accordion("Ground truth: IoU and Dice per class and method", open=False):
            gr.HTML(
                "A mask as large as the picture: black and white, or ids as palette PNG, grey or "
                "16-bit grey. Values are read as they are."
            )
            with gr.Row():
                self.file = gr.File(
                    label="Mask file",
                    type="filepath",
                    height=140,
                    elem_id="truth-file",
                )
                self._names = gr.Textbox(
                    label="Names of its ids",
                    info="Optional, index = id: “background, dog, cat”, or JSON. Without it: "
                    "id 1 is the first class, or a black and white mask is the chosen class.",
                    elem_id="truth-names",
                )
            self._message = gr.HTML(elem_id="truth-message")
            self._table = gr.HTML(apply_default_css=False, elem_id="scores")

    def connect(self, version: gr.State, changes: Sequence[Callable[..., Dependency]]) -> None:
        """Take files as they come, and score anew whenever the look or the results change.

        Args:
            version: changes with the ground truth; among what ``changes`` tells of.
            changes: events with which the scores change.
        """
        session = self._session
        gr.on(
            [self.file.upload, self._names.submit, self._names.blur],
            self.take,
            [session, self.file, self._names],
            version,
            trigger_mode="always_last",
            **FILED,
        )
        self.file.clear(self.drop, session, version, trigger_mode="always_last", **FILED)
        inputs = {session, *self._display.inputs}
        gr.on(changes, self.score, inputs, [self._message, self._table], **LATEST)

    def take(self, session: Session, path: str | None, names: str) -> object:
        """Remember an uploaded ground truth, or what is wrong with it."""
        if path is None:
            return gr.skip()
        try:
            session.take_truth(TruthFile(open_mask(path), read_names(names)))
        except ClipsamError as error:
            session.take_truth(None, str(error))
        return session.next_version()

    def drop(self, session: Session) -> int:
        """Forget the ground truth."""
        session.take_truth(None)
        return session.next_version()

    def score(self, values: Values) -> tuple[str, str]:
        """Message and table of the ground truth for the results at hand."""
        session: Session = values[self._session]
        display = self._display.read(values)
        if session.truth_problem:
            return problem(session.truth_problem), ""
        if session.truth_file is None:
            return "", ""
        run = session.run
        if run is None:
            return note("It will be compared with the results as soon as you press Run."), ""
        try:
            truth = session.truth(display.active)
        except TruthError as error:
            return problem(str(error)), ""
        # A copy: a run in progress may add to it.
        made = dict(run.predictions)
        rows = score_table(made, run.titles, truth, display.threshold, display.overlap)
        return "", table_html(rows)
