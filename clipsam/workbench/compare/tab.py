"""The Compare tab: one picture, several classes, several methods, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import gradio as gr
import numpy as np
from gradio.utils import get_upload_folder

from ...data.images import ImageError, open_image
from ...data.readers import DataError
from ...evaluation.truth import Truth, TruthError, TruthFile
from ...predictor import count_parameters, find_preset
from ...types import Overlap, Prediction, PromptError
from ..adapt.tab import AdaptState, AdaptTab
from ..bundles import KEPT, SessionBundles
from ..choices import DEFAULT_KEYS, Choice, all_choices
from ..evaluate.measuring import EvaluateSession
from ..evaluate.tab import EvaluateTab
from ..examples import all_examples
from ..method_cards import one_card
from ..models import ModelStore
from ..notes import Updates, note, problem
from ..picker import DEFAULT_PRESET, MethodPicker, ready
from ..stop_button import StopButton
from ..strip import Item, strip, strip_html
from ..zero_gpu import ON_ZERO_GPU, Asked, predict_all
from . import cards
from .annotator import annotator, read_prompt, with_classes, with_picture
from .archive import write_zip
from .link import Question, read_link, write_link
from .look_panel import LookPanel, read_look
from .session import Run, Session
from .summary import costs, differences, slider, two
from .truth_panel import TruthPanel
from .views.looks import Look, View

EARLIER = "Earlier runs of this session: click one to come back to it"

CARD_BUTTONS = """
    element.onclick = (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      const { index, candidate } = button.dataset;
      if (candidate) trigger("click", { index: Number(index), candidate: Number(candidate) });
      else trigger("select");
    };
"""
"""JavaScript of a card's details."""


WITH_ORIGIN = "query => query && `${location.origin}${location.pathname}?${query}`"

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


@dataclass(frozen=True)
class Card:
    """Where one choice shows its result."""

    column: gr.Column
    overlay: gr.HTML
    details: gr.HTML


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
        self._build_results()
        self._build_summary()
        self.truth = TruthPanel()
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
        self.look = LookPanel()

    def _build_results(self) -> None:
        self.cards: list[Card] = []
        with gr.Row(elem_id="results"):
            # What a session trained has two modes at most.
            for _ in range(len(all_choices()) + 2 * KEPT):
                with gr.Column(visible=False, min_width=300, elem_classes="card") as column:
                    overlay = gr.HTML(apply_default_css=False)
                    details = gr.HTML(js_on_load=CARD_BUTTONS, apply_default_css=False)
                self.cards.append(Card(column, overlay, details))

    def _build_summary(self) -> None:
        with gr.Accordion("All methods: costs, scores, where they differ", open=False):
            self.costs = gr.HTML(apply_default_css=False, elem_id="costs")
            self.differences = gr.HTML(apply_default_css=False, elem_id="differences")
            with gr.Row():
                self.left, self.right = (
                    gr.Dropdown(
                        [],
                        label=f"{side} of the line",
                        info="Of two methods' masks over one picture.",
                        # Else Gradio refuses a value of the run before, which may still be asked.
                        allow_custom_value=True,
                        elem_id=side.lower(),
                    )
                    for side in ("Left", "Right")
                )
            self.two = slider()
        with gr.Row():
            self.export = gr.Button("Download all as zip", size="sm", elem_id="export")
            self.link = gr.Button("Link to this", size="sm", elem_id="link")
            self.archive = gr.File(label="Archive", visible=False, elem_id="archive")
            self.address = gr.Textbox(
                label="Link",
                info="Opens with all that you typed, marked and ticked; never with your picture.",
                buttons=["copy"],
                visible=False,
                elem_id="address",
            )

    # ---- events ----

    def _connect(self) -> None:
        quick = {
            "queue": False,
            "trigger_mode": "always_last",
            "show_progress": "hidden",
            "api_visibility": "private",
        }
        heavy = {
            "concurrency_id": "gpu",
            "concurrency_limit": 1,
            "trigger_mode": "always_last",  # What is asked while another run ends is not lost.
            "show_progress_on": [self.status],
            "api_visibility": "private",
        }
        scores = [self.truth.message, self.truth.table]
        results = [self.message, self.status, self.stale, self.news, self.past, self.archive]
        results += [self.left, self.right, self.stop.button]
        for card in self.cards:
            results += [card.column, card.overlay, card.details]
        self._page = page = [*results, self.session, self.annotator, self.classes, self.truth.file]
        asked = [self.session, self.classes, self.annotator, self.picker.preset]
        controls = self.look
        self._seen = seen = [*controls.asked, self.annotator]
        overlays = [card.overlay for card in self.cards]

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
        picker = self.picker
        self.past.click(
            self.come_back,
            [self.session, self.bundles],
            [*page, picker.preset, *picker.offered],
            show_progress="hidden",
            api_visibility="private",
        )
        self.classes.change(lambda text: with_classes(text), self.classes, self.annotator, **quick)
        self.annotator.input(
            lambda live, *asked: gr.skip() if live else self.freshness(*asked),
            [self.live, *asked],
            self.stale,
            **quick,
        )
        inputs = [self.session, self.classes, self.annotator, *picker.ticked, *controls.asked]
        asks = [self.start.click, self.classes.submit]
        self.stop.connect(self.session, asks)
        runs = [
            gr.on(asks, self.run, inputs, results, **heavy),
            self.annotator.input(self.run_again, [*inputs, self.live], results, **heavy),
        ]
        for run in runs:
            self.stop.rest_after(run)
        # Answers may overtake each other, but not those of one listener, which asks again only
        # when it has been answered: so each thing shown has one, and news make it ask once more.
        looks = [controls.threshold.change, controls.overlap.change, self.news.change]
        looks += [self.annotator.select]
        gr.on(
            [*looks, controls.least_presence.change, controls.view.change],
            self.redraw,
            [self.session, *seen],
            overlays,
            **quick,
        )
        gr.on(looks, self.score, [self.session, *seen], scores, **quick)
        gr.on(
            [*looks, self.left.change, self.right.change],
            self.summarise,
            [self.session, self.left, self.right, *seen],
            [self.costs, self.differences, self.two],
            **quick,
        )
        for place, card in enumerate(self.cards):
            card.details.click(
                self._candidate_taker(place),
                [self.session, controls.threshold],
                [card.details, self.news],
                show_progress="hidden",
                api_visibility="private",
            )
        self.link.click(
            self.offer_link,
            [self.session, self.classes, *picker.ticked, *seen],
            [self.message, self.address],
            show_progress="hidden",
            api_visibility="private",
        ).then(None, self.address, self.address, js=WITH_ORIGIN, api_visibility="private")
        self.export.click(
            self.pack,
            [self.session, *seen],
            [self.message, self.archive],
            show_progress_on=[self.status],
            api_visibility="private",
        )
        gr.on(
            [self.classes.change, self.picker.preset.change, self.news.change],
            self.freshness,
            asked,
            self.stale,
            **quick,
        )
        self.truth.connect(self.session, self.news)

    def open_links(self, page: gr.Blocks) -> None:
        """Show what the page's address asks, and run it if its picture is here."""
        page.load(
            self.open_link,
            [self.session, self.bundles],
            [*self._page, self.picker.preset, *self.picker.offered, *self._seen],
            show_progress="hidden",
            api_visibility="private",
        ).then(None, None, None, js=RUN_LINKED, api_visibility="private")

    def join(self, other: AdaptTab) -> None:
        """Send masks there as labels, and offer, ticked, what is trained there."""
        for place, card in enumerate(self.cards):
            card.details.select(
                self._sender(place, other),
                [self.session, other.state, *self._seen],
                [self.message, self.status, other.state, *other.shown],
                show_progress="hidden",
                api_visibility="private",
            )
        other.trained_one.then(
            self.picker.take_bundle,
            self.picker.ticked,
            self.picker.offered,
            queue=False,
            show_progress="hidden",
            api_visibility="private",
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
            show_progress="hidden",
            api_visibility="private",
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
        if session.scene is None:
            return {self.message: problem("There is no picture yet: upload one, or click one.")}
        marks = seen[-1]
        try:
            prompt = read_prompt(classes, marks)
            names = {concept.text for concept in prompt.concepts}
            question = Question(
                session.example,
                session.scene.size,
                classes,
                tuple(mark for mark in marks["marks"] if mark["class"] in names),
                preset,
                # Weights of a session stay in it.
                tuple(
                    choice.key
                    for choice in self.picker.chosen(bundles, preset, by_text, by_marks)
                    if choice.bundle is None
                ),
                read_look(*seen),
            )
            query = write_link(question)
        except PromptError as error:
            return {self.message: problem(str(error))}
        return {self.message: "", self.address: gr.Textbox(query, visible=True)}

    def come_back(self, session: Session, bundles: SessionBundles, chosen: gr.EventData) -> Updates:
        """Show an earlier run again: picture, classes, marks, methods and results."""
        past = session.history[int(chosen.index)]
        updates = self._show(session, past.run.scene.image)
        session.come_back(past)
        run = past.run
        for choice, card in zip(run.choices, self.cards, strict=False):
            prediction = run.predictions.get(choice.key)
            updates |= {
                card.column: gr.Column(visible=True),
                card.overlay: cards.waiting(choice),
                card.details: _details(choice, prediction, 0.0),
            }
        session.shown = len(run.choices)
        return {
            **updates,
            **self._two_of(run),
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
        updates: Updates = {
            self.session: session,  # Unchanged, but Gradio forgets in time what it saw returned.
            self.message: "",
            self.status: "",
            self.stale: "",
            self.annotator: with_picture(image),
            self.truth.file: None,
            self.archive: gr.File(visible=False),
            self.news: session.next_news(),
        }
        for card in self.cards[: session.shown]:
            updates |= {card.column: gr.Column(visible=False), card.overlay: "", card.details: ""}
        session.shown = 0
        return updates

    # ---- running ----

    def run(
        self,
        session: Session,
        classes: str,
        marks: object,
        bundles: SessionBundles,
        preset: str,
        by_text: Sequence[str],
        by_marks: Sequence[str],
        threshold: float,
        least_presence: float,
        view: View,
        overlap: Overlap,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio knows it by this default)
    ) -> Iterator[Updates]:
        """Run the ticked methods one by one; each shows its card as soon as it has answered."""
        look = read_look(threshold, least_presence, view, overlap, marks)
        chosen = self.picker.chosen(bundles, preset, by_text, by_marks)
        yield from self._run(session, classes, marks, preset, chosen, look, progress)

    def _run(
        self,
        session: Session,
        classes: str,
        marks: object,
        preset: str,
        chosen: tuple[Choice, ...],
        look: Look,
        progress: gr.Progress,
        goes_on: bool = False,
    ) -> Iterator[Updates]:
        """The same; with ``goes_on``, classes that are asked as they were keep their answers."""
        if session.stopped:
            yield {self.status: note("Stopped before it began.")}
            return
        before = session.run
        try:
            run = _asked(session, classes, preset, marks, chosen)
        except PromptError as error:
            yield {self.message: problem(str(error))}
            return
        session.run = run
        yield {
            self.message: "",
            self.status: "",
            self.stale: "",
            self.archive: gr.File(visible=False),
            **self.stop.offer(),
            **self._prepared(session, run, before),
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
                choice, card = chosen[place], self.cards[place]
                progress(done, desc=choice.title, unit="classes")
                if session.run is run and found is not None:
                    self._take(run, choice, found)
                    drawn = _overlay(choice, session, look)
                    below = _details(choice, found, look.threshold)
                    yield {card.overlay: drawn, card.details: below}
                if run.stopped or session.run is not run:
                    break
        if session.run is not run:
            return
        for choice in chosen:
            if choice.key not in run.predictions:
                run.failures.setdefault(choice.key, "Stopped before it could answer.")
        if run.predictions:
            session.remember(classes, marks)
        seconds = sum(prediction.total_seconds for prediction in run.predictions.values())
        stopped = "Stopped: " if run.stopped else ""
        done = f"{len(run.predictions)} of {len(chosen)} done in {seconds:.2f} s."
        yield {
            self.status: note(stopped + done),
            self.news: session.next_news(),  # A slider may have moved while the methods ran.
            self.past: gr.HTML(_earlier(session), visible=bool(session.history)),
            **self._two_of(run),
        }

    def run_again(
        self,
        session: Session,
        classes: str,
        marks: object,
        bundles: SessionBundles,
        preset: str,
        by_text: Sequence[str],
        by_marks: Sequence[str],
        threshold: float,
        least_presence: float,
        view: View,
        overlap: Overlap,
        live: bool,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[Updates]:
        """Run after a point or box was set, if the user has run before and wants it so."""
        # A Run pressed right after the click may have taken it along.
        if live and self.freshness(session, classes, marks, preset):
            self.stop.begin(session)
            look = read_look(threshold, least_presence, view, overlap, marks)
            chosen = self.picker.chosen(bundles, preset, by_text, by_marks)
            yield from self._run(
                session, classes, marks, preset, chosen, look, progress, goes_on=True
            )
        else:
            yield {self.status: gr.skip()}  # Gradio empties the outputs of a run without any yield.

    def _prepared(self, session: Session, run: Run, earlier: Run | None) -> Updates:
        """Cards before a run: one per choice, with what it showed before, if anything."""
        count = len(run.choices)
        unused = self.cards[count : session.shown]
        updates: Updates = {card.column: gr.Column(visible=False) for card in unused}
        session.shown = count
        before = () if earlier is None else earlier.choices
        for place, (choice, card) in enumerate(zip(run.choices, self.cards, strict=False)):
            updates[card.column] = gr.Column(visible=True)
            kept = before[place : place + 1] == (choice,) and choice.key in earlier.predictions
            if not kept:
                updates |= {card.overlay: cards.waiting(choice), card.details: ""}
        return updates

    def _take(self, run: Run, choice: Choice, found: Prediction | str) -> None:
        """Note what a method answered, or why it could not."""
        if isinstance(found, str):
            run.failures[choice.key] = found
            return
        run.predictions[choice.key] = found
        if not ON_ZERO_GPU:  # there, the network was in another process
            predictor = self.models.predictor(run.preset, choice.method, choice.bundle)
            run.parameters[choice.key] = count_parameters(predictor)

    def freshness(self, session: Session, classes: str, marks: object, preset: str) -> str:
        """Say so when the results shown answer an earlier question."""
        if session.run is None:
            return ""
        try:
            fresh = session.run.answers(read_prompt(classes, marks), preset)
        except PromptError:
            fresh = False
        if fresh:
            return ""
        return note("The results below answer what you asked before. Press Run.")

    # ---- looking ----

    def redraw(self, session: Session, *seen: object) -> list[object]:
        """Draw all answers anew from the predictions at hand."""
        if session.run is None:
            return [gr.skip()] * len(self.cards)
        look = read_look(*seen)
        shown = [_overlay(choice, session, look) for choice in session.run.choices]
        return shown + [gr.skip()] * (len(self.cards) - len(shown))

    def score(self, session: Session, *seen: object) -> tuple[str, str]:
        """Message and table of the ground truth, see :meth:`TruthPanel.score`."""
        return self.truth.score(session, read_look(*seen))

    def summarise(
        self, session: Session, left: str | None, right: str | None, *seen: object
    ) -> tuple[str, str, str]:
        """Costs and scores, where methods differ, and two of them over one picture."""
        run, look = session.run, read_look(*seen)
        if run is None or not run.predictions:
            return "", "", ""
        made = dict(run.predictions)  # A run in progress may add to it.
        truth = _truth(session, look)
        titles = run.titles
        pair = ""
        if left in made and right in made:
            pair = two(made[left], made[right], (titles[left], titles[right]), look)
        return (
            costs(made, titles, run.parameters, look, truth, session.map_scores(made, truth)),
            differences(made, titles, look, run.scene.image),
            pair,
        )

    def _two_of(self, run: Run) -> Updates:
        """The methods that the line can lie between: at first the first and the last."""
        made = [(run.titles[key], key) for key in run.predictions]
        keys = list(run.predictions) or [None]
        return {
            self.left: gr.Dropdown(made, value=keys[0]),
            self.right: gr.Dropdown(made, value=keys[-1]),
        }

    def _candidate_taker(self, place: int) -> Callable[..., tuple[object, object]]:
        """What a card does when one of SAM's candidates is clicked."""

        def take(session: Session, threshold: float, chosen: gr.EventData) -> tuple[object, object]:
            run = session.run
            key = None if run is None else run.choices[place].key
            if run is None or key not in run.predictions:
                return gr.skip(), gr.skip()
            index, candidate = int(chosen.index), int(chosen.candidate)
            prediction = run.predictions[key].with_candidate(index, candidate)
            run.predictions[key] = prediction
            return _details(run.choices[place], prediction, threshold), session.next_news()

        return take

    def _sender(self, place: int, other: AdaptTab) -> Callable[..., Updates]:
        """What a card does when its masks are to be labels."""

        def send(session: Session, theirs: AdaptState, *seen: object) -> Updates:
            run, look = session.run, read_look(*seen)
            key = None if run is None else run.choices[place].key
            if run is None or key not in run.predictions:
                return {self.message: gr.skip()}
            found = run.predictions[key]
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

    def pack(self, session: Session, *seen: object) -> Updates:
        """Everything of the latest run as an archive."""
        run, look = session.run, read_look(*seen)
        if run is None or not run.predictions:
            return {self.message: problem("There is nothing to download yet: press Run.")}
        made, truth = dict(run.predictions), _truth(session, look)
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
            return {self.message: problem(str(error))}
        return {self.message: "", self.archive: gr.File(str(path), visible=True)}

    def warm_up(self) -> None:
        """Load the models that a first Run will ask for, while the user looks at the page."""
        for choice in ready(SessionBundles(), DEFAULT_PRESET):
            if choice.key in DEFAULT_KEYS:
                self.models.warm_up(DEFAULT_PRESET, choice.method)


def _asked(
    session: Session, classes: str, preset: str, marks: object, chosen: tuple[Choice, ...]
) -> Run:
    """What is to be run.

    Raises:
        PromptError: there is no picture, method or class, or a mark lies outside the picture.
    """
    if session.scene is None:
        raise PromptError("There is no picture yet: upload one, or click an example.")
    if not chosen:
        raise PromptError("Tick at least one method.")
    prompt = read_prompt(classes, marks)
    prompt.check_inside(session.scene.size)
    return Run(session.scene, prompt, find_preset(preset).name, chosen)


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


def _truth(session: Session, look: Look) -> Truth | None:
    """The ground truth if there is one that fits; what is wrong with one is said elsewhere."""
    try:
        return session.truth(look.active)
    except TruthError:
        return None


def _details(choice: Choice, prediction: Prediction | str | None, threshold: float) -> str:
    """What is below a card's picture: what led to the answer, what it cost, what the method is.

    Nothing without an answer.
    """
    if not isinstance(prediction, Prediction):
        return ""
    about = one_card(choice.method, find_preset(prediction.preset), choice.bundle)
    return cards.details(prediction, threshold) + about


def _overlay(choice: Choice, session: Session, look: Look) -> object:
    """What a card shows of the latest run; as before while its method has not answered."""
    run = session.run
    if choice.key in run.failures:
        return cards.failed(choice, run.failures[choice.key])
    if choice.key in run.predictions:
        prediction, image = run.predictions[choice.key], run.scene.image
        return cards.overlay(choice, prediction, look, image, _truth(session, look))
    return gr.skip()
