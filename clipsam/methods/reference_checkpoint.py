"""Import and export of checkpoints of the CLIP-Guided SAM authors' code.

A checkpoint is a torch file with the tensors ``model_state_dict`` (SAM with its adapters, by
segment-anything's names and the authors') and ``clip_model`` (CLIP, by OpenAI's names).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.tuned_sam_model import TunedSamConfig
from ..prompting import REFERENCE_PROMPTS
from ..weights.backbones import Backbones
from ..weights.bundle import WeightsError
from ..weights.convert import (
    adapters_from_reference,
    adapters_to_reference,
    clip_from_openai,
    clip_to_openai,
)
from ..weights.files import read_pickle
from ..weights.presets import Preset
from ..writing import replacing
from .clip_guided_sam import ClipGuidedSamPredictor
from .tuned_sam import adapters

SAM_KEY, CLIP_KEY = "model_state_dict", "clip_model"
VISION_PARTS = ("vision_model.", "visual_projection.")
TEXT_POSITIONS = "text_model.embeddings.position_embedding.weight"
POSITIONS = "vision_model.embeddings.position_embedding.weight"
WRAPPER = "module."
"""Prefix of all names after training on several GPUs."""
ALIAS = "visual.attn."
"""Prefix of CLIP Surgery's second name for the attention of one block."""


def reference_design(preset: Preset) -> TunedSamConfig:
    """Return the configuration of the authors' network, block by block as in their code."""
    seen = adapters(
        preset, text=True, vision=True, similarity=True, block="reference", last_blocks=None
    )
    return TunedSamConfig(
        seen, clip="surgery", clip_blocks=None, dense_prompt=True, text_positions=True
    )


def read_reference_checkpoint(path: Path, backbones: Backbones) -> ClipGuidedSamPredictor:
    """Read a checkpoint as a method.

    Args:
        path: the authors' file.
        backbones: the SAM and CLIP that it was tuned from; what was frozen must be theirs.

    Raises:
        WeightsError: the file is damaged, has other names or sizes, or was tuned from others.
    """
    content = read_pickle(path)
    if not isinstance(content, dict) or not {SAM_KEY, CLIP_KEY} <= content.keys():
        raise WeightsError(
            f"{path} must contain {SAM_KEY} and {CLIP_KEY}; it is another checkpoint"
        )
    sam, clip = (_unwrapped(content[key], path, key) for key in (SAM_KEY, CLIP_KEY))
    clip = clip_from_openai({n: t for n, t in clip.items() if not n.startswith(ALIAS)})
    given = adapters_from_reference(sam)
    given |= {f"vision.{n}": t for n, t in clip.items() if n.startswith(VISION_PARTS)}
    if TEXT_POSITIONS in clip:
        given["text_positions"] = clip.pop(TEXT_POSITIONS)
    predictor = ClipGuidedSamPredictor.untrained(backbones, reference_design(backbones.preset))
    own, tuned = predictor.model.state_dict(), predictor.model.trainable_state()
    frozen_clip = {n: t for n, t in clip.items() if not n.startswith(VISION_PARTS)}
    _check_frozen(path, frozen_clip, backbones.clip.state_dict())
    _check_frozen(path, {n: t for n, t in given.items() if n not in tuned}, own)
    for name, tensor in tuned.items():
        found = tuple(given[name].shape) if name in given else "missing"
        if found != tuple(tensor.shape):
            raise WeightsError(
                f"{path}: expected {name} of shape {tuple(tensor.shape)}, got {found}"
            )
        tensor.copy_(given[name])
    predictor.prompt_settings = REFERENCE_PROMPTS
    return predictor


def write_reference_checkpoint(predictor: ClipGuidedSamPredictor, path: Path) -> None:
    """Write a method as a checkpoint; inverts :func:`read_reference_checkpoint`.

    Raises:
        WeightsError: it is another network than theirs, or the file cannot be written.
    """
    design = reference_design(predictor.backbones.preset)
    if predictor.config not in (design, replace(design, text_positions=False)):
        raise WeightsError(
            "Only a network identical to the authors' can be exported. Train it with --set "
            "block=reference and their other settings"
        )
    state = predictor.model.state_dict()
    positions = state.pop("text_positions", None)
    sam = {n: t for n, t in state.items() if not n.startswith("vision.")}
    vision = {n.removeprefix("vision."): t for n, t in state.items() if n.startswith("vision.")}
    clip = {**predictor.backbones.clip.state_dict(), **vision}
    if positions is not None:
        clip[TEXT_POSITIONS] = positions
    with replacing(path) as partial:
        torch.save({SAM_KEY: adapters_to_reference(sam), CLIP_KEY: clip_to_openai(clip)}, partial)


def _unwrapped(state: object, path: Path, key: str) -> dict[str, Tensor]:
    """Return tensors by name, without the wrapper's prefix."""
    if not isinstance(state, Mapping) or not all(isinstance(t, Tensor) for t in state.values()):
        raise WeightsError(f"{path}: {key} must contain named tensors")
    return {name.removeprefix(WRAPPER): tensor.float() for name, tensor in state.items()}


def _check_frozen(path: Path, given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Check the weights that training leaves unchanged.

    Raises:
        WeightsError: one of them differs from the preset's.
    """
    for name, tensor in given.items():
        if name not in own:
            raise WeightsError(f"{path} contains {name}, which is not in the authors' network")
        expected = own[name].float().cpu()
        if name == f"vision.{POSITIONS}" and tensor.shape != expected.shape:
            expected = _resized_positions(expected, len(tensor))
        same = tensor.shape == expected.shape
        if not same or not torch.allclose(tensor, expected, rtol=1e-3, atol=1e-4):
            raise WeightsError(
                f"{path} was tuned from another SAM or CLIP: {name}, which training leaves "
                "unchanged, differs from the preset's"
            )


def _resized_positions(weight: Tensor, count: int) -> Tensor:
    """Resize CLIP's position embedding to another image size, as the authors' code does.

    Ours is resized on the fly in the same way, so the original serves.
    """
    side, wanted = (round((n - 1) ** 0.5) for n in (len(weight), count))
    grid = weight[1:].T.reshape(1, -1, side, side)
    grid = F.interpolate(grid, (wanted, wanted), mode="bilinear", align_corners=False)
    return torch.cat((weight[:1], grid[0].flatten(1).T))
