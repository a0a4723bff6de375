"""What is imported, where and when, and what functions take."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

FLOORS = (
    {"errors", "geometry", "measure", "memory", "names", "polygons"},
    {"writing"},
    {"types", "prompting", "models", "data"},
    {"marks", "drawing", "tiling", "weights"},
    {"encoded_image", "registry", "figure"},
    {"protocols"},
    {"predictor"},
    {"sam_prompting", "evaluation", "suggest"},
    {"methods", "export", "method_args"},
    {"encoded_masks"},
    {"result", "evaluate_methods", "open_vocabulary", "segment_many"},
    {"model"},
    {"training", "baselines"},
    {"reproduce"},
    {"workbench", "cli"},
    {"clipsam", "__main__"},
)
"""The rooms of the house: each imports from the floors below it and from nowhere else.

The registry names the methods as text, and imports one when somebody asks for it.
"""

MAX_ARGUMENTS = 8

REQUESTS = {"clipsam/workbench/api.py:segment", "clipsam/workbench/api.py:compare_with_truth"}
"""Their arguments are the fields of a request, of which Gradio makes the API's description."""


def modules() -> dict[str, Path]:
    """The source of every module by its name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for package in ("clipsam", "baselines")
        for path in (ROOT / package).rglob("*.py")
    }


def imported(module: str, known: dict[str, Path]) -> set[str]:
    """The modules among those known that a module imports, at the top or later, but for types."""
    path = known[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in _without_type_checking(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: -(node.level - 1) or None]) if node.level else ""
            source = ".".join(filter(None, (base, node.module)))
            names = {f"{source}.{alias.name}" for alias in node.names}
            found |= (names & known.keys()) or {source}
    return (found & known.keys()) - {module}


def _without_type_checking(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from _without_type_checking(child)


def room(module: str) -> str:
    """The package or module at the top that a module belongs to."""
    top, *rest = module.split(".")
    return rest[0] if top == "clipsam" and rest else top


def test_no_module_imports_itself_by_way_of_others():
    known = modules()
    TopologicalSorter({name: imported(name, known) for name in known}).prepare()


def test_no_room_imports_from_its_own_floor_or_above():
    floor = {name: number for number, rooms in enumerate(FLOORS) for name in rooms}
    known = modules()
    assert {room(name) for name in known} == set(floor)
    upward = [
        f"{name} imports {other}"
        for name in known
        for other in imported(name, known)
        if room(other) != room(name) and floor[room(other)] >= floor[room(name)]
    ]
    assert not upward


def test_no_function_takes_many_arguments():
    """Constructors of settings may: each of their arguments has a name and a default."""
    many = set()
    for path in modules().values():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name != "__init__":
                given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                if len([one for one in given if one.arg not in ("self", "cls")]) > MAX_ARGUMENTS:
                    many.add(f"{path.relative_to(ROOT).as_posix()}:{node.name}")
    assert many == REQUESTS


HEAVY = {"gradio", "matplotlib", "segment_anything", "timm", "torch", "torchvision", "transformers"}


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        ("import clipsam", HEAVY),
        ("from clipsam.registry import METHODS; list(METHODS)", HEAVY),
        ("from clipsam.cli import main; main(['--help'])", HEAVY),
        ("from clipsam.cli import main; main(['methods'])", HEAVY - {"torch"}),
    ],
)
def test_a_light_start(statement, heavy):
    """The package and its list of commands need no library, the list of methods only torch."""
    code = (
        f"import contextlib, sys\nwith contextlib.suppress(SystemExit):\n    {statement}\n"
        f"print(sorted({heavy!r} & set(sys.modules)), file=sys.stderr)"
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
