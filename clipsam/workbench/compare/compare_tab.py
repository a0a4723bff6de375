"""The Compare tab: one image, several classes, several methods, side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from ...data.images import ImageError, load_image
from ...data.readers import DataError
from ...encoded_image import EncodedImage
from ...errors import PromptError
from ...evaluation.truth import TruthFile
from ..adapt.adapt_tab import AdaptState, AdaptTab
from ..bundles import SessionBundles
from ..choices import DEFAULT_KEYS
from ..evaluate.evaluate_tab import EvaluateTab
from ..evaluate.measuring import EvaluateSession
from ..events import FILED, LATEST, ON_GPU, PRIVATE, QUICK, Updates, Values, note, problem
from ..examples import all_examples
from ..image_store import ImageStore
from ..model_store import ModelStore
from ..picker import DEFAULT_PRESET, MethodPicker, ready
from ..presence import caller_is_there
from ..stop_button import StopButton
from ..thumbnail_strip import Thumbnail, strip, strip_html, thumbnail
from .annotator import annotator, prompt_if_any, with_classes, with_picture
from .card_grid import CardGrid
from .display_panel import DisplayPanel
from .images_panel import ImagesPanel
from .prompt_panel import PromptPanel
from .run_request import RunControls, RunRequest
from .running import answers, run_all
from .session import MAX_ANSWER_BYTES, MAX_IMAGES, Batch, OpenImage, Session
from .share_link import read_link
from .share_panel import SharePanel
from .suggest_panel import SuggestPanel
from .summary_panel import SummaryPanel
from .truth_panel import TruthPanel

HERE = Path(__file__).parent

EARLIER = "Earlier runs (click to restore)"

STEPS = """<ol>
<li><b>Choose an image.</b> Click an example, or drop one or several images on the box.</li>
<li><b>Say what to find.</b> Type class names above, or press Suggest.</li>
<li><b>Run.</b> Each method shows its masks here, one beside the other.</li>
</ol>"""
"""What a new user does first, shown until the first run."""

RUN_LINKED = """() => {
  if (!new URLSearchParams(location.search).get("picture")) return;
  const last = performance.now() + 10000;
  const look = () => {
    if (document.querySelector("#annotator .filled")) document.querySelector("#run").click();
    else if (performance.now() < last) setTimeout(look, 50);
  };
  look();
}"""
"""JavaScript that runs the methods once the image of a shared link is shown."""

DROPPED = (
    "The results for this image were dropped to save memory, because there are newer ones for "
    "others. Press Run to get them again."
)

WAITING = "Others are using the models. Your methods run as soon as it is their turn."
"""Shown until the first result of a run that began while another request had its turn."""


class CompareTab:
    """Layout and events of the tab; user data lives in the :class:`Session` only."""

    def __init__(
        self, models: ModelStore, bundles: gr.State, images: ImageStore | None = None
    ) -> None:
        """Build the tab inside the open ``gr.Blocks``.

        Args:
            models: the loaded models.
            bundles: bundles trained in the session.
            images: of all sessions; ``None`` for a store of its own.
        """
        self.models = models
        self.images = images or ImageStore()
        self.bundles = bundles
        self.examples = all_examples()
        self.session = gr.State(Session())
        self.version = gr.State(0)
        with gr.Column(elem_id="desk"):
            with gr.Column(elem_id="bar"):
                self._build_bar()
            with gr.Column(elem_id="picture"):
                self._build_picture()
            with gr.Column(elem_id="answers"):
                self.display = DisplayPanel(self.annotator)
                gr.HTML(js_on_load=(HERE / "desk.js").read_text(), elem_id="desk-script")
                self.status = gr.HTML(elem_id="status")
                self.steps = gr.HTML(STEPS, elem_id="steps")
                self.cards = CardGrid(self.session, self.display)
        self.prompting = PromptPanel()
        self.controls = RunControls(
            self.session,
            self.classes,
            self.annotator,
            self.picker,
            self.prompting,
            self.display,
        )
        self.summary = SummaryPanel(self.session, self.display)
        self.share = SharePanel(self.message, self.controls)
        self.truth = TruthPanel(self.session, self.display)
        self._connect()

    # ---- layout ----

    def _build_bar(self) -> None:
        with gr.Row(elem_id="bar-line"):
            self.classes = gr.Textbox(
                label="Classes",
                placeholder="dog; puppy, grass",
                scale=7,
                min_width=220,
                elem_id="classes",
            )
            self.suggest = SuggestPanel()
            self.picker = MethodPicker(self.bundles)
            self.start = gr.Button("Run", variant="primary", elem_id="run", scale=2, min_width=80)
            self.stop = StopButton("stop")
        self.suggest.build_line()
        self.message = gr.HTML(elem_id="message")
        self.stale = gr.HTML(elem_id="stale")

    def _build_picture(self) -> None:
        self.annotator = annotator()
        self.live = gr.Checkbox(
            True,
            label="Rerun when a point or box is set",
            container=False,
            elem_id="live",
        )
        self.images_panel = ImagesPanel()
        with gr.Group(elem_id="picture-upload"):
            self.upload = gr.UploadButton(
                "Choose other images (or paste or drop them)", file_count="multiple", size="sm"
            )
        items = [Thumbnail(one.image, one.title, one.classes) for one in self.examples]
        self.strip = strip("Examples", items, "examples")
        self.history_strip = strip(EARLIER, [], "past", visible=False)

    # ---- events ----

    def _connect(self) -> None:
        heavy: dict[str, Any] = {
            "trigger_mode": "always_last",  # A request made while another run ends is not lost.
            "show_progress_on": [self.status],
            **ON_GPU,
            **PRIVATE,
        }
        results: list[gr.blocks.Block] = [
            self.message,
            self.status,
            self.stale,
            self.version,
            self.history_strip,
            self.steps,
        ]
        results += [self.share.archive, self.stop.button, *self.cards.outputs]
        results += self.images_panel.outputs
        self._page = page = [*results, self.session, self.annotator, self.classes, self.truth.file]
        page.append(self.suggest.line)
        picker = self.picker
        requests: set[gr.blocks.Block] = {self.session, self.classes, self.annotator}
        requests |= {picker.preset, *self.prompting.inputs}
        self.upload.upload(
            self.take_upload,
            [self.session, self.upload],
            page,
            show_progress_on=[self.status],
            **PRIVATE,
        )
        self.strip.click(self.take_example, [self.session, self.annotator], page, **FILED)
        self.images_panel.strip.click(
            self.open_image, [self.session, self.annotator], page, **FILED
        )
        self.history_strip.click(
            self.restore,
            [self.session, self.bundles, self.annotator],
            [*page, picker.preset, *picker.offered, *self.prompting.inputs],
            **FILED,
        )
        self.classes.change(lambda text: with_classes(text), self.classes, self.annotator, **LATEST)
        self.annotator.input(
            lambda values: gr.skip() if values[self.live] else self.freshness(values),
            {self.live, *requests},
            self.stale,
            **LATEST,
        )
        gr.on(
            [self.annotator.input, self.classes.change, self.version.change, picker.methods.input],
            self.follow,
            {self.classes, self.annotator, *picker.inputs},
            picker.methods,
            **LATEST,
        )
        inputs = self.controls.inputs
        starts = [self.start.click, self.classes.submit]
        all_start = self.images_panel.start.click
        self.stop.connect(self.session, [*starts, all_start])
        runs = [
            gr.on(starts, self.run, inputs, results, **heavy),
            all_start(self.run_all, inputs, results, **heavy),
            self.annotator.input(self.run_again, {*inputs, self.live}, results, **heavy),
        ]
        for run in runs:
            self.stop.rest_after(run)
        # Answers may overtake each other, but not those of one listener, which asks again only
        # when it has been answered: so each thing shown has one, and news make it ask once more.
        display = self.display
        changes = [display.threshold.change, display.overlap.change, self.version.change]
        changes += [self.annotator.select]
        drawn = [*changes, display.min_presence.change, display.view.change]
        self.cards.connect(self.version, drawn)
        self.truth.connect(self.version, changes)
        self.summary.connect(changes)
        self.share.connect(self.status)
        self.suggest.connect(
            self.models,
            self.session,
            (self.classes, picker.preset),
            (self.message, self.status),
        )
        gr.on(
            [
                self.classes.change,
                picker.preset.change,
                self.version.change,
                *self.prompting.changes,
            ],
            self.freshness,
            requests,
            self.stale,
            **LATEST,
        )

    def open_links(self, page: gr.Blocks) -> None:
        """Restore the state encoded in the page URL, and run it if its image is available."""
        page.load(
            self.open_link,
            [self.session, self.bundles],
            [*self._page, self.picker.preset, *self.picker.offered, *self.display.inputs],
            **FILED,
        ).then(None, None, None, js=RUN_LINKED, **PRIVATE)

    def join(self, other: AdaptTab) -> None:
        """Connect the Adapt tab: send masks there as labels, offer bundles trained there."""
        for index, sends in enumerate(self.cards.senders):
            sends(
                self._sender(index, other),
                {self.session, other.state, *self.display.inputs},
                [self.message, self.status, other.state, *other.shown],
                **FILED,
            )
        other.finished.then(
            self.picker.take_bundle,
            self.picker.inputs,
            self.picker.offered,
            **QUICK,
        )

    def open_cases_of(self, other: EvaluateTab, tabs: gr.Tabs, name: str) -> None:
        """Open a case of the Evaluate tab here when it is clicked.

        Args:
            other: the tab with the cases.
            tabs: the tabs that contain both.
            name: id of this tab.
        """

        def take(session: Session, theirs: EvaluateSession, chosen: gr.EventData) -> Updates:
            try:
                example = other.case(theirs, int(chosen.index))
                image = self.images.keep(example.image)
            except (DataError, ImageError) as error:
                return {self.message: problem(str(error)), tabs: gr.Tabs(selected=name)}
            updates = self._show(session, image, example.truth)
            return {**updates, self.classes: example.classes, tabs: gr.Tabs(selected=name)}

        other.cases.click(
            take,
            [self.session, other.session],
            [*self._page, tabs],
            **FILED,
        )

    # ---- pictures ----

    def take_upload(
        self,
        session: Session,
        paths: list[str] | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio knows it by this default)
    ) -> Updates:
        """Open uploaded images and show the first, or explain which cannot be read."""
        if not paths:
            return {self.message: problem("The upload was empty. Choose an image.")}
        images, notes, refused = [], [], []
        some = paths[:MAX_IMAGES]
        for done, path in enumerate(some):
            progress((done, len(some)), desc="Opening", unit="images")
            try:
                loaded = load_image(path)
                stored = self.images.keep(loaded.values)
            except ImageError as error:
                refused.append(str(error))
                continue
            images.append((Path(path).name, stored, thumbnail(loaded.values)))
            if loaded.note:
                notes.append(f"{images[-1][0]}: {loaded.note}" if len(some) > 1 else loaded.note)
        if len(some) < len(paths):
            refused.append(f"Only the first {MAX_IMAGES} of {len(paths)} files were opened.")
        if not images:
            return {self.message: problem(" ".join(refused))}
        awaited = session.awaited
        session.open(images)
        updates = self._show_open(session, session.images[0])
        if refused:
            updates[self.message] = problem(" ".join(refused))
        elif notes:
            updates[self.message] = note(" ".join(notes))
        image = session.current_image()
        if awaited is not None and awaited.size == image.size:
            number = session.images[0].number
            updates[self.annotator] = with_picture(image.image, awaited.value, number)
        return updates

    def open_image(self, session: Session, canvas: object, chosen: gr.EventData) -> Updates:
        """Show one of the open images, with its marks and results."""
        session.keep_marks(canvas)
        try:
            return self._show_open(session, session.images[int(chosen.index)])
        except ImageError as error:
            return {self.message: problem(str(error))}

    def _show_open(self, session: Session, image: OpenImage) -> Updates:
        pixels = image.encoded.image  # Fails here if it is no longer stored.
        updates = self._show(session, image.encoded)
        session.go_to(image)
        if image.run is not None:
            updates |= self.cards.restore(session)
        if image.was_dropped:
            updates[self.message] = note(DROPPED)
        return {
            **updates,
            self.annotator: with_picture(pixels, image.marks, image.number),
            **self.images_panel.show(session),
        }

    def take_example(self, session: Session, canvas: object, chosen: gr.EventData) -> Updates:
        """Show an example with its classes and ground truth."""
        session.keep_marks(canvas)
        example = self.examples[int(chosen.index)]
        updates = self._show(session, example.image, example.truth, example.title)
        return {**updates, self.classes: example.classes}

    def open_link(self, session: Session, bundles: SessionBundles, request: gr.Request) -> Updates:
        """Restore the state encoded in the page URL, if any."""
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
            **self.display.show(question.display),
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
            f"This link refers to an uploaded image of {width} × {height} pixels, which is not "
            "part of the link. Upload the image, then press Run."
        )
        return {**updates, self.session: session, self.message: note(said)}

    def restore(
        self, session: Session, bundles: SessionBundles, canvas: object, chosen: gr.EventData
    ) -> Updates:
        """Restore an earlier run: image, classes, marks, methods and results."""
        session.keep_marks(canvas)
        entry = session.history[int(chosen.index)]
        try:
            updates = self._show(session, entry.run.encoded)
        except ImageError as error:
            return {self.message: problem(str(error))}
        session.restore(entry)
        run = entry.run
        return {
            **updates,
            **self.cards.restore(session),
            self.classes: entry.classes,
            self.annotator: with_picture(run.encoded.image, entry.marks),
            self.picker.preset: run.preset,
            **self.picker.offer(bundles, run.preset, run.titles),
            **self.prompting.show(run.options),
        }

    def _show(
        self,
        session: Session,
        image: np.ndarray | EncodedImage,
        truth: TruthFile | None = None,
        example: str = "",
    ) -> Updates:
        pixels = image.image if isinstance(image, EncodedImage) else image
        session.show(image, truth, example)
        return {
            self.session: session,  # Unchanged, but Gradio forgets in time what it saw returned.
            self.message: "",
            self.status: "",
            self.stale: "",
            self.annotator: with_picture(pixels),
            self.truth.file: None,
            self.version: session.next_version(),
            **self.cards.hide(session),
            **self.share.forget(),
            **self.suggest.forget(),
            **self.images_panel.show(session),
        }

    # ---- running ----

    def run(
        self,
        values: Values,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio knows it by this default)
    ) -> Iterator[Updates]:
        """Run the selected methods one by one; each shows its card as soon as it has finished."""
        yield from self._run(RunRequest.read(self.controls, values), progress)

    def run_again(
        self,
        values: Values,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[Updates]:
        """Rerun after a point or box was set, if there was a run before and the option is on."""
        session: Session = values[self.session]
        session.keep_marks(values[self.annotator])
        stale = self.freshness(values)
        # A Run pressed right after the click may have taken it along.
        if values[self.live] and stale and session.batch is None:
            request = RunRequest.read(self.controls, values)
            self.stop.begin(request.session)
            yield from self._run(request, progress, goes_on=True)
        elif values[self.live]:
            yield {self.stale: stale}
        else:
            yield {self.status: gr.skip()}  # Gradio empties the outputs of a run without any yield.

    def _run(
        self, request: RunRequest, progress: gr.Progress, goes_on: bool = False
    ) -> Iterator[Updates]:
        """Run the methods; with ``goes_on``, unchanged classes keep their results."""
        session, chosen = request.session, request.choices
        if session.stopped:
            yield {self.status: note("Stopped before it started.")}
            return
        if not session.shows(request.marks):  # Another image is shown by now.
            yield {self.status: gr.skip()}
            return
        session.keep_marks(request.marks)
        before = session.run
        try:
            run = request.new_run()
        except PromptError as error:
            yield {self.message: problem(str(error))}
            return
        image = session.current
        session.end_batch()
        session.begin(run)
        yield {**self._begun(), **self.cards.begin(session, before)}
        is_there = caller_is_there()
        found = answers(
            self.models,
            run,
            lambda: run.stopped or not session.is_latest(run) or not is_there(),
            before if goes_on else None,
        )
        with closing(found):
            for index, result, done in found:
                progress(done, desc=chosen[index].title, unit="classes")
                if session.run is run and result is not None:
                    yield self.cards.answer(session, index, request.display)
                if run.stopped or not session.is_latest(run):
                    break
        if image is not None:
            if image is not session.current:
                run.encoded = image.encoded  # Without features.
            session.bound_answers(image)
        if session.run is not run:
            yield self.images_panel.show(session)
            return
        if run.predictions:
            session.remember(request.classes, request.marks)
        seconds = sum(prediction.total_seconds for prediction in run.predictions.values())
        stopped = "Stopped: " if run.stopped else ""
        summary = f"{len(run.predictions)} of {len(chosen)} methods done in {seconds:.2f} s."
        yield {
            self.status: note(stopped + summary),
            self.version: session.next_version(),  # A slider may have moved while the methods ran.
            self.history_strip: gr.HTML(_earlier(session), visible=bool(session.history)),
            **self.images_panel.show(session),
        }

    def run_all(
        self,
        values: Values,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[Updates]:
        """Run the selected methods on all open images; those of the image shown appear at once."""
        session: Session = values[self.session]
        if session.stopped:
            yield {self.status: note("Stopped before it started.")}
            return
        session.keep_marks(values[self.annotator])
        session.end_batch()
        session.batch = batch = Batch()
        display, began = self.display.read(values), time.monotonic()
        steps = run_all(
            self.models,
            session,
            batch,
            lambda image, pixels: RunRequest.read(self.controls, values, image).new_run(pixels),
            caller_is_there(),
        )
        yield self._begun()
        try:
            with closing(steps):
                for image, run, answer, share in steps:
                    progress(share, desc=image.name)
                    is_shown = session.run is run
                    if answer is None:
                        updates = self.images_panel.show(session)
                        if is_shown and not run.has_ended:
                            updates |= self.cards.begin(session, None)
                        elif is_shown:
                            updates[self.version] = session.next_version()
                        yield updates
                    elif is_shown and answer.result is not None:
                        yield self.cards.answer(session, answer.method_index, display)
        except PromptError as error:
            yield {self.message: problem(str(error)), self.status: ""}
            return
        finally:
            is_replaced = session.batch is not batch
            if not is_replaced:
                session.batch = None
        if not is_replaced:
            stopped = "Stopped: " if batch.stopped else ""
            yield {self.status: note(stopped + _summary(session, time.monotonic() - began))}

    def _begun(self) -> Updates:
        """Update what every run changes when it begins."""
        return {
            self.message: "",
            self.status: note(WAITING) if self.models.turns.is_busy else "",
            self.stale: "",
            self.steps: gr.HTML(visible=False),
            **self.stop.offer(),
            **self.share.forget(),
        }

    def freshness(self, values: Values) -> str:
        """Return a message if the results shown belong to an earlier prompt."""
        run = values[self.session].run
        if run is None:
            return ""
        prompt = prompt_if_any(values[self.classes], values[self.annotator])
        same = prompt is not None and run.answers(prompt, values[self.picker.preset])
        if same and self.prompting.sets(run.options, values):
            return ""
        return note("The results belong to an earlier prompt. Press Run.")

    def follow(self, values: Values) -> object:
        """Update the default methods when points or boxes come or go."""
        prompt = prompt_if_any(values[self.classes], values[self.annotator])
        return self.picker.follow(values, prompt)

    def _sender(self, index: int, other: AdaptTab) -> Callable[..., Updates]:
        """Return the listener that sends a card's masks to the Adapt tab as labels."""

        def send(values: Values) -> Updates:
            theirs: AdaptState = values[other.state]
            run, display = values[self.session].run, self.display.read(values)
            result = None if run is None else run.prediction_at(index)
            if result is None:
                return {self.message: gr.skip()}
            each = result.each_mask(display.threshold, None, display.overlap)
            likely = np.nan_to_num(result.presence, nan=1.0) >= display.min_presence
            masks = {
                text: mask
                for text, mask, shown in zip(result.texts, each, likely, strict=True)
                if shown and mask.any()
            }
            if not masks:
                return {self.message: problem("This card shows no mask to use as a label.")}
            try:
                other.add(theirs, run.encoded.image, masks)
            except (DataError, ImageError) as error:
                return {self.message: problem(str(error))}
            count = len(theirs.pictures)
            pictures = "image is" if count == 1 else "images are"
            return {
                self.message: "",
                self.status: note(f"Sent. {count} labelled {pictures} now in the Adapt tab."),
                other.state: theirs,
                **other.show(theirs),
            }

        return send

    def warm_up(self) -> None:
        """Load the models that a first run will need while the user reads the page."""
        for choice in ready(SessionBundles(), DEFAULT_PRESET):
            if choice.key in DEFAULT_KEYS:
                self.models.warm_up(DEFAULT_PRESET, choice.method)


def _summary(session: Session, seconds: float) -> str:
    """Say in how many open images every method has a result, and what is missing."""
    images = session.images
    done = sum(image.run is not None and not image.run.failures for image in images)
    said = [f"{done} of {len(images)} images done in {seconds:.2f} s."]
    failed = [one.name for one in images if one.run is not None and one.run.failures]
    if failed:
        said.append(f"Click these to see what is missing: {', '.join(failed)}.")
    dropped = [one.name for one in images if one.was_dropped]
    if dropped:
        said.append(
            f"Results of at most {MAX_ANSWER_BYTES // 2**20} MB are kept; those for these images "
            f"were dropped: {', '.join(dropped)}."
        )
    return " ".join(said)


def _earlier(session: Session) -> str:
    """Format the strip of earlier runs."""
    items = []
    for entry in session.history:
        try:
            image = entry.run.encoded.image
        except ImageError:  # Deleted for others; clicking it says so.
            image = np.full((64, 64, 3), 127, np.uint8)
        about = f"{len(entry.run.choices)} methods, {entry.run.preset}"
        items.append(Thumbnail(image, entry.classes, about))
    return strip_html(EARLIER, items)
