"""Event listeners: shared settings, types of their values, and messages to the user.

Gradio only notices a changed state if the event goes through the queue.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from types import MappingProxyType
from typing import Any

import gradio as gr

from .zero_gpu import ON_ZERO_GPU

PRIVATE = MappingProxyType[str, Any]({"api_visibility": "private"})
"""Settings of queued events that are hidden from the API; programs use :mod:`.api`."""

FILED = MappingProxyType[str, Any]({"show_progress": "hidden", **PRIVATE})
"""Settings of queued events that are too short to show progress."""

QUICK = MappingProxyType[str, Any]({"queue": False, **FILED})
"""Settings of events that bypass the queue: they run no model and change no state."""

LATEST = MappingProxyType[str, Any]({"trigger_mode": "always_last", **QUICK})
"""Settings of unqueued events that may fire faster than they are handled."""

MAX_RUNNING = 1 if ON_ZERO_GPU else 24
"""Requests that share the models, see :mod:`.turns`; further ones wait in Gradio's queue."""

ON_GPU = MappingProxyType[str, Any]({"concurrency_id": "gpu", "concurrency_limit": MAX_RUNNING})
"""Settings of events that run models."""

EVALUATING, TRAINING = (
    ON_GPU
    if ON_ZERO_GPU
    else MappingProxyType[str, Any]({"concurrency_id": name, "concurrency_limit": most})
    for name, most in (("evaluating", 4), ("training", 2))
)
"""Settings of long events, few at a time, since each keeps features or weights in memory."""

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
