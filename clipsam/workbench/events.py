"""Event listeners: shared settings, types of their values, and messages to the user.

Gradio only notices a changed state if the event goes through the queue.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from types import MappingProxyType
from typing import Any

import gradio as gr

PRIVATE = MappingProxyType[str, Any]({"api_visibility": "private"})
"""Settings of queued events that are hidden from the API; programs use :mod:`.api`."""

FILED = MappingProxyType[str, Any]({"show_progress": "hidden", **PRIVATE})
"""Settings of queued events that are too short to show progress."""

QUICK = MappingProxyType[str, Any]({"queue": False, **FILED})
"""Settings of events that bypass the queue: they run no model and change no state."""

LATEST = MappingProxyType[str, Any]({"trigger_mode": "always_last", **QUICK})
"""Settings of unqueued events that may fire faster than they are handled."""

ON_GPU = MappingProxyType[str, Any]({"concurrency_id": "gpu", "concurrency_limit": 1})
"""Settings of events that run one at a time, since they use the GPU or all cores."""

Values = Mapping[gr.blocks.Block, Any]
"""Input values by component, as a listener receives them."""

Updates = dict[gr.blocks.Block, object]
"""New values by component, as a listener returns them."""


def problem(sentence: str) -> str:
    """Format an error message, announced at once by screen readers."""
    return f"<p class='problem' role='alert'>{escape(sentence)}</p>"


def note(sentence: str) -> str:
    """Format a status message."""
    return f"<p class='note' role='status'>{escape(sentence)}</p>"
