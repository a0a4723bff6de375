"""ESC-Net (CVPR 2025, arXiv 2411.14723): read :mod:`.network` first."""

from .clip_features import ClipFeatures, encode_classes
from .config import EscNetConfig
from .network import BlockTrace, EscNet, EscNetOutput, is_pretrained, load_sam_decoder
from .prompts import PseudoPrompts, generate_prompts
from .sam_block import sam_decoder_state

__all__ = [
    "BlockTrace",
    "ClipFeatures",
    "EscNet",
    "EscNetConfig",
    "EscNetOutput",
    "PseudoPrompts",
    "encode_classes",
    "generate_prompts",
    "is_pretrained",
    "load_sam_decoder",
    "sam_decoder_state",
]
