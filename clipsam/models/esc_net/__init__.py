"""ESC-Net (CVPR 2025, arXiv 2411.14723): read :mod:`.network` first."""

from .chunking import classes_at_a_time
from .clip_features import ClipFeatures, encode_classes
from .config import EscNetConfig
from .network import BlockInputs, EscNet, EscNetOutput, is_pretrained, load_sam_decoder
from .prompts import PseudoPrompts, generate_prompts
from .sam_block import sam_decoder_state

__all__ = [
    "BlockInputs",
    "ClipFeatures",
    "EscNet",
    "EscNetConfig",
    "EscNetOutput",
    "PseudoPrompts",
    "classes_at_a_time",
    "encode_classes",
    "generate_prompts",
    "is_pretrained",
    "load_sam_decoder",
    "sam_decoder_state",
]
