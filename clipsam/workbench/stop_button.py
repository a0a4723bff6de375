"""The button that ends what runs, and what still waits until others are done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import gradio as gr
from gradio.events import Dependency

from .events import QUICK, Updates


class Stoppable(Protocol):
    """A page's session.

    Attributes:
        stopped: whether Stop was pressed since the latest Run: what has not begun then never does.
    """

    stopped: bool

    def stop(self) -> None:
        """Note that Stop was pressed; what runs now ends soon, even if Run is pressed at once."""


class StopButton:
    """Stop, which can be pressed while something runs or waits.

    Attributes:
        button: the component.
    """

    def __init__(self, elem_id: str) -> None:
        """Build it inside the ``gr.Blocks`` that is open."""
        self.button = gr.Button("Stop", interactive=False, elem_id=elem_id, scale=2, min_width=80)

    def connect(self, session: gr.State, asks: Sequence[Callable[..., Dependency]]) -> None:
        """Offer it from now on as soon as something is asked.

        Args:
            session: the page's :class:`Stoppable`.
            asks: events that ask; what answers them must be connected afterwards.
        """
        # Through no queue, so that it also ends what waits in one.
        gr.on(asks, self.begin, session, self.button, **QUICK)
        self.button.click(self.end, session, self.button, **QUICK)

    def rest_after(self, run: Dependency) -> None:
        """Offer it no longer when a run has ended, however that was."""
        run.then(self.rest, None, self.button, **QUICK)
        run.failure(self.rest, None, self.button, **QUICK)  # A full queue is all there is then.

    def begin(self, session: Stoppable) -> gr.Button:
        """Something new was asked."""
        session.stopped = False
        return self._offered()

    def end(self, session: Stoppable) -> gr.Button:
        """It was pressed."""
        session.stop()
        return gr.Button("Stopping …", interactive=False)

    def rest(self) -> gr.Button:
        """There is nothing to stop."""
        return gr.Button("Stop", interactive=False)

    def offer(self) -> Updates:
        """What shows that a run has begun: the one before it may have put the button to rest."""
        return {self.button: self._offered()}

    def _offered(self) -> gr.Button:
        return gr.Button("Stop", interactive=True)
