"""Fixtures shared by all tests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SHARED = Path(__file__).resolve().parents[2] / "shared"


@dataclass(frozen=True)
class Golden:
    """One file of reference weights, inputs and outputs."""

    config: dict
    weights: dict[str, torch.Tensor]
    inputs: dict[str, torch.Tensor]
    outputs: dict[str, torch.Tensor]


@pytest.fixture
def golden():
    """Loader of reference files; skips where they are absent."""

    def load(name: str) -> Golden:
        folder = SHARED / "golden"
        if not folder.is_dir():
            pytest.skip(f"reference files are not here: {folder}")
        tensors = load_file(folder / f"{name}.safetensors")
        parts = {
            prefix: {
                key[len(prefix) + 1 :]: value
                for key, value in tensors.items()
                if key.startswith(f"{prefix}/")
            }
            for prefix in ("w", "in", "out")
        }
        manifest = json.loads((folder / "manifest.json").read_text())
        config = manifest["files"][f"{name}.safetensors"]["config"]
        return Golden(config, parts["w"], parts["in"], parts["out"])

    return load


@pytest.fixture
def photographs() -> Path:
    """Folder of real photographs with masks; skips where it is absent."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip(f"photographs are not here: {folder}")
    return folder
