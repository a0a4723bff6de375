"""Whose turn it is to run models: the requests of all visitors share one machine.

A request runs models only during its turn, and gives way between pieces of its work, such as
classes, images or training steps. The next turn goes to the request that has had the least so far,
so that a short one is answered soon, however long those before it are; but whoever has waited for
:data:`PATIENCE` comes first.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

SLICE = 0.5
"""Seconds after which a request gives way if others wait."""

PATIENCE = 10.0
"""Seconds of waiting after which the order of arrival counts instead."""

POLL = 0.5
"""Interval at which a waiting request looks whether it is still wanted, seconds."""


class Unwanted(Exception):
    """Raised in the work of a request whose answer nobody waits for any more."""


class Turns:
    """Turns of all requests; one request has it at a time."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[Turn] = []
        self._running: Turn | None = None

    def request(self, is_wanted: Callable[[], bool] = lambda: True) -> Turn:
        """Announce a request.

        Args:
            is_wanted: whether somebody still waits for its answer; asked from any thread.
        """
        return Turn(self, is_wanted)

    @property
    def is_busy(self) -> bool:
        """Whether a request has its turn."""
        return self._running is not None

    @property
    def waiting(self) -> int:
        """Number of requests that wait for their turn."""
        return len(self._waiting)

    def _acquire(self, turn: Turn) -> None:
        began = time.monotonic()
        with self._changed:
            turn._since = began
            self._waiting.append(turn)
            try:
                while self._running is not None or self._next() is not turn:
                    self._changed.wait(POLL)
                    turn.check()
                self._running, turn._held = turn, True
            finally:
                self._waiting.remove(turn)
                self._changed.notify_all()
        turn._began = time.monotonic()
        turn.waited += turn._began - began

    def _release(self, turn: Turn) -> None:
        turn.used += time.monotonic() - turn._began
        with self._changed:
            self._running, turn._held = None, False
            self._changed.notify_all()

    def _next(self) -> Turn:
        """Return who has the next turn."""
        now = time.monotonic()
        late = [turn for turn in self._waiting if now - turn._since > PATIENCE]
        if late:
            return min(late, key=lambda turn: turn._since)
        return min(self._waiting, key=lambda turn: (turn.used, turn._since))


class Turn:
    """One request: a context during which it may run models; contexts may be nested.

    Attributes:
        used: seconds during which it had its turn.
        waited: seconds during which it waited for it.
    """

    def __init__(self, turns: Turns, is_wanted: Callable[[], bool]) -> None:
        self.used = self.waited = 0.0
        self._turns, self._is_wanted = turns, is_wanted
        self._depth, self._held = 0, False
        self._since = self._began = 0.0

    def check(self) -> None:
        """Check that the answer is still wanted.

        Raises:
            Unwanted: it is not.
        """
        if not self._is_wanted():
            raise Unwanted

    def __enter__(self) -> Turn:
        if not self._depth:
            self.check()
            self._turns._acquire(self)
        self._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth and self._held:
            self._turns._release(self)

    def pause(self) -> bool:
        """Let others run if some wait and this request has had its share.

        Returns:
            Whether others may have run meanwhile.

        Raises:
            Unwanted: the answer is not wanted any more.
        """
        self.check()
        turns = self._turns
        if not turns._waiting or time.monotonic() - self._began < SLICE:
            return False
        turns._release(self)
        turns._acquire(self)
        return True
