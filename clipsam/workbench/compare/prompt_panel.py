"""Controls of how maps become prompts; empty ones leave it to each method and its bundle."""

from __future__ import annotations

from collections.abc import Callable

import gradio as gr

from ...errors import PromptError
from ...predictor import PredictOptions
from ...prompting import PromptSettings
from ..events import Updates, Values

TITLE = "Prompts from maps: as trained, unless set here"

NUMBERS: dict[str, Callable[[str], int | float]] = {
    "num_points": int,
    "point_threshold": float,
    "dense_logit": float,
}
"""Fields of :class:`PromptSettings` that are typed, each with what it must be."""


class PromptPanel:
    """A fold with one control for each field of :class:`PromptSettings`.

    Numbers are typed as text, for Gradio's own fields turn from empty to 0.

    Attributes:
        inputs: the components whose values :meth:`read` takes.
        changes: events after which they may be others.
    """

    def __init__(self) -> None:
        """Build the panel inside the open ``gr.Blocks``."""
        own = PromptSettings()
        with gr.Accordion(TITLE, open=False, elem_id="prompting"):
            self._controls: dict[str, gr.Textbox | gr.Dropdown] = {
                "num_points": gr.Textbox(
                    label="Points per class",
                    placeholder=f"as trained, usually {own.num_points}",
                    elem_id="num-points",
                ),
                "sampling": gr.Dropdown(
                    [
                        ("as trained", ""),
                        ("spread over the map's regions", "spread"),
                        ("uniform, as in the authors' code", "reference"),
                    ],
                    value="",
                    label="Sampling of points",
                    elem_id="sampling",
                ),
                "point_threshold": gr.Textbox(
                    label="Threshold on the map, 0 to 1",
                    placeholder=f"as calibrated; {own.point_threshold:g} in the paper",
                    elem_id="point-threshold",
                ),
                "dense_logit": gr.Textbox(
                    label="Strength of the dense prompt, logits",
                    placeholder=f"as trained, usually {own.dense_logit:g}; the authors' 255",
                    elem_id="dense-logit",
                ),
            }
        self.inputs: set[gr.blocks.Block] = set(self._controls.values())
        self.changes = [control.change for control in self._controls.values()]

    def read(self, values: Values) -> dict[str, str]:
        """Read what is set, as typed, by fields of :class:`PromptSettings`."""
        typed = {name: (values[control] or "").strip() for name, control in self._controls.items()}
        return {name: text for name, text in typed.items() if text}

    def sets(self, options: PredictOptions, values: Values) -> bool:
        """Return whether the controls say what a run had."""
        try:
            return read_options(self.read(values)).overrides == options.overrides
        except PromptError:
            return False

    def show(self, options: PredictOptions) -> Updates:
        """Set the controls to the options of a run."""
        given = options.overrides
        return {control: str(given.get(name, "")) for name, control in self._controls.items()}


def read_options(typed: dict[str, str]) -> PredictOptions:
    """Convert what was typed.

    Raises:
        PromptError: it is no number, or none that is possible.
    """
    given: dict[str, int | float | str] = {}
    for name, text in typed.items():
        try:
            given[name] = NUMBERS[name](text) if name in NUMBERS else text
        except ValueError:
            kind = "an integer" if NUMBERS[name] is int else "a number"
            raise PromptError(f"{name} is “{text[:40]}”, expected {kind}.") from None
    return PredictOptions(**given)  # type: ignore[arg-type]  # checked there
