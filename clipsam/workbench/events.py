"""What event listeners take and give: settings that they share, values, sentences for the user.

Only what goes through the queue makes Gradio notice that a state changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from types import MappingProxyType
from typing import Any

import gradio as gr

PRIVATE = MappingProxyType({"api_visibility": "private"})
"""Through the queue; not for programs, which have the functions of :mod:`.api`."""

FILED = MappingProxyType({"show_progress": "hidden", **PRIVATE})
"""The same, too short to show progress."""

QUICK = MappingProxyType({"queue": False, **FILED})
"""At once, past what runs and waits: for what needs no model and changes no state."""

LATEST = MappingProxyType({"trigger_mode": "always_last", **QUICK})
"""The same, for what may be asked faster than it is answered."""

ON_GPU = MappingProxyType({"concurrency_id": "gpu", "concurrency_limit": 1})
"""One at a time, whoever asks: it takes the GPU, or all cores."""

Values = Mapping[gr.blocks.Block, Any]
"""What a listener is handed whose inputs are a set: values by component."""

Updates = dict[gr.blocks.Block, object]
"""What a listener changes: new values by component."""


def problem(sentence: str) -> str:
    """Say what went wrong and what would be right; screen readers read it out at once."""
    return f"<p class='problem' role='alert'>{escape(sentence)}</p>"


def note(sentence: str) -> str:
    """Say what is now so."""
    return f"<p class='note' role='status'>{escape(sentence)}</p>"
