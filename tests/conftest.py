"""Fixtures shared by all tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file
from segment_anything.modeling import Sam
from torch import nn

from clipsam.models.sam_model import build_sam
from clipsam.models.sizes import SamConfig
from clipsam.weights.availability import has_weights
from clipsam.weights.backbones import Backbones, load_backbones
from clipsam.weights.presets import TINY

SHARED = Path(__file__).resolve().parents[2] / "shared"


LONG = ("slow", "browser", "campaign")
"""Markers of tests that take long."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that hold long tests, so that no process ends with one alone."""
    long = {item.path for item in items if any(map(item.get_closest_marker, LONG))}
    items.sort(key=lambda item: item.path not in long)


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


@pytest.fixture(scope="session")
def tiny() -> Backbones:
    """The bundled backbones; skips where they are absent."""
    if not has_weights(TINY):
        pytest.skip("the tiny bundle is not here")
    return load_backbones(TINY)


@pytest.fixture(scope="session")
def _published_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.standins import save_all  # it imports from here

    home = tmp_path_factory.mktemp("huggingface")
    save_all(home)
    return home


@pytest.fixture(scope="module")
def published_networks(_published_home: Path) -> Iterator[Path]:
    """The hub's home on this machine, where small random networks stand in for published ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HOME", str(_published_home))
        patch.setattr(constants, "HF_HUB_CACHE", str(_published_home / "hub"))
        yield _published_home


def randomize(module: nn.Module, seed: int) -> None:
    """Give every parameter noise, so that nothing hides behind an initial zero."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data += 0.05 * noise


@pytest.fixture(scope="session")
def random_sam() -> Sam:
    """A small SAM of random weights with windowed and global blocks; windows need padding."""
    config = SamConfig(
        image_size=128,
        embed_dim=32,
        depth=3,
        num_heads=2,
        global_blocks=(2,),
        window_size=3,
    )
    sam = build_sam(config)
    randomize(sam, seed=0)
    return sam.eval().requires_grad_(False)
