"""The Evaluate tab: methods measured on the user's labelled images."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from ...data.readers import DataError
from ...errors import ClipsamError, PromptError
from ...weights.presets import find_preset
from ..adapt.adapt_tab import AdaptTab
from ..bundles import SessionBundles
from ..choices import DEFAULT_KEYS, MethodChoice
from ..events import EVALUATING, LATEST, PRIVATE, QUICK, Updates, Values, note, problem
from ..examples import Example
from ..model_store import ModelStore
from ..picker import DEFAULT_PRESET, all_offered, preset_dropdown, ready
from ..presence import caller_is_there
from ..stop_button import StopButton
from ..turns import Unwanted
from ..zero_gpu import refusal_message
from .data_panel import DataPanel
from .leaderboard import cases_html, cases_strip, leaderboard, per_class, table
from .measuring import FILES, EvaluateSession, Measuring
from .tasks import EvaluationRequest

logger = logging.getLogger(__name__)

MAX_IMAGES = 256
"""Limit per evaluation, since other users wait meanwhile."""

MAX_CLICKS = 20

WHAT = (
    "scores per method, scores per class and image, all of it as JSON, and a report with plots and "
    "images. They are the files that “clipsam evaluate” writes."
)

PRESENT, EVERY = "Classes present", "All classes of the data set"


class EvaluateTab:
    """Layout and events of the tab; user data lives in the :class:`EvaluateSession` only.

    Attributes:
        session: the user's state.
        cases: a strip whose ``click`` event carries the ``index`` of a case, see :meth:`case`.
    """

    def __init__(self, models: ModelStore, bundles: gr.State, folders: Sequence[Path] = ()) -> None:
        """Build the tab inside the open ``gr.Blocks``.

        Args:
            models: the loaded models.
            bundles: bundles trained in the session.
            folders: folders whose sub-folders every user may evaluate on.
        """
        self.models = models
        self.bundles = bundles
        self.session = gr.State(EvaluateSession(), delete_callback=EvaluateSession.close)
        with gr.Row(elem_id="evaluate-desk"):
            with gr.Column(scale=5, min_width=320):
                self.data = DataPanel(folders)
            with gr.Column(scale=6, min_width=320):
                self._build_question()
        self._build_results()
        self._connect()

    # ---- layout ----

    def _build_question(self) -> None:
        self.preset = preset_dropdown(
            "SAM and CLIP weights. Others can be downloaded under Methods in the Compare tab.",
            "evaluate-preset",
        )
        self.methods = gr.CheckboxGroup(
            **_offer(SessionBundles(), DEFAULT_PRESET, DEFAULT_KEYS),
            label="Methods",
            info=(
                "Those that can run with the preset. In manual mode, point prompts are sampled "
                "from the ground truth."
            ),
            show_select_all=True,
            elem_id="evaluate-methods",
        )
        with gr.Row():
            self.images = gr.Slider(
                1,
                MAX_IMAGES,
                16,
                step=1,
                label="Number of images",
                info="At most this many, sampled at random.",
                min_width=240,
                elem_id="evaluate-images",
            )
            self.seed = gr.Number(
                0,
                precision=0,
                minimum=0,
                maximum=2**31 - 1,
                label="Seed",
                info="Random seed of the sampled images; the command line uses 0.",
                min_width=240,
                elem_id="evaluate-seed",
            )
        with gr.Row():
            self.classes = gr.Radio(
                [PRESENT, EVERY],
                value=PRESENT,
                label="Queried classes",
                info=(
                    "The papers query the classes present in an image; with all classes, false "
                    "positives count as well."
                ),
                min_width=240,
                elem_id="evaluate-classes",
            )
            self.clicks = gr.Slider(
                1,
                MAX_CLICKS,
                5,
                step=1,
                label="Points per class",
                info="Foreground points for manual modes, sampled inside the ground truth.",
                min_width=240,
                elem_id="evaluate-clicks",
            )
        with gr.Row():
            self.start = gr.Button("Run", variant="primary", elem_id="evaluate-run", scale=3)
            self.stop = StopButton("evaluate-stop")
        self.message = gr.HTML(elem_id="evaluate-message")
        self.status = gr.HTML(elem_id="evaluate-status")

    def _build_results(self) -> None:
        self.left_out = gr.HTML(elem_id="left-out")
        self.board = table("leaderboard")
        with gr.Column(visible=False) as self.files:
            gr.HTML(f"<p class='note'>Downloads: {WHAT}</p>")
            with gr.Row(elem_id="evaluate-files"):
                self.downloads = {
                    name: gr.DownloadButton(
                        name, size="sm", min_width=120, elem_id=f"get-{name.replace('.', '-')}"
                    )
                    for name in FILES
                }
        self.by_class = table("per-class")
        self.shown = gr.Dropdown(
            label="Worst and best cases of",
            info="A case is one class in one image. Click a case to open it in Compare.",
            visible=False,
            elem_id="cases-of",
        )
        self.cases = cases_strip()

    # ---- events ----

    def _connect(self) -> None:
        results: list[gr.blocks.Block] = [
            self.message,
            self.status,
            self.left_out,
            self.board,
            self.by_class,
        ]
        results += [self.cases, self.shown, self.files]
        for others in self.data.connect(self.session):
            others.then(self.without_results, None, results, **QUICK)
        self.preset.change(
            self.offer,
            [self.bundles, self.preset, self.methods],
            self.methods,
            **LATEST,
        )
        request: set[gr.blocks.Block] = {
            self.session,
            self.bundles,
            self.data.part,
            self.preset,
            self.methods,
        }
        request |= {self.images, self.seed, self.classes, self.clicks}
        self.stop.connect(self.session, [self.start.click])
        run = self.start.click(
            self.run,
            request,
            [*results, *self.downloads.values()],
            show_progress_on=[self.status],
            **EVALUATING,
            **PRIVATE,
        )
        self.stop.rest_after(run)
        self.shown.input(self.show_cases, [self.session, self.shown], self.cases, **QUICK)

    def join(self, other: AdaptTab) -> None:
        """Offer bundles trained there, and select them."""
        other.finished.then(
            self.take_bundle,
            [self.bundles, self.preset, self.methods],
            self.methods,
            **QUICK,
        )

    # ---- methods ----

    def offer(
        self, bundles: SessionBundles, preset: str, selected: Sequence[str]
    ) -> gr.CheckboxGroup:
        """Update the methods for a preset, keeping the selection where possible."""
        return gr.CheckboxGroup(**_offer(bundles, preset, selected))

    def take_bundle(
        self, bundles: SessionBundles, preset: str, selected: Sequence[str]
    ) -> gr.CheckboxGroup:
        """Offer the most recently trained bundle and select it in addition."""
        new = (choice.key for choice in bundles.kept[-1].choices) if bundles.kept else ()
        return self.offer(bundles, preset, (*selected, *new))

    # ---- running ----

    def without_results(self) -> Updates:
        """Return updates that clear all results."""
        texts = (self.message, self.status, self.left_out, self.board, self.by_class, self.cases)
        return {
            **dict.fromkeys(texts, ""),
            self.shown: gr.Dropdown([], value=None, visible=False),
            self.files: gr.Column(visible=False),
        }

    def run(
        self,
        values: Values,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio knows it by this default)
    ) -> Iterator[Updates]:
        """Evaluate image by image, updating the leaderboard after each."""
        try:
            yield from self._run(values, progress)
        except ClipsamError as error:
            yield {self.status: "", self.message: problem(str(error))}
        except gr.Error as error:
            yield {self.message: problem(refusal_message(error))}
        except Unwanted:
            return  # The page is gone.
        except Exception:
            logger.exception("evaluation failed")
            sentence = "The evaluation failed with an unexpected error; see the server log."
            yield {self.status: "", self.message: problem(sentence)}

    def _run(self, values: Values, progress: gr.Progress) -> Iterator[Updates]:
        session: EvaluateSession = values[self.session]
        if session.source is None:
            raise DataError("There are no images yet. Upload a zip of labelled images.")
        request = self._read_request(values)
        if session.measuring is not None:
            session.measuring.close()
        measuring = session.measuring = Measuring(self.models, session.source, request)
        measuring.stopped = session.stopped
        measuring.is_there = caller_is_there()
        yield self.without_results()
        try:
            yield from self._measure(session, measuring, progress)
        finally:
            measuring.release()

    def _read_request(self, values: Values) -> EvaluationRequest:
        """Read what is to be evaluated.

        Raises:
            PromptError: no preset, method or seed, or a method that cannot run.
        """
        preset, seed = values[self.preset], values[self.seed]
        chosen = find_preset(preset)
        every, selected = all_offered(values[self.bundles], preset), values[self.methods]
        choices = tuple(choice for choice in every if choice.key in selected)
        if not choices:
            raise PromptError("Select at least one method.")
        for choice in choices:
            if reason := choice.problem(chosen):
                raise PromptError(f"{choice.title} cannot run with {preset}: {reason}.")
        if seed is None:
            raise PromptError("The seed is missing. Enter an integer, such as 0.")
        return EvaluationRequest(
            part=str(values[self.data.part]),
            preset=preset,
            choices=choices,
            images=int(values[self.images]),
            seed=int(seed),
            every_class=values[self.classes] == EVERY,
            clicks=int(values[self.clicks]),
        )

    def _measure(
        self, session: EvaluateSession, measuring: Measuring, progress: gr.Progress
    ) -> Iterator[Updates]:
        request = measuring.request
        progress(0, desc="Loading models")
        steps = measuring.total * len(request.choices)

        def step(done: int, choice: MethodChoice) -> None:
            image = f"Image {measuring.done + 1} of {measuring.total}"
            progress((done, steps), desc=f"{image}: {choice.title}", unit="steps")

        try:
            for _ in measuring.measure(step):
                if session.measuring is not measuring:  # Other images have come.
                    return
                yield {self.board: leaderboard(measuring), self.left_out: _left_out(measuring)}
        except gr.Error as error:  # No GPU is lent any more: what has been measured stays.
            yield {self.message: problem(refusal_message(error))}
        if session.measuring is not measuring:
            return
        if measuring.total == len(measuring.left_out):
            raise DataError(f"No image could be used. {measuring.left_out[0]}")
        yield {self.status: note(_told(measuring)), self.by_class: per_class(measuring)}
        if not measuring.measured:
            return
        titles = [(choice.title, choice.key) for choice in request.choices]
        yield {
            self.shown: gr.Dropdown(titles, value=titles[0][1], visible=True),
            self.cases: self.show_cases(session, titles[0][1]),
        }
        progress(1, desc="Writing the report")
        try:
            files = measuring.write()
        except Exception:
            if session.measuring is not measuring:  # Its images went away with it.
                return
            raise
        yield {
            self.files: gr.Column(visible=True),
            **{self.downloads[name]: str(path) for name, path in files.items()},
        }

    # ---- looking ----

    def show_cases(self, session: EvaluateSession, key: str) -> str:
        """Show the worst and best cases of a method."""
        measuring = session.measuring
        if measuring is None:
            return ""
        choices = (choice for choice in measuring.request.choices if choice.key == key)
        return next((cases_html(*measuring.cases(choice)) for choice in choices), "")

    def case(self, session: EvaluateSession, index: int) -> Example:
        """Return the image of a case, with its classes and ground truth, for the Compare tab.

        Args:
            session: the user's.
            index: as the ``click`` event of :attr:`cases` carries it.

        Raises:
            DataError: the case is no longer available.
        """
        if session.measuring is None:
            raise DataError("This case is no longer available. Run the evaluation again.")
        return session.measuring.example(index)


def _offer(bundles: SessionBundles, preset: str, selected: Sequence[str]) -> dict[str, Any]:
    """Return the methods and the selection."""
    offered = ready(bundles, preset)
    return {
        "choices": [(choice.title, choice.key) for choice in offered],
        "value": [choice.key for choice in offered if choice.key in selected],
    }


def _told(measuring: Measuring) -> str:
    images = f"{measuring.done} of {measuring.total}"
    if measuring.done < measuring.total:
        return f"Stopped after {images} images. Results so far are kept."
    return f"{images} images done."


def _left_out(measuring: Measuring) -> str:
    """List the images that could not be used or were not read plainly, with reasons."""
    return _listed("images could not be used", measuring.left_out) + _listed(
        "remarks on how images were read", measuring.notes
    )


def _listed(heading: str, sentences: Sequence[str]) -> str:
    if not sentences:
        return ""
    listed = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f"<details><summary>{len(sentences)} {heading}</summary><ul>{listed}</ul></details>"
