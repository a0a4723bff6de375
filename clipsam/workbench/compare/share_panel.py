"""What leaves the page: an archive of a run's results, and a link that asks the same again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp

import gradio as gr
from gradio.utils import get_upload_folder

from ...errors import PromptError
from ..bundles import SessionBundles
from ..events import FILED, PRIVATE
from ..notes import Updates, problem
from ..picker import MethodPicker
from .annotator import read_marks, read_prompt
from .archive import write_zip
from .link import Question, write_link
from .look_panel import read_look
from .session import Session

WITH_ORIGIN = "query => query && `${location.origin}${location.pathname}?${query}`"


class SharePanel:
    """Two buttons, and what each brings.

    Attributes:
        archive: the file, once it was asked for.
    """

    def __init__(self, message: gr.HTML, picker: MethodPicker) -> None:
        """Build it inside the ``gr.Blocks`` that is open.

        Args:
            message: where it is said what is wrong.
            picker: what is ticked.
        """
        self._message, self._picker = message, picker
        with gr.Row():
            self._export = gr.Button("Download all as zip", size="sm", elem_id="export")
            self._link = gr.Button("Link to this", size="sm", elem_id="link")
            self.archive = gr.File(label="Archive", visible=False, elem_id="archive")
            self._address = gr.Textbox(
                label="Link",
                info="Opens with all that you typed, marked and ticked; never with your picture.",
                buttons=["copy"],
                visible=False,
                elem_id="address",
            )

    def connect(
        self,
        session: gr.State,
        classes: gr.Textbox,
        seen: Sequence[gr.blocks.Block],
        status: gr.HTML,
    ) -> None:
        """Answer the buttons.

        Args:
            session: of the page.
            classes: names as typed.
            seen: how it is looked at, the canvas last, see :func:`read_look`.
            status: where progress is shown.
        """
        self._link.click(
            self.offer_link,
            [session, classes, *self._picker.ticked, *seen],
            [self._message, self._address],
            **FILED,
        ).then(None, self._address, self._address, js=WITH_ORIGIN, **PRIVATE)
        self._export.click(
            self.pack,
            [session, *seen],
            [self._message, self.archive],
            show_progress_on=[status],
            **PRIVATE,
        )

    def forget(self) -> Updates:
        """Show no archive: the results are to be others."""
        return {self.archive: gr.File(visible=False)}

    def offer_link(
        self,
        session: Session,
        classes: str,
        bundles: SessionBundles,
        preset: str,
        by_text: Sequence[str],
        by_marks: Sequence[str],
        *seen: object,
    ) -> Updates:
        """The address that asks what is asked now, but for its origin."""
        marks = seen[-1]
        try:
            scene = session.scene_shown()
            read_prompt(classes, marks)
            question = Question(
                session.example,
                scene.size,
                classes,
                tuple(read_marks(classes, marks)),
                preset,
                # Weights of a session stay in it.
                tuple(
                    choice.key
                    for choice in self._picker.chosen(bundles, preset, by_text, by_marks)
                    if choice.bundle is None
                ),
                read_look(*seen),
            )
            query = write_link(question)
        except PromptError as error:
            return {self._message: problem(str(error))}
        return {self._message: "", self._address: gr.Textbox(query, visible=True)}

    def pack(self, session: Session, *seen: object) -> Updates:
        """Everything of the latest run as an archive."""
        run, look = session.run, read_look(*seen)
        if run is None or not run.predictions:
            return {self._message: problem("There is nothing to download yet: press Run.")}
        made, truth = dict(run.predictions), session.fitting_truth(look.active)
        some = next(iter(made.values()))
        path = Path(mkdtemp(dir=Path(get_upload_folder()))) / "clipsam.zip"
        try:
            write_zip(
                path,
                run.scene.image,
                made,
                run.titles,
                truth,
                look.threshold,
                overlap=look.overlap,
                parameters=run.parameters,
                maps=session.map_scores(made, truth),
                index=look.index(some),
            )
        except PromptError as error:
            return {self._message: problem(str(error))}
        return {self._message: "", self.archive: gr.File(str(path), visible=True)}
