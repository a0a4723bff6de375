"""The ground-truth panel: a mask file, the names of its ids, and the table of scores."""

from __future__ import annotations

import gradio as gr

from ...data.images import ImageError, open_mask
from ...evaluation.truth import TruthError, TruthFile, read_names
from ..notes import note, problem
from .scoring import score_table, table_html
from .session import Session
from .views.looks import Look


class TruthPanel:
    """Takes a ground truth for the picture shown, and scores the results with it.

    Attributes:
        file, names: the mask file, and the names of its ids as typed.
        message, table: what is said of it, and the scores.
    """

    def __init__(self) -> None:
        """Build it inside the ``gr.Blocks`` that is open."""
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
                self.names = gr.Textbox(
                    label="Names of its ids",
                    info="Optional, index = id: “background, dog, cat”, or JSON. Without it: "
                    "id 1 is the first class, or a black and white mask is the chosen class.",
                    elem_id="truth-names",
                )
            self.message = gr.HTML(elem_id="truth-message")
            self.table = gr.HTML(apply_default_css=False, elem_id="scores")

    def connect(self, session: gr.State, news: gr.State) -> None:
        """Take files as they come; whoever listens to ``news`` shows what follows from them."""
        filed = {  # Through the queue: only there does Gradio notice that a state changed.
            "trigger_mode": "always_last",
            "show_progress": "hidden",
            "api_visibility": "private",
        }
        gr.on(
            [self.file.upload, self.names.submit, self.names.blur],
            self.take,
            [session, self.file, self.names],
            news,
            **filed,
        )
        self.file.clear(self.drop, session, news, **filed)

    def take(self, session: Session, path: str | None, names: str) -> object:
        """Remember an uploaded ground truth, or what is wrong with it."""
        if path is None:
            return gr.skip()
        try:
            session.take_truth(TruthFile(open_mask(path), read_names(names)))
        except (ImageError, TruthError) as error:
            session.take_truth(None, str(error))
        return session.next_news()

    def drop(self, session: Session) -> int:
        """Forget the ground truth."""
        session.take_truth(None)
        return session.next_news()

    def score(self, session: Session, look: Look) -> tuple[str, str]:
        """Message and table of the ground truth for the results at hand."""
        if session.truth_problem:
            return problem(session.truth_problem), ""
        if session.truth_file is None:
            return "", ""
        run = session.run
        if run is None:
            return note("It will be compared with the results as soon as you press Run."), ""
        try:
            truth = session.truth(look.active)
        except TruthError as error:
            return problem(str(error)), ""
        # A copy: a run in progress may add to it.
        made = dict(run.predictions)
        rows = score_table(made, run.titles, truth, look.threshold, look.overlap)
        return "", table_html(rows)
