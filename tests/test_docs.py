"""The documentation: its links, its commands, and what it lists, against the repository."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path
from pkgutil import resolve_name

import pytest
import yaml

import clipsam.cli
from clipsam.cli import COMMANDS
from clipsam.data.readers.registry import SCENES, readers
from clipsam.methods.base import TrainablePredictor
from clipsam.registry import METHODS, methods
from clipsam.training.card import read_figures
from clipsam.training.card_figures import RUNS
from clipsam.weights import published
from clipsam.weights.presets import PRESETS
from clipsam.weights.published import PublishedWeights

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/*.md"))]
MAX_LINES = 200
FIGURES_SET = "CamVid val"
"""The column of the card of the bundled models that the README repeats."""

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def read(name: str) -> str:
    """Return the text of a page."""
    return (ROOT / name).read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, formed as GitHub does."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def shell_commands(page: Path) -> list[list[str]]:
    """Return the words of every command of ``clipsam`` on a page, from after the program's name."""
    text = page.read_text(encoding="utf-8")
    lines = re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    for language, block in FENCE.findall(text):
        if language == "sh":
            lines += block.replace("\\\n", " ").splitlines()
    commands = []
    for line in lines:
        match = re.match(r"(?:accelerate launch|python3?) .*?-m clipsam |clipsam ", line)
        if match:
            commands.append(shlex.split(line[match.end() :], comments=True))
    return commands


def rows(page: str, first: str) -> dict[str, list[str]]:
    """Return the other cells of a table's rows by the code in their first cell.

    Args:
        page: path of the page.
        first: heading of the table's first column.
    """
    table = read(page).partition(f"\n| {first} |")[2].partition("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.split("\n")]
    return {code: row[1:] for row in cells[2:] for code in re.findall(r"`([^`]+)`", row[0])}


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@pages
def test_links_resolve(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = re.findall(r"\]\(([^)]+)\)", text)
    for target in targets:
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}"
        assert file.is_relative_to(ROOT)
        if anchor:
            assert anchor in anchors(file), f"{page.name} links to {target}"


@pages
def test_named_files_exist(page: Path) -> None:
    """Those written out from the top; ``NAME`` in one is the reader's to choose."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for path in re.findall(r"`((?:clipsam|baselines|checkpoints|tests|docs)/[\w./-]*)`", text):
        assert "NAME" in path or (ROOT / path).exists(), f"{page.name} names {path}"


@pages
def test_commands_parse(page: Path, capsys: pytest.CaptureFixture) -> None:
    for command, *arguments in shell_commands(page):
        if command == "--help":
            continue
        parser = argparse.ArgumentParser(prog=command)
        resolve_name(f"{clipsam.cli.__name__}.{COMMANDS[command].declare}")(parser)
        try:
            parser.parse_args(arguments)
        except SystemExit as stop:
            message = capsys.readouterr().err
            assert stop.code == 0, f"{page.name}: {command} {shlex.join(arguments)}\n{message}"


def test_every_command_is_shown() -> None:
    shown = {command for page in PAGES for command, *_ in shell_commands(page)}
    assert set(COMMANDS) <= shown


@pages
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", read("Makefile"), re.MULTILINE))
    text = page.read_text(encoding="utf-8")
    assert set(re.findall(r"(?:^|`)make ([\w-]+)", text, re.MULTILINE)) <= targets


def test_every_method_is_listed() -> None:
    assert list(rows("README.md", "id")) == list(METHODS)
    listed = rows("docs/methods.md", "id")
    assert list(listed) == list(METHODS)
    for id, method in methods().items():
        assert set(method.info.modes) == set(re.findall(r"`([^`]+)`", listed[id][-1]))
        assert method.info.paper.split()[-1] in listed[id][1]


def test_the_readme_repeats_the_figures_of_the_card() -> None:
    figures = read_figures(read("checkpoints/tiny/README.md"))
    expected = {
        run.method: figures[label][FIGURES_SET].split()[0]
        for label, run in reversed(RUNS.items())
        if run.mode == methods()[run.method].info.modes[0] and run.clicks != 1
    }
    shown = {id: cells[-1] for id, cells in rows("README.md", "id").items()}
    assert {id: cell for id, cell in shown.items() if cell[0].isdigit()} == expected
    assert f"on {FIGURES_SET}" in read("README.md")


def test_methods_that_need_a_download_say_so() -> None:
    shown = {id: cells[-1] for id, cells in rows("README.md", "id").items()}
    needy = {id for id, cls in methods().items() if cls.info.extra_networks(PRESETS["tiny"])}
    assert {id for id, cell in shown.items() if cell == "download"} == needy


def test_every_method_that_can_be_trained_is_named() -> None:
    text = read("docs/training.md").partition("Methods that can be trained:")[2]
    named = re.findall(r"`([^`]+)`", text.partition("\n\n")[0])
    assert set(named) == {
        id for id, cls in methods().items() if issubclass(cls, TrainablePredictor)
    }


def test_every_preset_is_listed() -> None:
    assert list(rows("docs/methods.md", "preset")) == list(PRESETS)


def test_every_published_network_is_listed_with_size_and_licence() -> None:
    text = read("docs/real-weights.md")
    for network in vars(published).values():
        if isinstance(network, PublishedWeights):
            (line,) = (row for row in text.splitlines() if f"| `{network.repo}`" in row)
            assert f"| {network.megabytes:,} | {network.licence} |" in line
            assert network.checkpoint is None or network.checkpoint in line


def test_every_kind_of_data_set_is_listed() -> None:
    assert set(rows("docs/data.md", "kind")) == {*readers(), SCENES}


def test_the_citation_names_the_three_papers() -> None:
    citation = yaml.safe_load(read("CITATION.cff"))
    cited = {reference["url"].rpartition("/")[2] for reference in citation["references"]}
    own = {cls.info.paper.split()[-1] for cls in methods().values() if cls.info.kind == "method"}
    assert cited == own
