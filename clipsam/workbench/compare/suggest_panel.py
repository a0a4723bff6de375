"""Suggestions of class names for the image: a button, and chips to take or drop."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

import gradio as gr
from gradio.events import Dependency

from ...errors import ClipsamError
from ...names import fold_name
from ...suggest import COMMON, VOCABULARIES, Suggestion, confident
from ...types import parse_classes
from ..events import FILED, ON_GPU, PRIVATE, Updates, problem
from ..model_store import ModelStore
from ..suggesting import suggestions
from .session import Session

COUNT = 10

OWN = "own"
"""Value of the vocabulary that the user types."""

TAKE = """
    element.onclick = (event) => {
      const chip = event.target.closest("button");
      if (chip) trigger("click", { index: Number(chip.dataset.index) });
    };
"""


class SuggestPanel:
    """Button beside the classes, and the line with what it found.

    Attributes:
        button: the button.
        line: hidden until names were suggested.
        chips: the names.
    """

    def __init__(self) -> None:
        """Build the button inside the open ``gr.Blocks``; see :meth:`build_line`."""
        self.button = gr.Button("Suggest", elem_id="suggest", scale=1, min_width=90)

    def build_line(self) -> None:
        """Build the line of suggestions inside the open ``gr.Blocks``."""
        with gr.Row(visible=False, elem_id="suggest-line") as self.line:
            self.chips = gr.HTML(
                js_on_load=TAKE, apply_default_css=False, elem_id="suggestions", scale=4
            )
            with gr.Column(scale=1, min_width=180):
                known = [(f"{name}: {what}", name) for name, what in VOCABULARIES.items()]
                self.vocabulary = gr.Dropdown(
                    [*known, ("A list of your own", OWN)],
                    value=COMMON,
                    label="Names to choose from",
                    show_label=False,
                    container=False,
                    elem_id="vocabulary",
                )
                self.own = gr.Textbox(
                    "",
                    label="Names to choose from",
                    placeholder="Names, separated by commas or line breaks; then press Suggest",
                    show_label=False,
                    container=False,
                    lines=2,
                    max_lines=6,
                    visible=False,
                    elem_id="own-names",
                )

    def connect(
        self,
        models: ModelStore,
        session: gr.State,
        request: tuple[gr.Textbox, gr.Dropdown],
        status: tuple[gr.HTML, gr.HTML],
    ) -> None:
        """Suggest when the button is pressed, and take or drop a name when its chip is clicked.

        Args:
            models: the loaded models.
            session: of the page.
            request: the classes as typed, and the preset.
            status: components for error messages and for progress.
        """
        classes, preset = request
        message, progress = status

        def offer(one: Session, text: str, chosen: str, vocabulary: str, own: str) -> Updates:
            is_own = vocabulary == OWN
            shown: Updates = {self.own: gr.Textbox(visible=is_own)}
            if is_own and not own.strip():
                return shown
            try:
                image = one.current_image().image
                found = suggestions(models, image, chosen, own if is_own else vocabulary, COUNT)
            except ClipsamError as error:
                return {**shown, message: problem(str(error))}
            one.suggested = tuple(found)
            if not parse_classes(text):
                text = ", ".join(confident(found))
            shown |= {self.line: gr.Row(visible=True), self.chips: chips_html(found, text)}
            return {message: "", classes: text, session: one, **shown}

        starts: list[Callable[..., Dependency]] = [self.button.click, self.vocabulary.input]
        gr.on(
            starts,
            offer,
            [session, classes, preset, self.vocabulary, self.own],
            [message, classes, session, self.line, self.chips, self.own],
            show_progress_on=[progress],
            **ON_GPU,
            **PRIVATE,
        )
        self.chips.click(take, [session, classes], classes, **FILED)
        classes.change(
            lambda one, text: chips_html(one.suggested, text),
            [session, classes],
            self.chips,
            trigger_mode="always_last",
            **FILED,
        )

    def forget(self) -> Updates:
        """Hide the suggestions, because the image is about to change."""
        return {self.line: gr.Row(visible=False)}


def take(session: Session, text: str, chosen: gr.EventData) -> str:
    """Add the name of a clicked chip to the classes, or drop it from them."""
    return toggled(text, session.suggested[int(chosen.index)].name)


def toggled(text: str, name: str) -> str:
    """Return the classes as typed with one more, or without the one that has this name.

    Args:
        text: as typed.
        name: of the class.
    """
    typed = parse_classes(text)
    kept = [one for one in typed if fold_name(name) not in map(fold_name, one)]
    if len(kept) == len(typed):
        kept.append((name,))
    return ", ".join("; ".join(one) for one in kept)


def chips_html(found: Sequence[Suggestion], text: str) -> str:
    """Format the suggestions as chips; those among the typed classes are pressed."""
    typed = {fold_name(name) for synonyms in parse_classes(text) for name in synonyms}
    chips = "".join(
        f"<button type='button' data-index='{index}' "
        f"aria-pressed='{str(fold_name(one.name) in typed).lower()}' "
        f"title='Highest similarity {one.similarity:.3f}. Click to take or drop.'>"
        f"{escape(one.name)} <small>{_presence(one)}</small></button>"
        for index, one in enumerate(found)
    )
    return f"<div class='chips'>{chips}</div>" if chips else ""


def _presence(one: Suggestion) -> str:
    """Format the presence, or where CLIP is not calibrated the similarity."""
    return f"{one.similarity if math.isnan(one.presence) else one.presence:.2f}"
