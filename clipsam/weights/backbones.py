"""A preset's SAM and CLIP, loaded and ready."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from segment_anything.modeling import Sam
from tokenizers import Tokenizer
from transformers import CLIPModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ..models.clip import ClassTextEncoder, SurgeryVision, build_clip
from ..models.sam import build_sam
from ..prompting import Calibration
from .bundle import WeightsError, load_bundle, load_into
from .local import locate
from .presets import Preset
from .pretrained import read_clip, read_clip_tokenizer, read_sam

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
    """Whether the preset's SAM and CLIP are on this machine; no network, no file is opened."""
    if preset.sam_source is not None:
        return None not in (locate(preset.sam_source), locate(preset.clip_source))
    folder = BUNDLES / preset.name
    return all((folder / part / "model.safetensors").is_file() for part in ("sam", "clip"))


def load_backbones(
    preset: Preset, device: torch.device | str = "cpu", folder: Path | None = None
) -> Backbones:
    """Load the SAM and CLIP of a preset from this machine; nothing is ever downloaded here.

    Args:
        preset: which.
        device: where to.
        folder: holds the bundles ``sam`` and ``clip``; ``None`` takes the project's, or the
            published weights for a preset that has some.

    Raises:
        WeightsError: they are not on this machine, damaged, or another network's.
    """
    if folder is None and preset.sam_source is not None:
        return _load_published(preset, device)
    folder = folder or BUNDLES / preset.name
    sam, clip = build_sam(preset.sam), build_clip(preset.clip)
    _, sam_state = load_bundle(folder / "sam")
    load_into(sam, sam_state, str(folder / "sam"))
    config, clip_state = load_bundle(folder / "clip")
    load_into(clip, clip_state, str(folder / "clip"))
    tokenizer = read_tokenizer(folder / "clip" / "tokenizer.json")
    calibration = Calibration(**config.get("calibration", {}))
    return assemble(preset, sam, clip, tokenizer, calibration, device)


def _load_published(preset: Preset, device: torch.device | str) -> Backbones:
    sam_files, clip_files = locate(preset.sam_source), locate(preset.clip_source)
    if sam_files is None or clip_files is None:
        missing = preset.sam_source if sam_files is None else preset.clip_source
        raise WeightsError(
            f"The weights of “{preset.name}” are not on this machine ({missing.repo} is missing): "
            f"get them with `python -m clipsam download {preset.name}`"
        )
    sam, clip = build_sam(preset.sam), build_clip(preset.clip)
    sam.load_state_dict(read_sam(sam_files, preset.sam))
    clip.load_state_dict(read_clip(clip_files, preset.clip))
    tokenizer = read_clip_tokenizer(clip_files, preset.clip)
    return assemble(preset, sam, clip, tokenizer, device=device)


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
