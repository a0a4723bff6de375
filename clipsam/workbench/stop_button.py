"""The Stop button, which ends the running job and the queued ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import gradio as gr
from gradio.events import Dependency

from .events import QUICK, Updates


class Stoppable(Protocol):
    """Session of a page that can be stopped.

    Attributes:
        stopped: whether Stop was pressed since the latest Run; queued jobs are then skipped.
    """

    stopped: bool

    def stop(self) -> None:
        """Record that Stop was pressed; the job at hand ends soon, even if Run is pressed now."""


class StopButton:
    """Stop button, enabled while a job runs or waits.

    Attributes:
        button: the component.
    """

    def __init__(self, elem_id: str) -> None:
        """Build the button inside the open ``gr.Blocks``."""
        self.button = gr.Button("Stop", interactive=False, elem_id=elem_id, scale=2, min_width=80)

    def connect(self, session: gr.State, starts: Sequence[Callable[..., Dependency]]) -> None:
        """Enable the button whenever one of the events starts a job.

        Args:
            session: the page's :class:`Stoppable`.
            starts: events that start a job; their listeners must be connected afterwards.
        """
        # Through no queue, so that it also ends what waits in one.
        gr.on(starts, self.begin, session, self.button, **QUICK)
        self.button.click(self.end, session, self.button, **QUICK)

    def rest_after(self, run: Dependency) -> None:
        """Disable the button when a job has ended, for whatever reason."""
        run.then(self.rest, None, self.button, **QUICK)
        run.failure(self.rest, None, self.button, **QUICK)  # A full queue is all there is then.

    def begin(self, session: Stoppable) -> gr.Button:
        """Clear the stop request for a new job."""
        session.stopped = False
        return self._offered()

    def end(self, session: Stoppable) -> gr.Button:
        """Request a stop."""
        session.stop()
        return gr.Button("Stopping …", interactive=False)

    def rest(self) -> gr.Button:
        """Disable the button."""
        return gr.Button("Stop", interactive=False)

    def offer(self) -> Updates:
        """Return an update that enables the button again after an earlier job has disabled it."""
        return {self.button: self._offered()}

    def _offered(self) -> gr.Button:
        return gr.Button("Stop", interactive=True)
