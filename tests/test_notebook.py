"""The quick start notebook runs, and its stored outputs are of the kinds that come out."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from clipsam.weights.availability import has_weights
from clipsam.weights.presets import TINY

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"
SECONDS = 600
"""For one cell, on a busy machine."""

pytestmark = pytest.mark.skipif(not has_weights(TINY), reason="the tiny bundle is not here")


def kinds(notebook: NotebookNode) -> list[list[set[str]]]:
    """Kinds of every output of every code cell."""
    return [
        [set(output.get("data", {output.get("name"): None})) for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def test_quickstart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    notebook = nbformat.read(NOTEBOOK, 4)
    stored = kinds(notebook)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources=resources).execute()
    assert kinds(notebook) == stored
    pictures = [kind for cell in stored for kind in cell if "image/jpeg" in kind]
    assert len(pictures) >= 4
