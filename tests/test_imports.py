"""What is imported, and when."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"gradio", "matplotlib", "torch", "transformers"}


@pytest.mark.parametrize(
    "statement",
    [
        "import clipsam",
        "from clipsam.registry import METHODS; list(METHODS)",
        "from clipsam.cli import main; main(['--help'])",
    ],
)
def test_a_light_start(statement):
    """Neither the package, nor the ids of its methods, nor the list of commands needs a library."""
    code = (
        f"import contextlib, sys\nwith contextlib.suppress(SystemExit):\n    {statement}\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stderr.splitlines()[-1] == "[]"


def test_every_public_name_is_there():
    import clipsam

    for name in clipsam.__all__:
        assert getattr(clipsam, name).__name__ == name
        assert name in dir(clipsam)
    with pytest.raises(AttributeError, match="masks"):
        _ = clipsam.masks
