"""Availability of methods on this machine, by weights.

No file is opened and no network is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from .bundle import WEIGHTS
from .checkpoints import find_checkpoint
from .local_files import locate
from .presets import Preset
from .published import PublishedWeights

if TYPE_CHECKING:
    from ..registry import MethodInfo

Status = Literal["ready", "untrained", "needs-download", "unavailable"]
"""Status of a method.

``untrained``: the method has no bundle for the preset. ``unavailable``: its networks cannot be
downloaded before their terms are accepted.
"""


def has_weights(preset: Preset) -> bool:
    """Return whether the preset's SAM and CLIP are on this machine, without opening a file."""
    if preset.sources:
        return None not in map(locate, preset.sources)
    parts = (find_checkpoint(preset.name, part) for part in ("sam", "clip"))
    return all((part / WEIGHTS).is_file() for part in parts)


def missing_weights(method: MethodInfo, preset: Preset) -> tuple[PublishedWeights, ...]:
    """Return the published networks that a method needs with a preset and that are missing here."""
    needed = (*preset.sources, *method.extra_networks(preset))
    return tuple(published for published in needed if locate(published) is None)


def method_status(method: MethodInfo, preset: Preset) -> Status:
    """Return whether a method can run with a preset on this machine, and if not, why."""
    if method.needs_training:
        bundle = find_checkpoint(preset.name, method.id)
        if not (bundle / WEIGHTS).is_file():  # A folder without them may be a run to resume.
            return "untrained"
    missing = missing_weights(method, preset)
    if any(published.gated for published in missing):
        return "unavailable"
    return "needs-download" if missing or not has_weights(preset) else "ready"
