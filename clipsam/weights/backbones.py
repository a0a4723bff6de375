"""A preset's SAM and CLIP, loaded and ready."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from segment_anything.modeling import Sam
from tokenizers import Tokenizer
from torch import Tensor
from transformers import CLIPModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ..models.clip import ClassTextEncoder, SurgeryVision, build_clip
from ..models.sam import build_sam
from ..prompting import Calibration
from .bundle import WeightsError, load_bundle, load_into
from .presets import Preset

BUNDLES = Path(__file__).resolve().parents[2] / "checkpoints"
"""Where the bundles that come with the project lie, one folder per preset."""


@dataclass(frozen=True)
class Backbones:
    """One SAM and one CLIP, frozen, shared by all methods of a preset.

    Attributes:
        preset: what they are.
        sam: segment-anything's ``Sam``.
        clip: transformers' ``CLIPModel``.
        vision: its vision tower, read with CLIP Surgery.
        text: its class text features.
        calibration: what its similarities mean.
        device: where all of it lies.
    """

    preset: Preset
    sam: Sam
    clip: CLIPModel
    vision: SurgeryVision
    text: ClassTextEncoder
    calibration: Calibration
    device: torch.device

    def tuned_from(self) -> dict[str, Tensor]:
        """The weights that methods tune, as they are before, by the names that bundles use."""
        parts = {
            "prompt_encoder": self.sam.prompt_encoder,
            "mask_decoder": self.sam.mask_decoder,
            "vision": self.vision,
        }
        return {
            f"{part}.{name}": parameter.detach()
            for part, module in parts.items()
            for name, parameter in module.named_parameters()
        }


def assemble(
    preset: Preset,
    sam: Sam,
    clip: CLIPModel,
    tokenizer: PreTrainedTokenizerBase | None = None,
    calibration: Calibration | None = None,
    device: torch.device | str = "cpu",
) -> Backbones:
    """Freeze the networks and put them together; without a tokenizer they can only be counted."""
    device = torch.device(device)
    sam = sam.eval().requires_grad_(False).to(device)
    clip = clip.eval().requires_grad_(False).to(device)
    return Backbones(
        preset=preset,
        sam=sam,
        clip=clip,
        vision=SurgeryVision(clip, preset.clip.surgery_layers),
        text=ClassTextEncoder(clip, tokenizer),
        calibration=calibration or Calibration(),
        device=device,
    )


def has_weights(preset: Preset) -> bool:
    """Whether the preset's SAM and CLIP are on this machine."""
    folder = BUNDLES / preset.name
    return all((folder / part / "model.safetensors").is_file() for part in ("sam", "clip"))


def load_backbones(
    preset: Preset, device: torch.device | str = "cpu", folder: Path | None = None
) -> Backbones:
    """Load the SAM and CLIP of a preset.

    Args:
        preset: which.
        device: where to.
        folder: holds the bundles ``sam`` and ``clip``; ``None`` takes the project's.

    Raises:
        WeightsError: they are not on this machine, or damaged.
    """
    if folder is None and not has_weights(preset):
        raise WeightsError(
            f"The weights of “{preset.name}” ({preset.sam_source} and {preset.clip_source}) are "
            "not on this machine. Use the preset “tiny”, which comes with the project."
        )
    folder = folder or BUNDLES / preset.name
    sam, clip = build_sam(preset.sam), build_clip(preset.clip)
    _, sam_state = load_bundle(folder / "sam")
    load_into(sam, sam_state, str(folder / "sam"))
    config, clip_state = load_bundle(folder / "clip")
    load_into(clip, clip_state, str(folder / "clip"))
    tokenizer = read_tokenizer(folder / "clip" / "tokenizer.json")
    calibration = Calibration(**config.get("calibration", {}))
    return assemble(preset, sam, clip, tokenizer, calibration, device)


def read_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """A bundle's ``tokenizer.json`` behind transformers' interface."""
    if not path.is_file():
        raise WeightsError(f"{path} is missing")
    return wrap_tokenizer(Tokenizer.from_file(str(path)))


def wrap_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """A tokenizer with CLIP's start and end tokens, behind transformers' interface."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|pad|>",
        clean_up_tokenization_spaces=False,
    )
