"""ESC-Net: SAM's decoder layers inside CLIP, for any words (CVPR 2025, arXiv 2411.14723).

CLIP computes a map of cosines for each class. In each of N blocks the map prompts SAM's decoder
layers, which add object boundaries to CLIP's image features; these and the class texts refine the
map. A light decoder increases the resolution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from segment_anything.modeling import Sam
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn
from transformers import CLIPModel

from .clip_features import ClipFeatures, correlate, encode_image, tunable_clip
from .config import EscNetConfig
from .decoder import Decoder
from .fusion import VisionLanguageFusion
from .prompts import PseudoPrompts
from .sam_block import SamBlock, sam_decoder_state, sam_neck


@dataclass(frozen=True)
class BlockInputs:
    """Input of one block, for display; without gradient.

    Attributes:
        maps: M^{k-1}, float32 (B, N_c, h, w), from which it made its prompts.
        prompts: SAM prompts, leading dimensions (B, N_c); ``None`` without SAM.
    """

    maps: Tensor
    prompts: PseudoPrompts | None


@dataclass(frozen=True)
class EscNetOutput:
    """Result for all classes.

    Attributes:
        logits: (B, N_c, 4h, 4w), each class on its own: a sigmoid gives its probability.
        correlation: M⁰, float32 (B, N_c, h, w), CLIP's raw cosines.
        blocks: input of each block, in order.
    """

    logits: Tensor
    correlation: Tensor
    blocks: tuple[BlockInputs, ...]


class EscBlock(nn.Module):
    """One block: neck and SAM's layers over all classes, then fusion class by class."""

    def __init__(self, config: EscNetConfig, clip_dim: int, grid: int, last: bool) -> None:
        super().__init__()
        self.neck = sam_neck(clip_dim)
        self.sam = SamBlock(config, clip_dim, grid) if config.use_sam else None
        self.fusion = VisionLanguageFusion(config, grid, last)

    def guide(
        self,
        dense: Tensor,
        maps: list[Tensor],
        texts: list[Tensor],
        between: Callable[[], None] = lambda: None,
    ) -> tuple[Tensor, PseudoPrompts | None]:
        """Refine F_v (B, D, h, w) to F'_v (B, 256, h, w), with 256 channels for the fusion."""
        image = self.neck(dense)
        return (image, None) if self.sam is None else self.sam(image, maps, texts, between)


class EscNet(nn.Module):
    """The whole network with CLIP; see :class:`EscNetConfig` for its ablations.

    Trainable: all that is new, what comes from SAM, and the q and v projections of both towers
    of CLIP (paper, implementation details), see :meth:`parameter_groups`.
    """

    def __init__(self, clip: CLIPModel, config: EscNetConfig) -> None:
        """Build the layers.

        Args:
            clip: any size; borrowed but for what is tuned. Its logit scale is not used.
            config: what to build. SAM's part is random until :func:`load_sam_decoder`.

        Raises:
            ValueError: the image, the windows or the skip layers do not fit this CLIP.
        """
        super().__init__()
        vision = clip.config.vision_config
        grid = config.grid(vision.patch_size)
        first, second = config.skip_layers
        if not 1 <= first < second < vision.num_hidden_layers:
            raise ValueError(
                f"skip_layers must increase within 1..{vision.num_hidden_layers - 1}, got "
                f"{config.skip_layers}"
            )
        self.config = config
        self.clip = tunable_clip(clip)
        dim = clip.config.projection_dim
        self.blocks = nn.ModuleList(
            EscBlock(config, dim, grid, last=number == config.blocks)
            for number in range(1, config.blocks + 1)
        )
        # t, the class texts as all blocks' class attention sees them.
        self.words: nn.Sequential | None
        self.words = nn.Sequential(nn.Linear(dim, config.hidden), nn.ReLU())
        self.embed: nn.Linear | None = None
        if not self.blocks:  # then nobody reads t, and the decoder still needs a state
            self.words, self.embed = None, nn.Linear(1, config.hidden)
        self.decoder = Decoder(config.hidden, vision.hidden_size)

    def encode_image(self, pixels: Tensor) -> ClipFeatures:
        """Encode normalised images (B, 3, S, S), S the configured size, for :meth:`forward`."""
        return encode_image(self.clip, pixels, self.config)

    def forward(
        self,
        features: ClipFeatures,
        text: Tensor,
        chunk: int | None = None,
        between: Callable[[], None] = lambda: None,
    ) -> EscNetOutput:
        """Segment B images into N_c classes.

        Classes meet only in F'_v, a sum over them, and in the memory of their texts. So each
        block can take them in chunks, twice: once to sum up F'_v, once to go on with it. The
        result is the same up to the order of that sum; memory beyond one chunk is E and M.

        Args:
            features: of the images.
            text: F_l, unit-norm (N_c, D), see :func:`encode_classes`.
            chunk: classes at a time; ``None`` takes all at once.
            between: called after each chunk.
        """
        texts = list(text.split(chunk or len(text)))
        correlation = correlate(features.dense, text)
        maps = list(correlation.split(chunk or len(text), dim=1))
        states: list[Tensor] = [torch.zeros((), device=text.device)] * len(texts)
        words = [] if self.words is None else [self.words(part) for part in texts]
        traces = []
        for block in cast(Iterable[EscBlock], self.blocks):
            seen = torch.cat(maps, dim=1)
            guidance, prompts = block.guide(features.dense, maps, texts, between)
            traces.append(BlockInputs(seen.detach(), prompts))
            memory = block.fusion.classes.remember(torch.cat(words))
            for i, part in enumerate(words):
                states[i], maps[i] = block.fusion(states[i], maps[i], guidance, part, memory)
                between()
        if self.embed is not None:
            states = [self.embed(part[..., None]) for part in maps]
        skips = self.decoder.read_skips(features.skips)
        logits = []
        for state in states:
            logits.append(self.decoder(state, skips))
            between()
        return EscNetOutput(torch.cat(logits, dim=1), correlation.detach(), tuple(traces))

    def parameter_groups(
        self, lr: float = 2e-4, pretrained_lr: float = 2e-6, weight_decay: float = 1e-4
    ) -> Iterator[dict]:
        """Return groups for AdamW: new weights at ``lr``, CLIP and SAM slower; no decay on norms.

        The defaults are the paper's (implementation details) and, for the decay, CAT-Seg's.
        """
        norms = {
            parameter
            for module in self.modules()
            if isinstance(module, (nn.LayerNorm, nn.GroupNorm, LayerNorm2d))
            for parameter in module.parameters()
        }
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                kind = is_pretrained(name), parameter in norms
                groups.setdefault(kind, []).append(parameter)
        for (pretrained, norm), parameters in sorted(groups.items()):
            yield {
                "name": f"{'pretrained' if pretrained else 'head'}{' norms' if norm else ''}",
                "params": parameters,
                "lr": pretrained_lr if pretrained else lr,
                "weight_decay": 0.0 if norm else weight_decay,
            }

    def trainable_state(self) -> dict[str, Tensor]:
        """Return the trained tensors by name: the content of a bundle."""
        state = {name: p.detach() for name, p in self.named_parameters() if p.requires_grad}
        if not self.config.pretrained_sam:  # then no checkpoint has the positions' frequencies
            frequencies = "positional_encoding_gaussian_matrix"
            state |= {name: b for name, b in self.named_buffers() if name.endswith(frequencies)}
        return state


def is_pretrained(name: str) -> bool:
    """Return whether a parameter of :class:`EscNet` comes from CLIP or SAM."""
    return name.startswith("clip.") or ".sam.pretrained." in name


def load_sam_decoder(network: EscNet, sam: Sam) -> None:
    """Initialise every block from a SAM's decoder layers, tokens and prompt encoder."""
    state = sam_decoder_state(sam)
    for block in cast(Iterable[EscBlock], network.blocks):
        if block.sam is not None:
            block.sam.pretrained.load_state_dict(state)
