"""A preset's SAM and CLIP, loaded and ready."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from weakref import WeakValueDictionary

import torch
from segment_anything.modeling import Sam
from tokenizers import Tokenizer
from torch import nn
from transformers import CLIPModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ..models.clip import ClassTextEncoder, SurgeryVision, build_clip
from ..models.sam_model import build_sam
from ..models.trunk import Trunk
from ..prompting import Calibration
from .bundle import WeightsError, load_bundle, load_into, read_config
from .checkpoints import find_checkpoint
from .extra_networks import read_network
from .local_files import LocalFiles, locate
from .presets import Preset
from .pretrained import read_clip, read_clip_tokenizer, read_sam
from .published import PublishedWeights

Precision = Literal["auto", "float32", "bfloat16"]
"""Precision of matrix products in SAM's encoders.

``auto`` is bfloat16 if the device supports it (:func:`made_for_bfloat16`) and the network is large
enough to gain, otherwise float32. Decoders and CLIP always use float32, since points are sampled
where CLIP's map is high.
"""


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
        device: where all of it computes. Weights may have been moved elsewhere since: a prediction
            brings those that it needs, see :meth:`~clipsam.predictor.Predictor.to`.
        bfloat16: whether SAM's encoders compute in it, see :data:`Precision`; weights are float32.
        compiled: whether plain SAM's encoder runs on kernels compiled for it: faster, once the
            first image has waited for them.
    """

    preset: Preset
    sam: Sam
    clip: CLIPModel
    vision: SurgeryVision
    text: ClassTextEncoder
    calibration: Calibration
    device: torch.device
    bfloat16: bool = False
    compiled: bool = False
    _extra_networks: WeakValueDictionary[PublishedWeights, nn.Module] = field(
        default_factory=WeakValueDictionary, repr=False, compare=False
    )

    def on(self, device: torch.device) -> Backbones:
        """Return the same networks on another device, without copying or moving them."""
        return self if device == self.device else replace(self, device=device)

    def encoding(self) -> torch.autocast:
        """Return a context for SAM's encoders in inference; cast its results to float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

    def extra_network(self, published: PublishedWeights, method: str) -> Any:
        """Load another published network from this machine to the same device.

        Methods that hold it at the same time share one; it goes when the last of them goes.

        Args:
            published: which.
            method: id of the method that wants it, for messages.

        Raises:
            WeightsError: it is not on this machine, damaged, or another network's.
        """
        network = self._extra_networks.get(published)
        if network is None:
            command = f"python -m clipsam download {self.preset.name} {method}"
            network = read_network(published, _located(published, command)).to(self.device)
            self._extra_networks[published] = network
        return network


def assemble(
    preset: Preset,
    sam: Sam,
    clip: CLIPModel,
    tokenizer: PreTrainedTokenizerBase | None = None,
    calibration: Calibration | None = None,
    device: torch.device | str = "cpu",
    precision: Precision = "auto",
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
        bfloat16=_computes_in_bfloat16(precision, preset, device),
    )


def build_networks(preset: Preset) -> tuple[Sam, CLIPModel]:
    """Build a preset's SAM and CLIP, randomly initialised; a trunk is shared by both."""
    trunk = Trunk() if preset.has_trunk else None
    return build_sam(preset.sam, trunk), build_clip(preset.clip, trunk)


def _computes_in_bfloat16(precision: Precision, preset: Preset, device: torch.device) -> bool:
    if precision != "auto":
        return precision == "bfloat16"
    return bool(preset.sources) and made_for_bfloat16(device)  # Small ones gain nothing.


def made_for_bfloat16(device: torch.device) -> bool:
    """Return whether a device has instructions for bfloat16; on others it is slower than float32.

    GPUs have them since Ampere, x86 CPUs since Sapphire Rapids and Zen 4; a torch too old to tell
    of a CPU's leaves it in float32.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    known: Mapping[str, bool] = (
        getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
    )
    return any(known.get(name) for name in ("amx_bf16", "avx512_bf16"))


def load_backbones(
    preset: Preset,
    device: torch.device | str = "cpu",
    folder: Path | None = None,
    precision: Precision = "auto",
    compiled: bool = False,
) -> Backbones:
    """Load the SAM and CLIP of a preset from this machine, without any download.

    Args:
        preset: which.
        device: where to.
        folder: holds the bundles ``sam`` and ``clip``; ``None`` takes the project's, or the
            published weights for a preset that has some.
        precision: of SAM's encoders in inference.
        compiled: see :class:`Backbones`.

    Raises:
        WeightsError: they are not on this machine, damaged, or another network's.
    """
    if folder is None and preset.sources:
        loaded = _load_published(preset, device, precision)
    else:
        loaded = _load_bundles(preset, device, folder, precision)
    return replace(loaded, compiled=compiled)


def _load_bundles(
    preset: Preset, device: torch.device | str, folder: Path | None, precision: Precision
) -> Backbones:
    def find(part: str) -> Path:
        return find_checkpoint(preset.name, part) if folder is None else folder / part

    sam, clip = build_networks(preset)
    parts: dict[str, nn.Module] = {"sam": sam, "clip": clip}
    vocabulary = "clip"
    if preset.has_trunk:
        parts["trunk"] = clip.vision_model.embeddings.patch_embedding.trunk
    if preset.clip.text_tower == "sentence":
        vocabulary = "text"
        parts["text"] = clip.text_model
    for part, network in parts.items():
        _, state = load_bundle(find(part))
        load_into(network, state, str(find(part)))
    config = read_config(find("clip"))
    tokenizer = read_tokenizer(find(vocabulary) / "tokenizer.json")
    calibration = Calibration(**config.get("calibration", {}))
    return assemble(preset, sam, clip, tokenizer, calibration, device, precision)


def _load_published(preset: Preset, device: torch.device | str, precision: Precision) -> Backbones:
    command = f"python -m clipsam download {preset.name}"
    sam_files, clip_files = (_located(source, command) for source in preset.sources)
    sam, clip = build_networks(preset)
    sam.load_state_dict(read_sam(sam_files, preset.sam))
    clip.load_state_dict(read_clip(clip_files, preset.clip))
    tokenizer = read_clip_tokenizer(clip_files, preset.clip)
    return assemble(preset, sam, clip, tokenizer, device=device, precision=precision)


def _located(published: PublishedWeights, command: str) -> LocalFiles:
    files = locate(published)
    if files is None:
        raise WeightsError(f"{published.repo} is not on this machine; download it with `{command}`")
    return files


def read_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """Read a bundle's ``tokenizer.json`` behind transformers' interface."""
    if not path.is_file():
        raise WeightsError(f"{path} does not exist")
    return wrap_tokenizer(Tokenizer.from_file(str(path)))


def wrap_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Wrap a tokenizer, a sentence encoder's or one with CLIP's tokens, for transformers."""
    if tokenizer.token_to_id("[PAD]") is not None:
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|pad|>",
        clean_up_tokenization_spaces=False,
    )
