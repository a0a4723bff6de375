"""The cards of a run, one for each method in each mode, and what is clicked on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import gradio as gr
from gradio.events import Dependency

from ...types import Prediction
from ...weights.presets import find_preset
from ..bundles import KEPT
from ..choices import Choice, all_choices
from ..events import FILED, LATEST, Updates, Values
from ..method_cards import one_card
from . import cards
from .look_panel import LookPanel
from .session import Run, Session
from .views.looks import Look

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
    """Where one choice shows its result."""

    column: gr.Column
    overlay: gr.HTML
    details: gr.HTML


class CardGrid:
    """As many cards as a run can have choices; those of the latest run are shown.

    Attributes:
        outputs: all that the updates of its methods change.
        senders: of each card, the event with which its masks are to be labels elsewhere.
    """

    def __init__(self, session: gr.State, look: LookPanel) -> None:
        """Build it inside the ``gr.Blocks`` that is open.

        Args:
            session: of the page.
            look: how answers are drawn.
        """
        self._session, self._look = session, look
        self._cards: list[Card] = []
        with gr.Row(elem_id="results"):
            # What a session trained has two modes at most.
            for _ in range(len(all_choices()) + 2 * KEPT):
                with gr.Column(visible=False, min_width=300, elem_classes="card") as column:
                    overlay = gr.HTML(apply_default_css=False)
                    details = gr.HTML(js_on_load=BUTTONS, apply_default_css=False)
                self._cards.append(Card(column, overlay, details))
        self._overlays = [card.overlay for card in self._cards]
        self.senders = [card.details.select for card in self._cards]
        self.outputs: list[gr.blocks.Block] = []
        for card in self._cards:
            self.outputs += [card.column, card.overlay, card.details]

    def connect(self, news: gr.State, looks: Sequence[Callable[..., Dependency]]) -> None:
        """Draw anew whenever the look or the answers change, and take clicked candidates.

        Args:
            news: changes with a candidate; among what ``looks`` tells of.
            looks: events with which what is drawn changes.
        """
        inputs = {self._session, *self._look.inputs}
        gr.on(looks, self.redraw, inputs, self._overlays, **LATEST)
        for place, card in enumerate(self._cards):
            card.details.click(
                self._candidate_taker(place),
                inputs,
                [card.details, news],
                **FILED,
            )

    def hide(self, session: Session) -> Updates:
        """Show none."""
        updates: Updates = {}
        for card in self._cards[: session.shown]:
            updates |= {card.column: gr.Column(visible=False), card.overlay: "", card.details: ""}
        session.shown = 0
        return updates

    def begin(self, session: Session, earlier: Run | None) -> Updates:
        """One per choice of the latest run, with what it showed of the one before, if anything."""
        run = session.run
        count = len(run.choices)
        unused = self._cards[count : session.shown]
        updates: Updates = {card.column: gr.Column(visible=False) for card in unused}
        session.shown = count
        before = () if earlier is None else earlier.choices
        for place, choice, card in self._of(run):
            updates[card.column] = gr.Column(visible=True)
            kept = before[place : place + 1] == (choice,) and choice.key in earlier.predictions
            if not kept:
                updates |= {card.overlay: cards.waiting(choice), card.details: ""}
        return updates

    def answer(self, session: Session, place: int, look: Look) -> Updates:
        """What a choice of the latest run has answered, or why it could not."""
        run, card = session.run, self._cards[place]
        choice = run.choices[place]
        return {
            card.overlay: _overlay(choice, session, look),
            card.details: _details(choice, run.predictions.get(choice.key), look.threshold),
        }

    def come_back(self, session: Session) -> Updates:
        """One per choice of a run that is over; a redraw must follow."""
        updates: Updates = {}
        for _, choice, card in self._of(session.run):
            prediction = session.run.predictions.get(choice.key)
            updates |= {
                card.column: gr.Column(visible=True),
                card.overlay: cards.waiting(choice),
                card.details: _details(choice, prediction, 0.0),
            }
        session.shown = len(session.run.choices)
        return updates

    def redraw(self, values: Values) -> list[object]:
        """The overlays of all cards, from the answers at hand."""
        session: Session = values[self._session]
        if session.run is None:
            return [gr.skip()] * len(self._cards)
        look = self._look.read(values)
        shown = [_overlay(choice, session, look) for choice in session.run.choices]
        return shown + [gr.skip()] * (len(self._cards) - len(shown))

    def _of(self, run: Run) -> Iterator[tuple[int, Choice, Card]]:
        for place, (choice, card) in enumerate(zip(run.choices, self._cards, strict=False)):
            yield place, choice, card

    def _candidate_taker(self, place: int) -> Callable[..., tuple[object, object]]:
        """What a card does when one of SAM's candidates is clicked."""

        def take(values: Values, chosen: gr.EventData) -> tuple[object, object]:
            session: Session = values[self._session]
            run = session.run
            prediction = None if run is None else run.answer_at(place)
            if prediction is None:
                return gr.skip(), gr.skip()
            choice = run.choices[place]
            prediction = prediction.with_candidate(int(chosen.index), int(chosen.candidate))
            run.predictions[choice.key] = prediction
            threshold = self._look.read(values).threshold
            return _details(choice, prediction, threshold), session.next_news()

        return take


def _details(choice: Choice, prediction: Prediction | None, threshold: float) -> str:
    """What is below a card's picture: what led to the answer, what it cost, what the method is.

    Nothing without an answer.
    """
    if prediction is None:
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
        truth = session.fitting_truth(look.active)
        return cards.overlay(choice, prediction, look, image, truth)
    return gr.skip()
