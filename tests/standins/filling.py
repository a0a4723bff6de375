"""Random weights for stand-ins, the same with every release of transformers."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel


@torch.no_grad()
def fill(model: nn.Module, seed: int) -> None:
    """Noise on all parameters that keeps signals at their size; releases begin differently."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            parameter.copy_(noise / parameter[0].numel() ** 0.5)
        else:
            parameter.copy_(name.endswith("weight") + 0.1 * noise)


def save_model(model: PreTrainedModel, folder: Path) -> None:
    """``config.json`` and ``model.safetensors``, names as they are: some releases' differ."""
    model.config.save_pretrained(folder)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "model.safetensors")
