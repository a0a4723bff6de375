"""The Compare tab: one picture, several classes, several methods, side by side."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from html import escape

import gradio as gr
import numpy as np

from ..data.images import ImageError, open_image, open_mask
from ..evaluation.truth import TruthError
from ..predictor import Options, find_preset, methods
from ..types import PromptError
from ..weights.bundle import WeightsError
from ..weights.presets import PRESETS
from . import cards
from .annotator import active_class, annotator, read_prompt, with_classes, with_picture
from .choices import DEFAULT_KEYS, Choice, all_choices, why_not
from .downloads import Downloads, get_ticked
from .examples import all_examples, strip
from .models import ModelStore
from .scoring import read_names, score_table, table_html
from .session import Run, Session, TruthFile

DEFAULT_PRESET = "tiny"

Updates = dict[gr.blocks.Block, object]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Card:
    """Where one choice shows its result."""

    column: gr.Column
    overlay: gr.HTML
    details: gr.HTML


class CompareTab:
    """Layout and events; keeps no user's data, all of which is in the :class:`Session`."""

    def __init__(self, models: ModelStore) -> None:
        """Build the tab inside the ``gr.Blocks`` that is open.

        Args:
            models: what runs.
        """
        self.models = models
        self.choices = {choice.key: choice for choice in all_choices()}
        self.examples = all_examples()
        self.session = gr.State(Session())
        self.news = gr.State(0)
        with gr.Row(elem_id="desk"):
            with gr.Column(scale=6, min_width=320):
                self._build_picture()
            with gr.Column(scale=5, min_width=320):
                self._build_controls()
        self._build_results()
        self._build_truth()
        self._connect()

    # ---- layout ----

    def _build_picture(self) -> None:
        with gr.Group(elem_id="picture-upload"):
            self.upload = gr.UploadButton("Upload a picture, or paste or drop one", size="sm")
        self.message = gr.HTML(elem_id="message")
        self.annotator = annotator()
        self.strip = strip(self.examples)

    def _build_controls(self) -> None:
        self.classes = gr.Textbox(
            label="Classes",
            info="Comma between classes, semicolon between names of one class.",
            placeholder="dog; puppy, grass",
            elem_id="classes",
        )
        self.preset = gr.Dropdown(
            [(f"{preset.name}: {preset.title}", preset.name) for preset in PRESETS.values()],
            value=DEFAULT_PRESET,
            label="Preset",
            info="Which SAM and CLIP run. Tiny is a demonstration: it shows how methods work.",
            elem_id="preset",
        )
        self.downloads = Downloads(DEFAULT_PRESET)
        text, marks = self._offers(DEFAULT_PRESET, DEFAULT_KEYS)
        with gr.Group(elem_id="methods"):
            self.by_text = gr.CheckboxGroup(
                **text,
                label="Methods that need only class names",
                show_select_all=True,
                elem_id="by-text",
            )
            self.by_marks = gr.CheckboxGroup(
                **marks,
                label="Methods that need a point or a box for every class",
                show_select_all=True,
                elem_id="by-marks",
            )
        self.methods_note = gr.HTML(self._methods_note(DEFAULT_PRESET), elem_id="methods-note")
        with gr.Row():
            self.start = gr.Button("Run", variant="primary", elem_id="run", scale=3)
            self.live = gr.Checkbox(
                True,
                label="Again at every click",
                info="After a run, a new point or box runs the methods again.",
                elem_id="live",
                scale=4,
            )
        self.stale = gr.HTML(elem_id="stale")
        self.status = gr.HTML(elem_id="status")
        self.threshold = gr.Slider(
            -10,
            10,
            0,
            step=0.1,
            label="Threshold",
            info="Pixels whose logit is above it are mask; nothing runs again.",
            elem_id="threshold",
        )
        with gr.Row():
            self.opacity = gr.Slider(
                0, 1, 0.5, step=0.05, label="Opacity", info="Of the masks.", elem_id="opacity"
            )
            self.least_presence = gr.Slider(
                0,
                1,
                0,
                step=0.01,
                label="Hide classes with presence below",
                info="0 shows all.",
                elem_id="least-presence",
            )

    def _build_results(self) -> None:
        self.cards: dict[str, Card] = {}
        with gr.Row(elem_id="results"):
            for key in self.choices:
                with gr.Column(visible=False, min_width=300, elem_classes="card") as column:
                    self.cards[key] = Card(
                        column, gr.HTML(apply_default_css=False), gr.HTML(apply_default_css=False)
                    )

    def _build_truth(self) -> None:
        with gr.Accordion("Ground truth: IoU and Dice per class and method", open=False):
            gr.HTML(
                "A mask as large as the picture: black and white, or ids as palette PNG, grey or "
                "16-bit grey. Values are read as they are."
            )
            with gr.Row():
                self.truth_file = gr.File(
                    label="Mask file",
                    type="filepath",
                    height=140,
                    elem_id="truth-file",
                )
                self.truth_names = gr.Textbox(
                    label="Names of its ids",
                    info="Optional, index = id: “background, dog, cat”, or JSON. Without it: "
                    "id 1 is the first class, or a black and white mask is the chosen class.",
                    elem_id="truth-names",
                )
            self.truth_message = gr.HTML(elem_id="truth-message")
            self.table = gr.HTML(apply_default_css=False, elem_id="scores")

    # ---- events ----

    def _connect(self) -> None:
        quick = {
            "queue": False,
            "trigger_mode": "always_last",
            "show_progress": "hidden",
            "api_visibility": "private",
        }
        filed = {  # Through the queue: only there does Gradio notice that a state changed.
            "trigger_mode": "always_last",
            "show_progress": "hidden",
            "api_visibility": "private",
        }
        heavy = {
            "concurrency_id": "gpu",
            "concurrency_limit": 1,
            "show_progress_on": [self.status],
            "api_visibility": "private",
        }
        scores = [self.truth_message, self.table]
        results = [self.message, self.status, self.stale, self.news]
        for card in self.cards.values():
            results += [card.column, card.overlay, card.details]
        page = [*results, self.session, self.annotator, self.classes, self.truth_file]
        asked = [self.session, self.classes, self.preset, self.annotator]
        look = [self.session, self.threshold, self.least_presence]
        scored = [self.session, self.annotator, self.threshold]
        overlays = [card.overlay for card in self.cards.values()]
        offers = [self.by_text, self.by_marks, self.methods_note]
        offers += [self.downloads.fold, self.downloads.repos]

        self.upload.upload(
            self.take_upload,
            [self.session, self.upload],
            page,
            show_progress_on=[self.status],
            api_visibility="private",
        )
        self.strip.click(
            self.take_example,
            [self.session],
            page,
            show_progress="hidden",
            api_visibility="private",
        )
        self.classes.change(lambda text: with_classes(text), self.classes, self.annotator, **quick)
        self.preset.change(
            self.take_preset,
            [self.preset, self.by_text, self.by_marks],
            [self.downloads.message, *offers],
            **quick,
        )
        self.downloads.start.click(
            self.download,
            [self.preset, self.downloads.repos, self.by_text, self.by_marks],
            [self.downloads.message, *offers],
            concurrency_id="download",
            concurrency_limit=1,
            show_progress_on=[self.downloads.message],
            api_visibility="private",
        )
        self.annotator.input(
            lambda live, *asked: gr.skip() if live else self.freshness(*asked),
            [self.live, *asked],
            self.stale,
            **quick,
        )
        inputs = [*asked, self.by_text, self.by_marks, self.threshold, self.least_presence]
        gr.on([self.start.click, self.classes.submit], self.run, inputs, results, **heavy)
        self.annotator.input(
            self.run_again, [*inputs, self.live], results, trigger_mode="always_last", **heavy
        )
        # Answers may overtake each other, but not those of one listener, which asks again only
        # when it has been answered: so each thing shown has one, and news make it ask once more.
        gr.on(
            [self.threshold.change, self.least_presence.change, self.news.change],
            self.redraw,
            look,
            overlays,
            **quick,
        )
        gr.on(
            [self.threshold.change, self.annotator.select, self.news.change],
            self.score,
            scored,
            scores,
            **quick,
        )
        gr.on(
            [self.classes.change, self.preset.change, self.news.change],
            self.freshness,
            asked,
            self.stale,
            **quick,
        )
        self.opacity.change(
            None,
            self.opacity,
            js="value => {document.documentElement.style.setProperty('--opacity', value)}",
            api_visibility="private",
        )
        gr.on(
            [self.truth_file.upload, self.truth_names.submit, self.truth_names.blur],
            self.take_truth,
            [self.session, self.truth_file, self.truth_names],
            self.news,
            **filed,
        )
        self.truth_file.clear(self.drop_truth, self.session, self.news, **filed)

    # ---- pictures ----

    def take_upload(self, session: Session, path: str | None) -> Updates:
        """Show an uploaded picture, or say what is wrong with it."""
        if path is None:
            return {self.message: _problem("The upload was empty. Choose a picture.")}
        try:
            image = open_image(path)
        except ImageError as error:
            return {self.message: _problem(str(error))}
        return self._show(session, image)

    def take_example(self, session: Session, chosen: gr.EventData) -> Updates:
        """Show an example, with its classes and its ground truth."""
        example = self.examples[int(chosen.index)]
        updates = self._show(session, example.image, example.truth)
        return {**updates, self.classes: example.classes}

    def _show(self, session: Session, image: np.ndarray, truth: TruthFile | None = None) -> Updates:
        session.show(image, truth)
        updates: Updates = {
            self.session: session,  # Unchanged, but Gradio forgets in time what it saw returned.
            self.message: "",
            self.status: "",
            self.stale: "",
            self.annotator: with_picture(image),
            self.truth_file: None,
            self.news: session.next_news(),
        }
        for card in self.cards.values():
            updates |= {card.column: gr.Column(visible=False), card.overlay: "", card.details: ""}
        return updates

    # ---- methods ----

    def _ready(self, preset: str) -> list[Choice]:
        chosen = find_preset(preset)
        return [choice for choice in self.choices.values() if not choice.problem(chosen)]

    def _offers(self, preset: str, keys: Collection[str]) -> list[dict[str, object]]:
        """For the choices by class names and for those by marks: which are ready and ticked."""
        offers = []
        for needs_marks in (False, True):
            ready = [one for one in self._ready(preset) if one.needs_marks == needs_marks]
            offers.append(
                {
                    "choices": [(choice.title, choice.key) for choice in ready],
                    "value": [choice.key for choice in ready if choice.key in keys],
                    "visible": bool(ready),
                }
            )
        return offers

    def _methods_note(self, preset: str) -> str:
        """What each method does, and why some cannot be chosen."""
        chosen = find_preset(preset)
        lines: dict[str, list[str]] = {"method": [], "baseline": []}
        missing = 0
        for info in (method.info for method in methods().values()):
            problem = why_not(info.id, chosen)
            missing += bool(problem)
            style = " class='off'" if problem else ""
            why = f" <em>Not available: {escape(problem)}.</em>" if problem else ""
            lines[info.kind].append(
                f"<li{style}><b>{escape(info.name)}</b> ({escape(', '.join(info.modes))}): "
                f"{escape(info.summary)}{why}</li>"
            )
        title = (
            f"What they do; {missing} not available with {preset}" if missing else "What they do"
        )
        opened = "" if self._ready(preset) else " open"
        return (
            f"<details{opened}><summary>{title}</summary>"
            f"<h4>The papers' methods</h4><ul>{''.join(lines['method'])}</ul>"
            f"<h4>Baselines</h4><ul>{''.join(lines['baseline'])}</ul></details>"
        )

    def offer_methods(
        self, preset: str, by_text: Sequence[str], by_marks: Sequence[str]
    ) -> Updates:
        """The methods that can run with a preset; what is ticked stays so where any of it can."""
        ticked = {*by_text, *by_marks}
        if not any(choice.key in ticked for choice in self._ready(preset)):
            ticked = DEFAULT_KEYS
        text, marks = self._offers(preset, ticked)
        return {
            self.by_text: gr.CheckboxGroup(**text),
            self.by_marks: gr.CheckboxGroup(**marks),
            self.methods_note: self._methods_note(preset),
        }

    def take_preset(self, preset: str, by_text: Sequence[str], by_marks: Sequence[str]) -> Updates:
        """Offer what another preset has."""
        return {
            self.downloads.message: "",
            **self.downloads.offer(preset),
            **self.offer_methods(preset, by_text, by_marks),
        }

    def download(
        self,
        preset: str,
        repos: Sequence[str],
        by_text: Sequence[str],
        by_marks: Sequence[str],
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio knows it by this default)
    ) -> Updates:
        """Get the ticked weights, and offer the methods that can run now."""
        try:
            said = _note(get_ticked(preset, repos, progress))
        except (PromptError, WeightsError) as error:
            said = _problem(str(error))
        return {
            self.downloads.message: said,
            **self.downloads.offer(preset, repos),
            **self.offer_methods(preset, by_text, by_marks),
        }

    # ---- running ----

    def run(
        self,
        session: Session,
        classes: str,
        preset: str,
        marks: object,
        by_text: Sequence[str],
        by_marks: Sequence[str],
        threshold: float,
        least_presence: float,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio knows it by this default)
    ) -> Iterator[Updates]:
        """Run the ticked methods one by one; each shows its card as soon as it has answered."""
        earlier = session.run
        keys = {*by_text, *by_marks}
        chosen = [choice for key, choice in self.choices.items() if key in keys]
        try:
            run = self._asked(session, classes, preset, marks, chosen)
        except PromptError as error:
            yield {self.message: _problem(str(error))}
            return
        session.run = run
        yield {self.message: "", self.status: "", self.stale: "", **self._prepared(chosen, earlier)}
        steps = len(chosen) * len(run.prompt.concepts)
        for number, choice in enumerate(chosen):
            before = number * len(run.prompt.concepts)
            progress((before, steps), desc=choice.title, unit="classes")

            def step(done: int, _: int, before: int = before, choice: Choice = choice) -> None:
                progress((before + done, steps), desc=choice.title, unit="classes")

            card = self.cards[choice.key]
            self._predict(run, choice, step)
            if session.run is not run:
                return
            prediction = run.predictions.get(choice.key)
            yield {
                card.overlay: _overlay(choice, run, threshold, least_presence),
                card.details: "" if prediction is None else cards.details(prediction),
            }
        seconds = sum(prediction.total_seconds for prediction in run.predictions.values())
        yield {
            self.status: _note(f"{len(run.predictions)} of {len(chosen)} done in {seconds:.2f} s."),
            self.news: session.next_news(),  # A slider may have moved while the methods ran.
        }

    def run_again(
        self,
        session: Session,
        classes: str,
        preset: str,
        marks: object,
        by_text: Sequence[str],
        by_marks: Sequence[str],
        threshold: float,
        least_presence: float,
        live: bool,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[Updates]:
        """Run after a point or box was set, if the user has run before and wants it so."""
        if live and session.run is not None:
            yield from self.run(
                session,
                classes,
                preset,
                marks,
                by_text,
                by_marks,
                threshold,
                least_presence,
                progress,
            )
        else:
            yield {self.status: gr.skip()}  # Gradio empties the outputs of a run without any yield.

    def _asked(
        self,
        session: Session,
        classes: str,
        preset: str,
        marks: object,
        chosen: Sequence[Choice],
    ) -> Run:
        if session.scene is None:
            raise PromptError("There is no picture yet: upload one, or click an example.")
        if not chosen:
            raise PromptError("Tick at least one method.")
        prompt = read_prompt(classes, marks)
        prompt.check_inside(session.scene.size)
        return Run(session.scene, prompt, find_preset(preset).name)

    def _prepared(self, chosen: Sequence[Choice], earlier: Run | None) -> Updates:
        """Cards before a run: the chosen ones shown, with what they showed before, if anything."""
        updates: Updates = {}
        for key, card in self.cards.items():
            choice = self.choices[key]
            updates[card.column] = gr.Column(visible=choice in chosen)
            if earlier is None or key not in earlier.predictions:
                updates |= {card.overlay: cards.waiting(choice), card.details: ""}
        return updates

    def _predict(self, run: Run, choice: Choice, step: Callable[[int, int], None]) -> None:
        """Let one method answer, or note why it could not. Others must not suffer."""
        try:
            predictor = self.models.predictor(run.preset, choice.method)
            options = Options(mode=choice.mode)
            run.predictions[choice.key] = predictor.predict(run.scene, run.prompt, options, step)
        except (PromptError, WeightsError) as error:
            run.failures[choice.key] = str(error)
        except Exception:
            logger.exception("%s failed", choice.title)
            run.failures[choice.key] = (
                f"{choice.title} failed unexpectedly; the server's log says why."
            )

    def freshness(self, session: Session, classes: str, preset: str, marks: object) -> str:
        """Say so when the results shown answer an earlier question."""
        if session.run is None:
            return ""
        try:
            fresh = session.run.answers(read_prompt(classes, marks), preset)
        except PromptError:
            fresh = False
        if fresh:
            return ""
        return _note("The results below answer what you asked before. Press Run.")

    # ---- looking ----

    def redraw(self, session: Session, threshold: float, least_presence: float) -> list[object]:
        """Draw all masks anew from the predictions at hand."""
        run = session.run
        return [
            gr.skip() if run is None else _overlay(choice, run, threshold, least_presence)
            for choice in self.choices.values()
        ]

    # ---- ground truth ----

    def take_truth(self, session: Session, path: str | None, names: str) -> object:
        """Remember an uploaded ground truth, or what is wrong with it."""
        if path is None:
            return gr.skip()
        try:
            session.take_truth(TruthFile(open_mask(path), read_names(names)))
        except (ImageError, TruthError) as error:
            session.take_truth(None, str(error))
        return session.next_news()

    def drop_truth(self, session: Session) -> int:
        """Forget the ground truth."""
        session.take_truth(None)
        return session.next_news()

    def score(self, session: Session, marks: object, threshold: float) -> tuple[str, str]:
        """Message and table of the ground truth for the results at hand."""
        if session.truth_problem:
            return _problem(session.truth_problem), ""
        if session.truth_file is None:
            return "", ""
        if session.run is None:
            return _note("It will be compared with the results as soon as you press Run."), ""
        try:
            truth = session.truth(active_class(marks))
        except TruthError as error:
            return _problem(str(error)), ""
        titles = {key: choice.title for key, choice in self.choices.items()}
        # A copy: a run in progress may add to it.
        rows = score_table(dict(session.run.predictions), titles, truth, threshold)
        return "", table_html(rows)

    def warm_up(self) -> None:
        """Load the models that a first Run will ask for, while the user looks at the page."""
        ready = {choice.key: choice for choice in self._ready(DEFAULT_PRESET)}
        for key in DEFAULT_KEYS:
            if key in ready:
                self.models.warm_up(DEFAULT_PRESET, ready[key].method)


def _overlay(choice: Choice, run: Run, threshold: float, least_presence: float) -> object:
    """What a card shows of a run; as before while its method has not answered."""
    if choice.key in run.failures:
        return cards.failed(choice, run.failures[choice.key])
    if choice.key in run.predictions:
        return cards.overlay(choice, run.predictions[choice.key], threshold, least_presence)
    return gr.skip()


def _problem(sentence: str) -> str:
    return f"<p class='problem' role='alert'>{escape(sentence)}</p>"


def _note(sentence: str) -> str:
    return f"<p class='note' role='status'>{escape(sentence)}</p>"
