"""Who is still there: whether a page or a client waits for an answer, and sessions without a page.

Gradio has no public interface for either. Where its internals have changed, a caller counts as
present and a session as open.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import datetime
from typing import Any

import gradio as gr
from gradio.context import LocalContext

SESSION_SECONDS = 3600.0
"""Time after which the state of a session without an open page is dropped, seconds.

A page whose connection was lost, as on a laptop that slept, finds it until then.
"""

MAX_SESSIONS = 1000
"""Sessions whose state is kept; above it, the least recently used one is dropped."""

SWEEP_SECONDS = 60.0
"""Interval between two sweeps for such sessions, seconds."""

HEARTBEAT = "/heartbeat/"
"""Part of the address of the connection that every open page holds, followed by its session."""

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Application = Callable[[Scope, Callable[..., Awaitable], Callable[..., Awaitable]], Awaitable[None]]


def caller_is_there() -> Callable[[], bool]:
    """Return a function that says whether the caller of the running event still waits.

    To be called in the event's listener; its result may be called from any thread.
    """
    try:
        blocks, event = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
        if blocks is None or event is None:
            return lambda: True
        running = blocks._queue.event_ids_to_events.get(event)
    except AttributeError:
        return lambda: True
    return lambda: getattr(running, "alive", True)


class OpenPages:
    """The sessions whose page is open, by the connection that it holds; ASGI middleware.

    Attributes:
        sessions: number of open connections by session.
    """

    def __init__(self) -> None:
        self.sessions: Counter[str] = Counter()

    def around(self, app: Application) -> Application:
        """Return an application that counts the connections of pages to another one."""

        async def counted(
            scope: Scope, receive: Callable[..., Awaitable], send: Callable[..., Awaitable]
        ) -> None:
            _, found, session = str(scope.get("path", "")).rpartition(HEARTBEAT)
            if not found:
                return await app(scope, receive, send)
            self.sessions[session] += 1
            try:
                return await app(scope, receive, send)
            finally:
                self.sessions[session] -= 1
                if not self.sessions[session]:
                    del self.sessions[session]

        return counted

    def drop_abandoned(self, app: Any, now: datetime | None = None) -> int:
        """Drop the state of all sessions without a page, see :data:`SESSION_SECONDS`.

        Args:
            app: Gradio's application.
            now: the time.

        Returns:
            Number of dropped sessions.
        """
        holder, now = app.state_holder, now or datetime.now()
        used = dict(holder.time_last_used)
        oldest_first = sorted(holder.session_data, key=lambda name: used.get(name, now))
        too_many = len(oldest_first) - MAX_SESSIONS
        dropped = 0
        for number, session in enumerate(oldest_first):
            idle = (now - used.get(session, now)).total_seconds()
            abandoned = session not in self.sessions and idle > SESSION_SECONDS
            if abandoned or number < too_many:
                _drop(holder, session)
                dropped += 1
        return dropped

    def sweep(self, page: gr.Blocks) -> None:
        """Drop abandoned sessions from now on; the page may be launched later."""

        def work() -> None:
            while True:
                time.sleep(SWEEP_SECONDS)
                if not getattr(page, "is_running", False):
                    continue
                try:
                    self.drop_abandoned(page.app)
                except Exception:
                    logger.exception("abandoned sessions cannot be dropped")
                    return

        threading.Thread(target=work, daemon=True, name="abandoned sessions").start()


def _drop(holder: Any, session: str) -> None:
    """Drop a session's state, also what was never returned by a listener."""
    state = holder.session_data[session]
    for key, value in list(state.state_data.items()):
        block = state.blocks_config.blocks.get(key)
        if isinstance(block, gr.State):
            block.delete_callback(value)
    with holder.lock:
        holder.session_data.pop(session, None)
        holder.time_last_used.pop(session, None)
