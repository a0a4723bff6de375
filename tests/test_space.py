"""The Space's settings stand in one place and are what the README's front matter says."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from clipsam.weights import published
from clipsam.weights.published import PublishedWeights

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = yaml.safe_load((ROOT / "Space.yaml").read_text())
KNOWN = {
    *("title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version", "app_file"),
    *("short_description", "suggested_hardware", "models", "preload_from_hub", "tags", "license"),
    *("startup_duration_timeout", "pinned"),
}
"""The keys that a Space's front matter may have."""
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
ZERO_GPU = {"3.10.13": "2.8", "3.12.12": "2.11"}
"""The ends of what ZeroGPU has: Python, and the torch to try with it."""
SDISTS = ("sam2",)
"""Not on the index as wheels. Their needs, hydra-core and iopath, lead to more of that kind."""


def test_front_matter_equals_space_yaml() -> None:
    front_matter = (ROOT / "README.md").read_text().split("---\n")[1]
    assert yaml.safe_load(front_matter) == SETTINGS
    assert (ROOT / SETTINGS["app_file"]).is_file()


def test_every_setting_is_one_that_the_hub_knows() -> None:
    assert set(SETTINGS) <= KNOWN
    assert {SETTINGS["colorFrom"], SETTINGS["colorTo"]} <= COLOURS
    assert SETTINGS["sdk"] == "gradio"
    assert SETTINGS["python_version"] in ZERO_GPU
    assert len(SETTINGS["short_description"]) <= 60
    repos = {one.repo for one in vars(published).values() if isinstance(one, PublishedWeights)}
    assert set(SETTINGS["models"]) <= repos


def test_the_gradio_of_the_space_is_one_that_we_ask_for() -> None:
    asked = next(one for one in _requirements() if one.name == "gradio")
    assert asked.specifier.contains(SETTINGS["sdk_version"])
    tested = (ROOT / "constraints.txt").read_text()
    assert f"gradio=={SETTINGS['sdk_version']};" in tested


@pytest.mark.slow
def test_requirements_resolve_where_a_space_runs(tmp_path: Path) -> None:
    """A dry run of pip for both ends of ZeroGPU at once; skips where no index has their torch.

    With what the hub installs itself. For another Python than its own pip takes wheels alone, so
    sam2 is looked at apart, without its needs, and with this Python's torch to build with. What
    packages need only for some Pythons pip judges by the one that runs it.
    """
    there = _pip("index", "versions", "torch").stdout
    if not all(f"{torch}." in there for torch in ZERO_GPU.values()):
        pytest.skip("the package index cannot be reached, or lacks these versions of torch")
    wheels = [str(one) for one in _requirements() if one.name not in SDISTS]
    wheels += [f"gradio[mcp,oauth]=={SETTINGS['sdk_version']}", "spaces", "--only-binary=:all:"]
    apart = [str(one) for one in _requirements() if one.name in SDISTS]
    asked = [(python, *wheels, f"torch=={torch}.*") for python, torch in ZERO_GPU.items()]
    asked.append((min(ZERO_GPU), *apart, "--no-deps", "--no-build-isolation"))
    dry_run = ("install", "--quiet", "--dry-run", "--ignore-installed", "--target", str(tmp_path))
    with ThreadPoolExecutor() as threads:
        done = list(threads.map(lambda w: _pip(*dry_run, "--python-version", *w), asked))
    assert not any(run.returncode for run in done), "\n".join(run.stderr for run in done)


def _requirements() -> list[Requirement]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    wanted = [line.partition("#")[0].strip() for line in lines]
    return [Requirement(text) for text in wanted if text]


def _pip(*arguments: str) -> subprocess.CompletedProcess:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(
        pip, capture_output=True, text=True, env={**os.environ, "SAM2_BUILD_CUDA": "0"}
    )
