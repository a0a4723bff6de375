"""How the page asks its functions: settings that its event listeners share.

Only what goes through the queue makes Gradio notice that a state changed.
"""

from __future__ import annotations

from types import MappingProxyType

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
