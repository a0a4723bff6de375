"""The panel for labelled images: a zip, or a folder on the server."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import gradio as gr

from ...data.readers import DataError
from ...data.readers.registry import notes_of
from ...data.uploads import RIGHT, Source, from_server, from_zip, offered
from ..events import FILED, PRIVATE, Updates, note, problem
from .measuring import EvaluateSession

logger = logging.getLogger(__name__)

SHOWN_CLASSES = 12
"""Number of classes named in the description of the images."""


class DataPanel:
    """Input of labelled images, with a description of their content.

    Attributes:
        upload, folder: a zip, or the name of a folder on the server; the later one counts.
        part: of the images.
        message, about: error message, and description of the images.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        """Build the panel inside the open ``gr.Blocks``.

        Args:
            folders: folders whose sub-folders may be evaluated on.
        """
        self._folders = tuple(folders)
        self.upload = gr.File(label="Labelled images (zip)", height=140, elem_id="evaluate-upload")
        gr.HTML(f"<p class='note'>{RIGHT}</p>")
        names = list(offered(self._folders))
        self.folder = gr.Dropdown(
            names,
            value=None,
            label="Or a folder on the server",
            info="Labelled images that this server provides.",
            visible=bool(names),
            elem_id="evaluate-folder",
        )
        self.part = gr.Dropdown(
            label="Split",
            info="The part of the data set to evaluate on.",
            visible=False,
            elem_id="evaluate-part",
        )
        self.message = gr.HTML(elem_id="evaluate-data-message")
        self.about = gr.HTML(elem_id="evaluate-about")

    def connect(self, session: gr.State) -> list[gr.events.Dependency]:
        """Connect the inputs.

        Returns:
            The events that replace the images.
        """
        self._session = session
        # Nobody waits for what another has packed.
        reading = {**PRIVATE, "concurrency_limit": 4, "show_progress_on": [self.about]}
        shown = [session, self.message, self.about, self.part]
        self.part.input(self.take_part, [session, self.part], [self.message, self.about], **reading)
        return [
            self.upload.upload(
                self.take_zip, [session, self.upload], [*shown, self.folder], **reading
            ),
            self.folder.input(
                self.take_folder, [session, self.folder], [*shown, self.upload], **reading
            ),
            self.upload.clear(self.drop, session, shown[1:], **FILED),
        ]

    def take_zip(self, session: EvaluateSession, path: str | None) -> Updates:
        """Unpack an uploaded zip, or explain what is wrong with it."""
        if path is None:
            return {self.message: problem(f"The upload was empty. {RIGHT}")}
        return {**self._take(session, from_zip, Path(path)), self.folder: None}

    def take_folder(self, session: EvaluateSession, name: object) -> Updates:
        """Read a folder on the server, or explain what is wrong with it."""
        return {**self._take(session, from_server, self._folders, str(name)), self.upload: None}

    def take_part(self, session: EvaluateSession, part: str) -> Updates:
        """Describe another part of the images."""
        try:
            about = "" if session.source is None else _described(session.source, part)
        except DataError as error:
            return {self.message: problem(str(error)), self.about: ""}
        return {self.message: "", self.about: about}

    def drop(self, session: EvaluateSession) -> Updates:
        """Remove the images."""
        session.take(None)
        return {self.message: "", self.about: "", **self._parts(None)}

    def _take(
        self, session: EvaluateSession, bring: Callable[..., Source], *where: object
    ) -> Updates:
        """Replace the current images."""
        # Gradio deletes with the page only a state that was returned once.
        updates = {**self.drop(session), self._session: session}
        try:
            source = bring(*where)
        except DataError as error:
            return {**updates, self.message: problem(str(error))}
        except Exception:
            logger.exception("the images cannot be read")
            sentence = "These images cannot be read; see the server log."
            return {**updates, self.message: problem(f"{sentence} {RIGHT}")}
        session.take(source)
        return {**updates, **self.take_part(session, source.first_part), **self._parts(source)}

    def _parts(self, source: Source | None) -> Updates:
        """Offer the parts of the images if there are several."""
        parts = [] if source is None else list(source.parts)
        first = None if source is None else source.first_part
        return {self.part: gr.Dropdown(parts, value=first, visible=len(parts) > 1)}


def _described(source: Source, part: str) -> str:
    """Describe the images in one line."""
    data = source.open(part)
    shown = ", ".join(data.names[:SHOWN_CLASSES])
    more = ", …" if len(data.names) > SHOWN_CLASSES else "."
    images = f"{len(data)} image{'s' if len(data) != 1 else ''}"
    about = note(f"{source.name}: {images}, {len(data.names)} classes: {shown}{more}")
    return about + "".join(note(source.describe_error(said)) for said in notes_of(data))
