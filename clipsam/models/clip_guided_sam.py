"""CLIP-Guided SAM's network (arXiv 2605.24807): semantic adapters inside SAM's image encoder."""

from __future__ import annotations

import copy

from segment_anything.modeling import Sam
from torch import Tensor, nn

from .adapters import SemanticCondition
from .clip import SurgeryVision, fuse_similarity, patch_similarity
from .image_encoder import AdaptedImageEncoder, AdapterConfig


class ClipGuidedSam(nn.Module):
    """SAM whose encoder sees the class, and the parts of it and of CLIP that are tuned.

    Tuned (section 3.4): adapters, mask decoder, prompt encoder, CLIP's vision attention. Frozen
    and borrowed: the rest of SAM's image encoder.
    """

    def __init__(self, sam: Sam, vision: SurgeryVision, adapters: AdapterConfig) -> None:
        """
        Args:
            sam: a frozen SAM; its encoder is borrowed, its decoder copied.
            vision: CLIP's frozen vision tower; copied, since its attention is tuned.
            adapters: must see text and vision.
        """
        super().__init__()
        self.image_encoder = AdaptedImageEncoder(sam.image_encoder, adapters)
        self.prompt_encoder = copy.deepcopy(sam.prompt_encoder).requires_grad_(True)
        self.mask_decoder = copy.deepcopy(sam.mask_decoder).requires_grad_(True)
        self.vision = vision.tunable_copy()

    def trainable_state(self) -> dict[str, Tensor]:
        """What training changes, by name: the content of a bundle."""
        return {name: p.detach() for name, p in self.named_parameters() if p.requires_grad}

    def condition(
        self, tokens: Tensor, text: Tensor, sampling_grid: Tensor | None
    ) -> SemanticCondition:
        """What the adapters see: text, and patch features plus similarity (section 3.3).

        Args:
            tokens: normalised CLIP tokens (B, 1 + N, T).
            text: unit-norm class text (B, T).
            sampling_grid: see :class:`SemanticCondition`.
        """
        vision = fuse_similarity(tokens, patch_similarity(tokens, text))
        return SemanticCondition(text, vision, sampling_grid)

    def encode(self, prefix: Tensor, condition: SemanticCondition) -> Tensor:
        """Tokens of plain SAM before the first adapted block, for B pairs → (B, 256, h, w)."""
        return self.image_encoder.run_adapted(prefix, condition)
