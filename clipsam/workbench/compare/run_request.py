"""The request of the Compare tab: image, classes, marks, methods and display settings."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from ...encoded_image import EncodedImage
from ...errors import PromptError
from ...weights.presets import find_preset
from ..choices import MethodChoice
from ..events import Values
from ..picker import MethodPicker
from .annotator import nothing_marked, prompt_if_any, read_prompt
from .display_panel import DisplayPanel
from .prompt_panel import PromptPanel, read_options
from .session import ComparisonRun, OpenImage, Session
from .views.display_settings import DisplaySettings


@dataclass(frozen=True)
class RunControls:
    """The components that define a run.

    Attributes:
        session: of the page.
        classes: names as typed.
        canvas: with the marks.
        picker: preset and methods.
        prompting: how maps become prompts.
        display: display settings.
    """

    session: gr.State
    classes: gr.Textbox
    canvas: gr.HTML
    picker: MethodPicker
    prompting: PromptPanel
    display: DisplayPanel

    @property
    def inputs(self) -> set[gr.blocks.Block]:
        """The components whose values :meth:`RunRequest.read` takes."""
        panels = (self.picker, self.prompting, self.display)
        shared = {component for panel in panels for component in panel.inputs}
        return {self.session, self.classes, self.canvas, *shared}


@dataclass(frozen=True)
class RunRequest:
    """Request as typed, marked and selected.

    Attributes:
        session: of the page.
        classes: as typed.
        marks: value of the canvas.
        preset: its name.
        choices: the selected methods, in list order.
        prompting: how maps become prompts, as typed; see :func:`read_options`.
        display: display settings.
    """

    session: Session
    classes: str
    marks: object
    preset: str
    choices: tuple[MethodChoice, ...]
    prompting: dict[str, str]
    display: DisplaySettings

    @classmethod
    def read(
        cls, controls: RunControls, values: Values, image: OpenImage | None = None
    ) -> RunRequest:
        """Read the request from the controls.

        Args:
            controls: the controls.
            values: theirs.
            image: the open image whose marks are taken; ``None`` for those on the canvas.
        """
        classes, marks = values[controls.classes], values[controls.canvas]
        if image is not None:
            marks = image.marks or nothing_marked()
        return cls(
            session=values[controls.session],
            classes=classes,
            marks=marks,
            preset=values[controls.picker.preset],
            choices=controls.picker.chosen(values, prompt_if_any(classes, marks)),
            prompting=controls.prompting.read(values),
            display=controls.display.read(values),
        )

    def new_run(self, encoded: EncodedImage | None = None) -> ComparisonRun:
        """Create the run.

        Args:
            encoded: the image; ``None`` for the one shown.

        Raises:
            PromptError: there is no image, method or class, a mark lies outside the image, or a
                setting of prompts cannot have its value.
        """
        encoded = encoded or self.session.current_image()
        if not self.choices:
            raise PromptError("Select at least one method.")
        prompt = read_prompt(self.classes, self.marks)
        prompt.check_inside(encoded.size)
        preset, options = find_preset(self.preset).name, read_options(self.prompting)
        return ComparisonRun(encoded, prompt, preset, self.choices, options=options)
