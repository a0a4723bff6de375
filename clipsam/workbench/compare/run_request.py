"""What the controls of the Compare tab ask: which picture, classes, marks, methods and drawing."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from ...errors import PromptError
from ...weights.presets import find_preset
from ..choices import Choice
from ..events import Values
from ..picker import MethodPicker
from .annotator import read_prompt
from .look_panel import LookPanel
from .session import Run, Session
from .views.looks import Look


@dataclass(frozen=True)
class RunControls:
    """The components that say what is to be run.

    Attributes:
        session: of the page.
        classes: names as typed.
        canvas: with the marks.
        picker: preset and methods.
        look: how answers are drawn.
    """

    session: gr.State
    classes: gr.Textbox
    canvas: gr.HTML
    picker: MethodPicker
    look: LookPanel

    @property
    def inputs(self) -> set[gr.blocks.Block]:
        """The components whose values :meth:`RunRequest.read` takes."""
        return {self.session, self.classes, self.canvas, *self.picker.inputs, *self.look.inputs}


@dataclass(frozen=True)
class RunRequest:
    """What is asked, as it was typed, marked and ticked.

    Attributes:
        session: of the page.
        classes: as typed.
        marks: value of the canvas.
        preset: its name.
        choices: the ticked methods, in the order in which they are offered.
        look: how answers are to be drawn.
    """

    session: Session
    classes: str
    marks: object
    preset: str
    choices: tuple[Choice, ...]
    look: Look

    @classmethod
    def read(cls, controls: RunControls, values: Values) -> RunRequest:
        """Read the controls."""
        return cls(
            session=values[controls.session],
            classes=values[controls.classes],
            marks=values[controls.canvas],
            preset=values[controls.picker.preset],
            choices=controls.picker.chosen(values),
            look=controls.look.read(values),
        )

    def new_run(self) -> Run:
        """Return what is to be run.

        Raises:
            PromptError: there is no picture, method or class, or a mark lies outside the picture.
        """
        scene = self.session.scene_shown()
        if not self.choices:
            raise PromptError("Tick at least one method.")
        prompt = read_prompt(self.classes, self.marks)
        prompt.check_inside(scene.size)
        return Run(scene, prompt, find_preset(self.preset).name, self.choices)
