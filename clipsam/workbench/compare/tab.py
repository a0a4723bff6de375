"""The Compare tab: one picture, several classes, several methods, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import gradio as gr
import numpy as np

from ...data.images import ImageError, open_image
from ...data.readers import DataError
from ...errors import PromptError
from ...evaluation.truth import TruthFile
from ...registry import count_parameters
from ...types import Prediction
from ..adapt.tab import AdaptState, AdaptTab
from ..bundles import SessionBundles
from ..choices import DEFAULT_KEYS, Choice
from ..evaluate.measuring import EvaluateSession
from ..evaluate.tab import EvaluateTab
from ..events import FILED, LATEST, ON_GPU, PRIVATE, QUICK, Updates, Values, note, problem
from ..examples import all_examples
from ..models import ModelStore
from ..picker import DEFAULT_PRESET, MethodPicker, ready
from ..stop_button import StopButton
from ..strip import Item, strip, strip_html
from ..zero_gpu import ON_ZERO_GPU, Asked, predict_all
from .annotator import annotator, read_prompt, with_classes, with_picture
from .card_grid import CardGrid
from .link import read_link
from .look_panel import LookPanel
from .run_request import RunControls, RunRequest
from .session import Run, Session
from .share_panel import SharePanel
from .summary_panel import SummaryPanel
from .truth_panel import TruthPanel

EARLIER = "Earlier runs of this session: click one to come back to it"

RUN_LINKED = """() => {
  if (!new URLSearchParams(location.search).get("picture")) return;
  const last = performance.now() + 10000;
  const look = () => {
    if (document.querySelector("#annotator .filled")) document.querySelector("#run").click();
    else if (performance.now() < last) setTimeout(look, 50);
  };
  look();
}"""
"""A link about a picture that is here is answered as soon as the browser shows it."""


class CompareTab:
    """Layout and events; keeps no user's data, all of which is in the :class:`Session`."""

    def __init__(self, models: ModelStore, bundles: gr.State) -> None:
        """Build the tab inside the ``gr.Blocks`` that is open.

        Args:
            models: what runs.
            bundles: what the session has trained.
        """
        self.models = models
        self.bundles = bundles
        self.examples = all_examples()
        self.session = gr.State(Session())
        self.news = gr.State(0)
        with gr.Row(elem_id="desk"):
            with gr.Column(scale=6, min_width=320):
                self._build_picture()
            with gr.Column(scale=5, min_width=320):
                self._build_controls()
        self.controls = RunControls(
            self.session, self.classes, self.annotator, self.picker, self.look
        )
        self.cards = CardGrid(self.session, self.look)
        self.summary = SummaryPanel(self.session, self.look)
        self.share = SharePanel(self.message, self.controls)
        self.truth = TruthPanel(self.session, self.look)
        self._connect()

    # ---- layout ----

    def _build_picture(self) -> None:
        with gr.Group(elem_id="picture-upload"):
            self.upload = gr.UploadButton("Upload a picture, or paste or drop one", size="sm")
        self.message = gr.HTML(elem_id="message")
        self.annotator = annotator()
        items = [Item(one.image, one.title, one.classes) for one in self.examples]
        self.strip = strip("Examples: click one, then Run", items, "examples")
        self.past = strip(EARLIER, [], "past", visible=False)

    def _build_controls(self) -> None:
        self.classes = gr.Textbox(
            label="Classes",
            info="Comma between classes, semicolon between names of one class.",
            placeholder="dog; puppy, grass",
            elem_id="classes",
        )
        self.picker = MethodPicker(self.bundles)
        with gr.Row():
            self.start = gr.Button("Run", variant="primary", elem_id="run", scale=3)
            self.stop = StopButton("stop")
            self.live = gr.Checkbox(
                True,
                label="Again at every click",
                info="After a run, a new point or box runs the methods again for its class.",
                elem_id="live",
                scale=4,
            )
        self.stale = gr.HTML(elem_id="stale")
        self.status = gr.HTML(elem_id="status")
        self.look = LookPanel(self.annotator)

    # ---- events ----

    def _connect(self) -> None:
        heavy = {
            "trigger_mode": "always_last",  # What is asked while another run ends is not lost.
            "show_progress_on": [self.status],
            **ON_GPU,
            **PRIVATE,
        }
        results = [self.message, self.status, self.stale, self.news, self.past]
        results += [self.share.archive, *self.summary.sides, self.stop.button, *self.cards.outputs]
        self._page = page = [*results, self.session, self.annotator, self.classes, self.truth.file]
        asked = {self.session, self.classes, self.annotator, self.picker.preset}
        self.upload.upload(
            self.take_upload,
            [self.session, self.upload],
            page,
            show_progress_on=[self.status],
            **PRIVATE,
        )
        self.strip.click(self.take_example, [self.session], page, **FILED)
        picker = self.picker
        self.past.click(
            self.come_back,
            [self.session, self.bundles],
            [*page, picker.preset, *picker.offered],
            **FILED,
        )
        self.classes.change(lambda text: with_classes(text), self.classes, self.annotator, **LATEST)
        self.annotator.input(
            lambda values: gr.skip() if values[self.live] else self.freshness(values),
            {self.live, *asked},
            self.stale,
            **LATEST,
        )
        inputs = self.controls.inputs
        asks = [self.start.click, self.classes.submit]
        self.stop.connect(self.session, asks)
        runs = [
            gr.on(asks, self.run, inputs, results, **heavy),
            self.annotator.input(self.run_again, {*inputs, self.live}, results, **heavy),
        ]
        for run in runs:
            self.stop.rest_after(run)
        # Answers may overtake each other, but not those of one listener, which asks again only
        # when it has been answered: so each thing shown has one, and news make it ask once more.
        look = self.look
        looks = [look.threshold.change, look.overlap.change, self.news.change]
        looks += [self.annotator.select]
        drawn = [*looks, look.least_presence.change, look.view.change]
        self.cards.connect(self.news, drawn)
        self.truth.connect(self.news, looks)
        self.summary.connect(looks)
        self.share.connect(self.status)
        gr.on(
            [self.classes.change, self.picker.preset.change, self.news.change],
            self.freshness,
            asked,
            self.stale,
            **LATEST,
        )

    def open_links(self, page: gr.Blocks) -> None:
        """Show what the page's address asks, and run it if its picture is here."""
        page.load(
            self.open_link,
            [self.session, self.bundles],
            [*self._page, self.picker.preset, *self.picker.offered, *self.look.inputs],
            **FILED,
        ).then(None, None, None, js=RUN_LINKED, **PRIVATE)

    def join(self, other: AdaptTab) -> None:
        """Send masks there as labels, and offer, ticked, what is trained there."""
        for place, sends in enumerate(self.cards.senders):
            sends(
                self._sender(place, other),
                {self.session, other.state, *self.look.inputs},
                [self.message, self.status, other.state, *other.shown],
                **FILED,
            )
        other.trained_one.then(
            self.picker.take_bundle,
            self.picker.inputs,
            self.picker.offered,
            **QUICK,
        )

    def open_cases_of(self, other: EvaluateTab, tabs: gr.Tabs, name: str) -> None:
        """Show a measured case here when it is clicked there.

        Args:
            other: the tab with the cases.
            tabs: what both are in.
            name: of this one.
        """

        def take(session: Session, theirs: EvaluateSession, chosen: gr.EventData) -> Updates:
            try:
                example = other.case(theirs, int(chosen.index))
            except DataError as error:
                return {self.message: problem(str(error)), tabs: gr.Tabs(selected=name)}
            updates = self._show(session, example.image, example.truth)
            return {**updates, self.classes: example.classes, tabs: gr.Tabs(selected=name)}

        other.cases.click(
            take,
            [self.session, other.session],
            [*self._page, tabs],
            **FILED,
        )

    # ---- pictures ----

    def take_upload(self, session: Session, path: str | None) -> Updates:
        """Show an uploaded picture, or say what is wrong with it."""
        if path is None:
            return {self.message: problem("The upload was empty. Choose a picture.")}
        try:
            image = open_image(path)
        except ImageError as error:
            return {self.message: problem(str(error))}
        awaited = session.awaited
        updates = self._show(session, image)
        if awaited is not None and awaited.size == image.shape[:2]:
            updates[self.annotator] = with_picture(image, awaited.value)
        return updates

    def take_example(self, session: Session, chosen: gr.EventData) -> Updates:
        """Show an example, with its classes and its ground truth."""
        example = self.examples[int(chosen.index)]
        updates = self._show(session, example.image, example.truth, example.title)
        return {**updates, self.classes: example.classes}

    def open_link(self, session: Session, bundles: SessionBundles, request: gr.Request) -> Updates:
        """Show what the page's address asks; nothing if it asks nothing."""
        session.shown = 0
        examples = {example.title: example for example in self.examples}
        try:
            question = read_link(request.query_params, examples)
        except PromptError as error:
            return {self.message: problem(str(error))}
        if question is None:
            return {self.message: gr.skip()}
        updates: Updates = {
            self.classes: question.classes,
            self.picker.preset: question.preset,
            **self.look.show(question.look),
            **self.picker.offer(bundles, question.preset, question.keys),
        }
        if question.example:
            example = examples[question.example]
            shown = self._show(session, example.image, example.truth, example.title)
            marked = with_picture(example.image, question.value)
            return {**updates, **shown, self.annotator: marked}
        session.awaited = question
        height, width = question.size
        said = (
            f"This link asks about a picture of {width} × {height} pixels, which stayed with its "
            "owner: upload it, then press Run."
        )
        return {**updates, self.session: session, self.message: note(said)}

    def come_back(self, session: Session, bundles: SessionBundles, chosen: gr.EventData) -> Updates:
        """Show an earlier run again: picture, classes, marks, methods and results."""
        past = session.history[int(chosen.index)]
        updates = self._show(session, past.run.scene.image)
        session.come_back(past)
        run = past.run
        return {
            **updates,
            **self.cards.come_back(session),
            **self.summary.offer(run),
            self.classes: past.classes,
            self.annotator: with_picture(run.scene.image, past.marks),
            self.picker.preset: run.preset,
            **self.picker.offer(bundles, run.preset, run.titles),
        }

    def _show(
        self,
        session: Session,
        image: np.ndarray,
        truth: TruthFile | None = None,
        example: str = "",
    ) -> Updates:
        session.show(image, truth, example)
        return {
            self.session: session,  # Unchanged, but Gradio forgets in time what it saw returned.
            self.message: "",
            self.status: "",
            self.stale: "",
            self.annotator: with_picture(image),
            self.truth.file: None,
            self.news: session.next_news(),
            **self.cards.hide(session),
            **self.share.forget(),
        }

    # ---- running ----

    def run(
        self,
        values: Values,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio knows it by this default)
    ) -> Iterator[Updates]:
        """Run the ticked methods one by one; each shows its card as soon as it has answered."""
        yield from self._run(RunRequest.read(self.controls, values), progress)

    def run_again(
        self,
        values: Values,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[Updates]:
        """Run after a point or box was set, if the user has run before and wants it so."""
        # A Run pressed right after the click may have taken it along.
        if values[self.live] and self.freshness(values):
            request = RunRequest.read(self.controls, values)
            self.stop.begin(request.session)
            yield from self._run(request, progress, goes_on=True)
        else:
            yield {self.status: gr.skip()}  # Gradio empties the outputs of a run without any yield.

    def _run(
        self, request: RunRequest, progress: gr.Progress, goes_on: bool = False
    ) -> Iterator[Updates]:
        """The same; with ``goes_on``, classes that are asked as they were keep their answers."""
        session, chosen = request.session, request.choices
        if session.stopped:
            yield {self.status: note("Stopped before it began.")}
            return
        before = session.run
        try:
            run = request.new_run()
        except PromptError as error:
            yield {self.message: problem(str(error))}
            return
        session.run = run
        yield {
            self.message: "",
            self.status: "",
            self.stale: "",
            **self.stop.offer(),
            **self.cards.begin(session, before),
            **self.share.forget(),
        }
        asked = [
            Asked(
                choice.method,
                choice.mode,
                choice.bundle,
                before.earlier(run, choice.key) if goes_on else None,
            )
            for choice in chosen
        ]
        answers = predict_all(
            self.models,
            run.scene,
            run.prompt,
            run.preset,
            asked,
            is_stopped=lambda: run.stopped or session.run is not run,
        )
        with closing(answers):
            for place, found, done in answers:
                progress(done, desc=chosen[place].title, unit="classes")
                if session.run is run and found is not None:
                    self._take(run, chosen[place], found)
                    yield self.cards.answer(session, place, request.look)
                if run.stopped or session.run is not run:
                    break
        if session.run is not run:
            return
        for choice in chosen:
            if choice.key not in run.predictions:
                run.failures.setdefault(choice.key, "Stopped before it could answer.")
        if run.predictions:
            session.remember(request.classes, request.marks)
        seconds = sum(prediction.total_seconds for prediction in run.predictions.values())
        stopped = "Stopped: " if run.stopped else ""
        done = f"{len(run.predictions)} of {len(chosen)} done in {seconds:.2f} s."
        yield {
            self.status: note(stopped + done),
            self.news: session.next_news(),  # A slider may have moved while the methods ran.
            self.past: gr.HTML(_earlier(session), visible=bool(session.history)),
            **self.summary.offer(run),
        }

    def _take(self, run: Run, choice: Choice, found: Prediction | str) -> None:
        """Note what a method answered, or why it could not."""
        if isinstance(found, str):
            run.failures[choice.key] = found
            return
        run.predictions[choice.key] = found
        if not ON_ZERO_GPU:  # there, the network was in another process
            predictor = self.models.predictor(run.preset, choice.method, choice.bundle)
            run.parameters[choice.key] = count_parameters(predictor)

    def freshness(self, values: Values) -> str:
        """Say so when the results shown answer an earlier question."""
        run = values[self.session].run
        if run is None:
            return ""
        try:
            prompt = read_prompt(values[self.classes], values[self.annotator])
            fresh = run.answers(prompt, values[self.picker.preset])
        except PromptError:
            fresh = False
        if fresh:
            return ""
        return note("The results below answer what you asked before. Press Run.")

    def _sender(self, place: int, other: AdaptTab) -> Callable[..., Updates]:
        """What a card does when its masks are to be labels."""

        def send(values: Values) -> Updates:
            theirs: AdaptState = values[other.state]
            run, look = values[self.session].run, self.look.read(values)
            found = None if run is None else run.answer_at(place)
            if found is None:
                return {self.message: gr.skip()}
            each = found.each_mask(look.threshold, None, look.overlap)
            likely = np.nan_to_num(found.presence, nan=1.0) >= look.least_presence
            masks = {
                text: mask
                for text, mask, shown in zip(found.texts, each, likely, strict=True)
                if shown and mask.any()
            }
            if not masks:
                return {self.message: problem("This card shows no mask that could be a label.")}
            try:
                other.add(theirs, run.scene.image, masks)
            except DataError as error:
                return {self.message: problem(str(error))}
            count = len(theirs.pictures)
            pictures = "picture is" if count == 1 else "pictures are"
            return {
                self.message: "",
                self.status: note(f"Sent: {count} labelled {pictures} under Adapt now."),
                other.state: theirs,
                **other.show(theirs),
            }

        return send

    def warm_up(self) -> None:
        """Load the models that a first Run will ask for, while the user looks at the page."""
        for choice in ready(SessionBundles(), DEFAULT_PRESET):
            if choice.key in DEFAULT_KEYS:
                self.models.warm_up(DEFAULT_PRESET, choice.method)


def _earlier(session: Session) -> str:
    """The strip of the runs that a session remembers."""
    items = [
        Item(
            past.run.scene.image,
            past.classes,
            f"{len(past.run.choices)} methods, {past.run.preset}",
        )
        for past in session.history
    ]
    return strip_html(EARLIER, items)
