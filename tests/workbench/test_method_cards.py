"""What the page says of a method, against the card and the configurations of the tiny bundle."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from clipsam.registry import methods
from clipsam.training.card import read_figures
from clipsam.training.card_figures import RUNS
from clipsam.weights.availability import has_weights
from clipsam.weights.bundle import save_bundle
from clipsam.weights.checkpoints import find_checkpoint
from clipsam.weights.presets import PRESETS, TINY
from clipsam.workbench.method_cards import all_cards, measured, one_card, trained

pytestmark = pytest.mark.skipif(not has_weights(TINY), reason="the tiny bundle is not here")


def test_figures_are_read_as_the_card_says_them() -> None:
    card = "### Class-wise mIoU (pooled over the set), %\n\n| | a | b, c |\n|---|---|---|\n"
    card += "| one, 5 clicks | 1.0 ± 0.1 | 2.0 |\n| two | 3.0 | 4.0 |\n\n### Another\n\n| | a |\n"
    assert read_figures(card) == {
        "one, 5 clicks": {"a": "1.0 ± 0.1", "b, c": "2.0"},
        "two": {"a": "3.0", "b, c": "4.0"},
    }
    assert read_figures("# A card without figures") == {}


def test_every_run_of_the_card_is_told_of_its_method() -> None:
    text = find_checkpoint("tiny", "README.md").read_text()
    assert set(read_figures(text)) == set(RUNS)
    assert sum(len(measured(method, TINY)) for method in methods()) == len(RUNS)
    line = next(line for line in text.splitlines() if line.startswith("| SAM-PTx, 5 clicks |"))
    (told,) = measured("sam-ptx", TINY)
    assert told.startswith("manual, 5 clicks: ")
    for value in re.findall(r"[0-9.]+ ± [0-9.]+", told):
        assert value in line


def test_training_is_told_from_the_bundle_that_ran(tmp_path: Path) -> None:
    training = {"steps": 7, "images": 3, "split": "all but the last 1"}
    save_bundle(tmp_path, {"training": training}, {"weight": torch.zeros(1)})
    assert trained("sam-ptx", TINY, tmp_path) == "7 steps on 3 images: all but the last 1."
    assert "579 steps on 887 images" in trained("sam-ptx", TINY)
    assert trained("sam-ptx", PRESETS["base"]) == "Not trained for base."
    assert trained("sam", TINY) == "No weights of its own."
    assert "facebook/sam2.1-hiera-tiny" in trained("sam2", TINY)
    assert "Measured here" in one_card("sam-ptx", TINY)
    assert "Measured here" not in one_card("sam-ptx", TINY, tmp_path)


def test_every_method_has_its_paper_and_tells_quoted_from_measured() -> None:
    html = all_cards(TINY)
    assert html.count("<dt>Paper</dt>") == len(methods())
    for method in methods().values():
        assert f"href='https://arxiv.org/abs/{method.info.paper.split()[-1]}'" in html
    assert html.index("Reported in the paper") < html.index("Measured here, tiny")
    assert "Measured here" not in all_cards(PRESETS["base"])
