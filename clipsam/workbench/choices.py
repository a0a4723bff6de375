"""Choices on the page: each method in each of its modes, and why some cannot run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..predictor import Predictor
from ..registry import find_info, methods
from ..weights.availability import method_status, missing_weights
from ..weights.presets import Preset


@dataclass(frozen=True)
class MethodChoice:
    """A method in one of its modes.

    Attributes:
        method: its id.
        mode: one of its modes.
        title: display title.
        summary: one sentence about the method.
        joint: whether its classes compete, see :class:`Predictor`.
        bundle: the folder of weights trained in this session; ``None`` for the project's own.
    """

    method: str
    mode: str
    title: str
    summary: str
    joint: bool = False
    bundle: Path | None = None

    @property
    def key(self) -> str:
        """Unique key of the choice."""
        weights = "" if self.bundle is None else f"@{self.bundle.name}"
        return f"{self.method}{weights}/{self.mode}"

    @property
    def needs_marks(self) -> bool:
        """Whether the mode needs a point or a box for every class."""
        return self.mode == "manual"

    def problem(self, preset: Preset) -> str:
        """Return the reason why it cannot run with a preset; empty if it can."""
        return why_not(self.method, preset)


def why_not(method: str, preset: Preset) -> str:
    """Return the reason why a method cannot run with a preset; empty if it can."""
    info = find_info(method)
    match method_status(info, preset):
        case "ready":
            return ""
        case "untrained":
            return f"not trained for {preset.name}: train it or import weights"
        case "needs-download":
            missing = " and ".join(one.repo for one in missing_weights(info, preset))
            return f"needs {missing or 'weights'}, which must be downloaded first"
        case "unavailable":
            gated = next(one.repo for one in missing_weights(info, preset) if one.gated)
            return (
                f"needs {gated}: accept its terms on the hub, set HF_TOKEN to your token, then "
                "download it"
            )


def all_choices() -> tuple[MethodChoice, ...]:
    """Return every registered method in every mode, the papers' methods first."""
    predictors = sorted(methods().values(), key=lambda one: one.info.kind != "method")
    return tuple(choice for one in predictors for choice in choices_of(one, one.info.name))


def choices_of(
    method: type[Predictor], name: str, bundle: Path | None = None
) -> tuple[MethodChoice, ...]:
    """Return a method in each of its modes.

    Args:
        method: the method.
        name: display name.
        bundle: its weights; ``None`` for the project's own.
    """
    info = method.info
    return tuple(
        MethodChoice(info.id, mode, f"{name} · {mode}", info.summary, method.joint, bundle)
        for mode in info.modes
    )


DEFAULT_KEYS = (
    "clip-guided-sam/semi-automatic",
    "esc-net/whole-image",
    "clip-surgery-sam/vanilla",
)
"""Methods selected by default; they need class names only."""

CLICK_KEYS = ("sam-ptx/manual", "sam/manual")
"""Methods that join the default ones as soon as every class has a point or a box."""
