"""What can be chosen on the page: each method in each of its modes, and why some cannot run."""

from __future__ import annotations

from dataclasses import dataclass

from ..predictor import methods
from ..weights.presets import Preset


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
    predictor = methods()[method]
    match predictor.status(preset):
        case "ready":
            return ""
        case "untrained":
            return f"not trained for {preset.name}: train it, or load weights"
        case "needs-download":
            missing = " and ".join(one.repo for one in predictor.missing(preset))
            return f"needs {missing or 'weights'}, not on this machine yet"
        case "unavailable":
            gated = next(one.repo for one in predictor.missing(preset) if one.gated)
            return (
                f"needs {gated}: accept its terms on the hub, set HF_TOKEN to your token, then "
                "download it"
            )


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
