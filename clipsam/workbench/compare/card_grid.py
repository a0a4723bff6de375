"""The result cards of a run, one per method and mode, and their events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import gradio as gr
from gradio.events import Dependency

from ...types import Prediction
from ...weights.presets import find_preset
from ..bundles import MAX_BUNDLES
from ..choices import MethodChoice, all_choices
from ..events import FILED, LATEST, Updates, Values
from ..method_cards import one_card
from . import card_html
from .display_panel import DisplayPanel
from .session import ComparisonRun, Session
from .views.display_settings import DisplaySettings

BUTTONS = """
    element.onclick = (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      const { index, candidate } = button.dataset;
      if (candidate) trigger("click", { index: Number(index), candidate: Number(candidate) });
      else trigger("select");
    };
"""
"""JavaScript of a card's details."""


@dataclass(frozen=True)
class Card:
    """Components that show one choice's result."""

    column: gr.Column
    overlay: gr.HTML
    details: gr.HTML


class CardGrid:
    """Result cards, one for each possible choice; those of the latest run are visible.

    Attributes:
        outputs: all components that its updates change.
        senders: event of each card that sends its masks to the Adapt tab.
    """

    def __init__(self, session: gr.State, display: DisplayPanel) -> None:
        """Build the grid inside the open ``gr.Blocks``.

        Args:
            session: of the page.
            display: display settings.
        """
        self._session, self._display = session, display
        self._cards: list[Card] = []
        with gr.Row(elem_id="results"):
            # What a session trained has two modes at most.
            for _ in range(len(all_choices()) + 2 * MAX_BUNDLES):
                with gr.Column(visible=False, min_width=300, elem_classes="card") as column:
                    overlay = gr.HTML(apply_default_css=False)
                    details = gr.HTML(js_on_load=BUTTONS, apply_default_css=False)
                self._cards.append(Card(column, overlay, details))
        self._overlays = [card.overlay for card in self._cards]
        self.senders = [card.details.select for card in self._cards]
        self.outputs: list[gr.blocks.Block] = []
        for card in self._cards:
            self.outputs += [card.column, card.overlay, card.details]

    def connect(self, version: gr.State, changes: Sequence[Callable[..., Dependency]]) -> None:
        """Redraw when display settings or answers change, and handle clicks on candidates.

        Args:
            version: incremented with a candidate; one of ``changes``.
            changes: events after which the cards must be redrawn.
        """
        inputs: set[gr.blocks.Block] = {self._session, *self._display.inputs}
        gr.on(changes, self.redraw, inputs, self._overlays, **LATEST)
        for index, card in enumerate(self._cards):
            card.details.click(
                self._candidate_taker(index),
                inputs,
                [card.details, version],
                **FILED,
            )

    def hide(self, session: Session) -> Updates:
        """Hide all cards."""
        updates: Updates = {}
        for card in self._cards[: session.shown]:
            updates |= {card.column: gr.Column(visible=False), card.overlay: "", card.details: ""}
        session.shown = 0
        return updates

    def begin(self, session: Session, earlier: ComparisonRun | None) -> Updates:
        """Show a card per choice of the latest run, with its previous content if it had any."""
        run = session.current_run()
        count = len(run.choices)
        unused = self._cards[count : session.shown]
        updates: Updates = {card.column: gr.Column(visible=False) for card in unused}
        session.shown = count
        before = () if earlier is None else earlier.choices
        for index, choice, card in self._of(run):
            updates[card.column] = gr.Column(visible=True)
            known = () if earlier is None else earlier.predictions
            kept = before[index : index + 1] == (choice,) and choice.key in known
            if not kept:
                updates |= {card.overlay: card_html.waiting(choice), card.details: ""}
        return updates

    def answer(self, session: Session, index: int, display: DisplaySettings) -> Updates:
        """Show the result of a choice in the latest run, or why it failed."""
        run, card = session.current_run(), self._cards[index]
        choice = run.choices[index]
        return {
            card.overlay: _overlay(choice, session, display),
            card.details: _details(choice, run.predictions.get(choice.key), display.threshold),
        }

    def restore(self, session: Session) -> Updates:
        """Show a card per choice of a finished run; a redraw must follow."""
        updates: Updates = {}
        run = session.current_run()
        for _, choice, card in self._of(run):
            prediction = run.predictions.get(choice.key)
            updates |= {
                card.column: gr.Column(visible=True),
                card.overlay: card_html.waiting(choice),
                card.details: _details(choice, prediction, 0.0),
            }
        session.shown = len(run.choices)
        return updates

    def redraw(self, values: Values) -> list[object]:
        """Redraw the overlays of all cards from the current answers."""
        session: Session = values[self._session]
        if session.run is None:
            return [gr.skip()] * len(self._cards)
        display = self._display.read(values)
        shown = [_overlay(choice, session, display) for choice in session.run.choices]
        return shown + [gr.skip()] * (len(self._cards) - len(shown))

    def _of(self, run: ComparisonRun) -> Iterator[tuple[int, MethodChoice, Card]]:
        for index, (choice, card) in enumerate(zip(run.choices, self._cards, strict=False)):
            yield index, choice, card

    def _candidate_taker(self, index: int) -> Callable[..., tuple[object, object]]:
        """Return the listener for clicks on one of SAM's candidates."""

        def take(values: Values, chosen: gr.EventData) -> tuple[object, object]:
            session: Session = values[self._session]
            run = session.run
            prediction = None if run is None else run.prediction_at(index)
            if run is None or prediction is None:
                return gr.skip(), gr.skip()
            choice = run.choices[index]
            prediction = prediction.with_candidate(int(chosen.index), int(chosen.candidate))
            run.predictions[choice.key] = prediction
            threshold = self._display.read(values).threshold
            return _details(choice, prediction, threshold), session.next_version()

        return take


def _details(choice: MethodChoice, prediction: Prediction | None, threshold: float) -> str:
    """Format what is below a card's image: intermediate results, cost, and the method's card.

    Empty without a result.
    """
    if prediction is None:
        return ""
    about = one_card(choice.method, find_preset(prediction.preset), choice.bundle)
    return card_html.details(prediction, threshold, about)


def _overlay(choice: MethodChoice, session: Session, display: DisplaySettings) -> object:
    """Format a card's overlay in the latest run; unchanged while its method is running."""
    run = session.current_run()
    if choice.key in run.failures:
        return card_html.failed(choice, run.failures[choice.key])
    if choice.key in run.predictions:
        prediction, image = run.predictions[choice.key], run.encoded.image
        truth = session.fitting_truth(display.active)
        return card_html.overlay(choice, prediction, display, image, truth)
    return gr.skip()
