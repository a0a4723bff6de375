"""The pages that lay out a method's equations name code that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs" / "methods").glob("*.md"))


def defined(path: Path) -> set[str]:
    """Functions and classes of a file, methods as ``Class.method``."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {
                f"{node.name}.{own.name}" for own in node.body if isinstance(own, ast.FunctionDef)
            }
    return names


def test_each_of_the_papers_methods_has_a_page():
    assert [page.stem for page in PAGES] == ["clip-guided-sam", "esc-net", "sam-ptx"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_equation_names_its_code(page):
    text = page.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    for row in rows:
        named = re.findall(r"`((?:clipsam|baselines)/[\w/]+\.py):([\w.]+)`", row)
        assert named, row
        for path, name in named:
            assert (ROOT / path).is_file(), path
            assert name in defined(ROOT / path), (path, name)
