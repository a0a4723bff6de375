"""The ground-truth panel: a mask file, the class names by id, and the scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import gradio as gr
import numpy as np
from gradio.events import Dependency

from ...data.images import load_mask
from ...errors import ClipsamError
from ...evaluation.truth import TruthError, TruthFile, read_names
from ..events import FILED, LATEST, Values, note, problem
from .display_panel import DisplayPanel
from .score_tables import score_table, table_html
from .session import Session


class TruthPanel:
    """Ground truth of the current image, and the scores of the results.

    Attributes:
        file: the mask file.
    """

    def __init__(self, session: gr.State, display: DisplayPanel) -> None:
        """Build the panel inside the open ``gr.Blocks``.

        Args:
            session: of the page.
            display: display settings.
        """
        self._session, self._display = session, display
        with gr.Accordion("Ground truth: IoU and Dice per class and method", open=False):
            gr.HTML(
                "A mask of the same size as the image: binary (black and white, also with soft "
                "edges, or as transparency), or class ids as palette PNG, 8-bit or 16-bit "
                "greyscale."
            )
            with gr.Row():
                self.file = gr.File(
                    label="Mask file",
                    type="filepath",
                    height=140,
                    elem_id="truth-file",
                )
                self._names = gr.Textbox(
                    label="Class names by id",
                    info="Optional, in the order of the ids: “background, dog, cat”, or JSON. "
                    "Without names, id 1 is the first class, and a binary mask is of the class "
                    "selected above the image.",
                    elem_id="truth-names",
                )
            self._message = gr.HTML(elem_id="truth-message")
            self._table = gr.HTML(apply_default_css=False, elem_id="scores")

    def connect(self, version: gr.State, changes: Sequence[Callable[..., Dependency]]) -> None:
        """Read uploaded files, and recompute scores whenever display or results change.

        Args:
            version: incremented with the ground truth; one of ``changes``.
            changes: events after which the scores must be recomputed.
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
        """Store an uploaded ground truth, or the reason why it cannot be used."""
        if path is None:
            return gr.skip()
        try:
            mask = load_mask(path)
            # A session keeps it: in as few bytes as its values need.
            values = mask.values.astype(np.min_scalar_type(int(mask.values.max())))
            session.take_truth(TruthFile(values, read_names(names), mask.note))
        except ClipsamError as error:
            session.take_truth(None, str(error))
        return session.next_version()

    def drop(self, session: Session) -> int:
        """Remove the ground truth."""
        session.take_truth(None)
        return session.next_version()

    def score(self, values: Values) -> tuple[str, str]:
        """Return message and score table for the current results."""
        session: Session = values[self._session]
        display = self._display.read(values)
        if session.truth_problem:
            return problem(session.truth_problem), ""
        if session.truth_file is None:
            return "", ""
        run = session.run
        if run is None:
            return note("The results will be scored when you press Run."), ""
        try:
            truth = session.truth(display.active)
        except TruthError as error:
            return problem(str(error)), ""
        if truth is None:
            return "", ""
        # A copy: a run in progress may add to it.
        made = dict(run.predictions)
        rows = score_table(made, run.titles, truth, display.threshold, display.overlap)
        said = " ".join(filter(None, (session.truth_file.note, truth.note)))
        return note(said) if said else "", table_html(rows)
