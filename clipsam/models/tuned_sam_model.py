"""SAM with a tuned decoder, optionally with an adapted encoder and a tuned CLIP.

One network for CLIP-Guided SAM (arXiv 2605.24807), SAM-PTx (arXiv 2508.00213), the SAM-PEFT
baselines (SU-SAM) and tuned CLIP Surgery + SAM: they differ in their :class:`TunedSamConfig` only.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

from segment_anything.modeling import Sam
from torch import Tensor, nn

from .adapters import SemanticCondition
from .clip import SurgeryVision, similarity_grid, tokens_to_grid
from .image_encoder import AdaptedImageEncoder, AdapterConfig


@dataclass(frozen=True)
class TunedSamConfig:
    """Additions of a method to SAM, and its use of CLIP.

    Attributes:
        adapters: in SAM's image encoder; ``None`` leaves it plain.
        clip: how patch features and similarity maps are read: with CLIP Surgery, from ``plain``
            CLIP, or not at all.
        clip_blocks: tune the attention of CLIP's last C vision blocks; ``None`` tunes all, 0 none.
        dense_prompt: the similarity map is SAM's mask prompt.
        text_positions: has a position embedding of CLIP's text tower of its own. In the authors'
            training it receives a gradient through the redundant feature; ours leaves it.
    """

    adapters: AdapterConfig | None = None
    clip: Literal["surgery", "plain"] | None = None
    clip_blocks: int | None = 0
    dense_prompt: bool = False
    text_positions: bool = False

    def __post_init__(self) -> None:
        if self.clip is None and (self.dense_prompt or (self.adapters and self.sees_patches)):
            raise ValueError("patch features, similarity and the dense prompt come from CLIP")

    @property
    def sees_text(self) -> bool:
        """Whether the class text conditions the encoder."""
        return self.adapters is not None and self.adapters.text

    @property
    def sees_patches(self) -> bool:
        """Whether CLIP's patch features or similarities condition the encoder."""
        return self.adapters is not None and self.adapters.sees_patches

    @classmethod
    def from_json(cls, content: dict) -> TunedSamConfig:
        """Restore a configuration from the JSON of ``dataclasses.asdict``."""
        adapters = content["adapters"]
        adapters = None if adapters is None else AdapterConfig(**adapters)
        return cls(**{**content, "adapters": adapters})


class TunedSam(nn.Module):
    """The parts of SAM that a method changes, and the frozen ones that it shares.

    Tuned (CLIP-Guided SAM, section 3.4): adapters, mask decoder, prompt encoder and, by choice,
    CLIP's vision attention. Frozen and borrowed: the rest of SAM's image encoder.
    """

    def __init__(
        self,
        sam: Sam,
        vision: SurgeryVision,
        config: TunedSamConfig,
        text_positions: Tensor | None = None,
    ) -> None:
        """Build the layers.

        Args:
            sam: a frozen SAM; its encoder is borrowed, its decoder copied.
            vision: CLIP's frozen vision tower; borrowed, or copied where its attention is tuned.
            config: what to add and to tune.
            text_positions: CLIP's position embedding of text (N, W), copied if the configuration
                asks for its own.
        """
        super().__init__()
        self.config = config
        # Without adapters there is nothing to add, but the encoder is still run from its parts.
        adapters = config.adapters or AdapterConfig(last_blocks=0)
        self.image_encoder = AdaptedImageEncoder(sam.image_encoder, adapters)
        self.prompt_encoder = copy.deepcopy(sam.prompt_encoder).requires_grad_(True)
        self.mask_decoder = copy.deepcopy(sam.mask_decoder).requires_grad_(True)
        self.vision = None
        if config.clip is not None:
            layers = vision.surgery_layers if config.clip == "surgery" else 0
            self.vision = vision.with_layers(layers)
            if config.clip_blocks != 0:
                self.vision = self.vision.tunable_copy(config.clip_blocks)
        self.text_positions = None
        if config.text_positions:
            if text_positions is None:
                raise ValueError("the configuration asks for a position embedding of text")
            self.text_positions = nn.Parameter(text_positions.detach().clone())

    def trainable_state(self) -> dict[str, Tensor]:
        """Return the trained tensors by name: the content of a bundle."""
        return {name: p.detach() for name, p in self.named_parameters() if p.requires_grad}

    def condition(
        self, tokens: Tensor | None, text: Tensor | None, sampling_grid: Tensor | None
    ) -> SemanticCondition | None:
        """Compute the adapters' condition: text, and patch features plus similarity (section 3.3).

        Args:
            tokens: normalised CLIP tokens (B, 1 + N, T); used if adapters see patches.
            text: unit-norm class text (B, T); used if adapters see the class at all.
            sampling_grid: see :class:`SemanticCondition`.
        """
        adapters = self.config.adapters
        if adapters is None or not adapters.sees_class:
            return None
        if text is None:
            raise ValueError("adapters that see the class need its text")
        if not adapters.sees_patches:
            return SemanticCondition(text)
        if tokens is None:
            raise ValueError("adapters that see patches need CLIP's tokens")
        similarity = similarity_grid(tokens, text) if adapters.similarity else None
        return SemanticCondition(text, self._vision(tokens), similarity, sampling_grid)

    def see_patches(self, tokens: Tensor, sampling_grid: Tensor | None) -> Tensor:
        """Compute the part of :meth:`condition` shared by all classes of an image.

        Args:
            tokens, sampling_grid: as for :meth:`condition`, of B images.

        Returns:
            See :meth:`AdaptedImageEncoder.see_patches`.
        """
        return self.image_encoder.see_patches(self._vision(tokens), sampling_grid)

    def _vision(self, tokens: Tensor) -> Tensor | None:
        """Compute V, the class-independent features of CLIP's patches (section 3.3)."""
        adapters = self.config.adapters
        return tokens_to_grid(tokens) if adapters is not None and adapters.vision else None
