"""Export of results: an archive of a run, and a link to its settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

import gradio as gr
from gradio.utils import get_upload_folder

from ...errors import ClipsamError, PromptError
from ...evaluation.truth import Truth, TruthError, TruthFile
from ..events import FILED, PRIVATE, Updates, Values, note, problem
from .annotator import read_marks, read_prompt
from .archive import write_zip, write_zip_of_all
from .run_request import RunControls, RunRequest
from .session import ComparisonRun, Session, truth_of
from .share_link import SharedState, write_link
from .views.display_settings import DisplaySettings

NOTHING = "There are no results to download yet. Press Run."

WITH_ORIGIN = "query => query && `${location.origin}${location.pathname}?${query}`"


class SharePanel:
    """Two buttons and their results.

    Attributes:
        archive: the file, once requested.
    """

    def __init__(self, message: gr.HTML, controls: RunControls) -> None:
        """Build the panel inside the open ``gr.Blocks``.

        Args:
            message: component for error messages.
            controls: the controls of the request.
        """
        self._message, self._controls = message, controls
        with gr.Row():
            self._export = gr.Button("Download results (zip)", size="sm", elem_id="export")
            self._link = gr.Button("Create link", size="sm", elem_id="link")
            self.archive = gr.File(label="Archive", visible=False, elem_id="archive")
            self._address = gr.Textbox(
                label="Link",
                info=(
                    "Restores classes, points, boxes and methods; an uploaded image is not "
                    "included."
                ),
                buttons=["copy"],
                visible=False,
                elem_id="address",
            )

    def connect(self, status: gr.HTML) -> None:
        """Connect the buttons; progress is shown at ``status``."""
        controls = self._controls
        self._link.click(
            self.offer_link,
            controls.inputs,
            [self._message, self._address],
            **FILED,
        ).then(None, self._address, self._address, js=WITH_ORIGIN, **PRIVATE)
        self._export.click(
            self.pack,
            {controls.session, *controls.display.inputs},
            [self._message, self.archive],
            show_progress_on=[status],
            **PRIVATE,
        )

    def forget(self) -> Updates:
        """Hide the archive, because the results are about to change."""
        return {self.archive: gr.File(visible=False)}

    def offer_link(self, values: Values) -> Updates:
        """Return the URL that encodes the current state, without its origin."""
        request = RunRequest.read(self._controls, values)
        session = request.session
        try:
            encoded = session.current_image()
            read_prompt(request.classes, request.marks)
            question = SharedState(
                example=session.example,
                size=encoded.size,
                classes=request.classes,
                marks=tuple(read_marks(request.classes, request.marks)),
                preset=request.preset,
                # Weights of a session stay in it.
                keys=tuple(choice.key for choice in request.choices if choice.bundle is None),
                display=request.display,
            )
            query = write_link(question)
        except PromptError as error:
            return {self._message: problem(str(error))}
        return {self._message: "", self._address: gr.Textbox(query, visible=True)}

    def pack(self, values: Values) -> Updates:
        """Write the latest run as an archive; those on all open images if one of them is shown."""
        session: Session = values[self._controls.session]
        display = self._controls.display.read(values)
        path = Path(mkdtemp(dir=Path(get_upload_folder()))) / "clipsam.zip"
        try:
            if session.current is not None and len(session.images) > 1:
                said = _pack_all(path, session, display)
            else:
                said = _pack(path, session, display)
        except ClipsamError as error:
            return {self._message: problem(str(error))}
        return {self._message: said, self.archive: gr.File(str(path), visible=True)}


def _pack(path: Path, session: Session, display: DisplaySettings) -> str:
    """Write the run on the image shown; return a message."""
    run = _copy(session.run)
    if run is None:
        raise PromptError(NOTHING)
    truth = session.fitting_truth(display.active)
    write_zip(path, run, display, truth, session.map_scores(run.predictions, truth))
    return ""


def _pack_all(path: Path, session: Session, display: DisplaySettings) -> str:
    """Write the runs on all open images; return a message with the images that have none."""
    runs, missing = [], []
    for image in session.images:
        run = _copy(image.run)
        if run is None:
            missing.append(image.name)
        else:
            runs.append((image.name, run, _fitting(run, image.truth_file, display.active)))
    if not runs:
        raise PromptError(NOTHING)
    write_zip_of_all(path, runs, display)
    if not missing:
        return ""
    return note(f"The archive lacks the images without results: {', '.join(missing)}.")


def _copy(run: ComparisonRun | None) -> ComparisonRun | None:
    """Return a copy, since a run in progress may add to it; ``None`` without results."""
    if run is None or not run.predictions:
        return None
    return replace(run, predictions=dict(run.predictions))


def _fitting(run: ComparisonRun, file: TruthFile | None, active: str | None) -> Truth | None:
    """Return a run's ground truth, or ``None`` without one that fits."""
    try:
        return None if file is None else truth_of(run, file, active)
    except TruthError:
        return None
