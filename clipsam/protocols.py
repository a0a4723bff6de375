"""The papers' protocols: one name for all that surrounds a network when a figure is made.

A protocol sets how images are prepared, how SAM is prompted from a map, by which words a class is
asked, and what is resized before it is scored. Each holds what its source states; the rest stays
as the method has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .errors import PromptError
from .prompting import REFERENCE_PROMPTS, PromptSettings
from .registry import SLIDING
from .types import ScoreSpace
from .weights.presets import PRESETS, REFERENCE_PREPARATION, Preparation, Preset


@dataclass(frozen=True)
class PaperProtocol:
    """What one paper, or the code of its authors, does around its network.

    Attributes:
        name: on the command line.
        source: where its settings are from.
        preparation: of images; ``None`` for any. Bundled networks keep their own, with which they
            were trained.
        prompts: made from similarity maps; ``None`` for those of the method or its bundle.
        synonyms: whether a data set's classes are asked by all their names, see
            :mod:`clipsam.data.synonyms`.
        mode: of methods that have it, unless another one is given.
        score_space: what is resized to the image's size before it is scored.
    """

    name: str
    source: str
    preparation: Preparation | None = None
    prompts: PromptSettings | None = None
    synonyms: bool = False
    mode: str | None = None
    score_space: ScoreSpace = "logits"

    def prepare(self, preset: Preset) -> Preset:
        """Return the preset with the same SAM and CLIP that prepares images as the protocol does.

        Raises:
            PromptError: there is none.
        """
        if preset.bundled or self.preparation in (None, preset.preparation):
            return preset
        fitting = [one for one in PRESETS.values() if one.preparation == self.preparation]
        for other in fitting:
            if (other.sam, other.clip, other.sources) == (preset.sam, preset.clip, preset.sources):
                return other
        names = " or ".join(one.name for one in fitting)
        raise PromptError(
            f"No preset with the networks of {preset.name} prepares images as the protocol "
            f"{self.name} does. Choose {names}, or no protocol."
        )

    def mode_of(self, modes: Sequence[str]) -> str:
        """Return which of a method's modes is the default one."""
        return self.mode if self.mode is not None and self.mode in modes else modes[0]


PROTOCOLS: dict[str, PaperProtocol] = {
    protocol.name: protocol
    for protocol in (
        PaperProtocol(
            "clip-guided-sam",
            "code of the authors of arXiv 2605.24807",
            preparation=REFERENCE_PREPARATION,
            prompts=REFERENCE_PROMPTS,
            synonyms=True,
        ),
        # Its own method, clip-surgery-sam-demo, holds the rest of what the demo does.
        PaperProtocol(
            "clip-surgery",
            "demo of the authors of arXiv 2304.05653",
            preparation=Preparation(),
            prompts=PromptSettings(point_threshold=0.8),
        ),
        # Points come from the truth; the code is that of CLIP-Guided SAM.
        PaperProtocol(
            "sam-ptx",
            "arXiv 2508.00213, images as in the code of arXiv 2605.24807",
            preparation=REFERENCE_PREPARATION,
        ),
        # No code was published; it builds on CAT-Seg.
        PaperProtocol(
            "esc-net",
            "arXiv 2411.14723, where it is silent the code of arXiv 2303.11797",
            mode=SLIDING,
            score_space="probabilities",
        ),
        PaperProtocol(
            "cat-seg",
            "code of the authors of arXiv 2303.11797",
            mode=SLIDING,
            score_space="probabilities",
        ),
    )
}
"""Every protocol by its name."""


def find_protocol(name: str | None) -> PaperProtocol:
    """Return the protocol with a name; for ``None`` the one that sets nothing.

    Raises:
        PromptError: there is none with that name.
    """
    if name is None:
        return NO_PROTOCOL
    if name not in PROTOCOLS:
        raise PromptError(f"There is no protocol “{name}”, expected one of {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]


NO_PROTOCOL = PaperProtocol("", "")
"""Everything as the method has it."""
