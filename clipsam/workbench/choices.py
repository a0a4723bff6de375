"""What can be chosen on the page: each method in each of its modes, and why some cannot run."""

from __future__ import annotations

from dataclasses import dataclass

from ..predictor import Status, methods
from ..weights.presets import Preset

REASONS: dict[Status, str] = {
    "untrained": "not trained for {preset}: train it, or load weights",
    "needs-download": "needs the weights of {preset}, which are not on this machine",
    "unavailable": "cannot run on this machine",
}


@dataclass(frozen=True)
class Choice:
    """A method in one of its modes.

    Attributes:
        method: its id.
        mode: one of its modes.
        title: as shown.
        summary: one sentence: what it does.
        joint: whether its classes compete, see :class:`Predictor`.
    """

    method: str
    mode: str
    title: str
    summary: str
    joint: bool = False

    @property
    def key(self) -> str:
        """Tells it from all other choices."""
        return f"{self.method}/{self.mode}"

    @property
    def needs_marks(self) -> bool:
        """Whether it needs a point or a box for every class."""
        return self.mode == "manual"

    def problem(self, preset: Preset) -> str:
        """Why it cannot run with a preset; empty if it can."""
        return why_not(self.method, preset)


def why_not(method: str, preset: Preset) -> str:
    """Why a method cannot run with a preset; empty if it can."""
    status = methods()[method].status(preset)
    return "" if status == "ready" else REASONS[status].format(preset=preset.name)


def all_choices() -> tuple[Choice, ...]:
    """Every registered method in every mode, the papers' methods first."""
    predictors = sorted(methods().values(), key=lambda one: one.info.kind != "method")
    return tuple(
        Choice(one.info.id, mode, f"{one.info.name} · {mode}", one.info.summary, one.joint)
        for one in predictors
        for mode in one.info.modes
    )


DEFAULT_KEYS = ("clip-guided-sam/semi-automatic", "clip-surgery-sam/vanilla")
"""What is ticked at first: needs nothing but class names."""
