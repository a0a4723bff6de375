"""The comparisons' plan and report, without training anything."""

from __future__ import annotations

import json

import pytest

from benchmarks.comparisons.report import write_report
from benchmarks.comparisons.run import result_file
from benchmarks.comparisons.trials import SEEDS, TABLES, all_trials
from clipsam.methods.base import TrainablePredictor
from clipsam.registry import find_method
from clipsam.training.recipe import apply_settings
from clipsam.weights.presets import TINY

TRIALS = all_trials()


def test_trials_have_names_of_their_own():
    assert len({trial.name for trial in TRIALS}) == len(TRIALS)


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.name)
def test_every_trial_can_be_set_up(trial):
    method = find_method(trial.method)
    assert set(trial.modes) <= set(method.info.modes)
    if issubclass(method, TrainablePredictor):
        before = trial.setup.recipe, method.design(TINY)
        changed = apply_settings(*before, trial.settings) != before
        assert changed == bool(trial.settings)


@pytest.fixture
def results(tmp_path):
    """Made-up results: a trial's mIoU is its place among the trials, in percent, plus noise."""
    for place, trial in enumerate(TRIALS):
        for seed in SEEDS:
            noise = (-0.1, 0.0, 0.1)[seed]
            figures = {"miou": (place + noise) / 100, "mae": 0.5}
            content = {mode: dict.fromkeys(trial.setup.measured, figures) for mode in trial.modes}
            text = json.dumps({"figures": content, "seconds": 36.0})
            result_file(tmp_path, trial, seed).write_text(text)
    return tmp_path


def test_the_report_says_where_the_order_is_the_papers(results, tmp_path):
    out = tmp_path / "out"
    write_report(results, out)
    text = (out / "README.md").read_text()
    assert f"{len(TRIALS) * 3} of {len(TRIALS) * 3} runs, {len(TRIALS) * 0.03:.1f} hours" in text
    assert "missing" not in text
    place = {trial: number for number, trial in enumerate(TRIALS)}
    for number, table in enumerate(TABLES, start=1):
        assert (out / f"{number}.png").stat().st_size > 5000
        section = text.split(f"## {table.title}\n")[1].split("\n## ")[0]
        for row in table.rows:
            assert f"| {row.label} | {place[row.trial]}.0 ± 0.1 |" in section
    loss = text.split("## Loss\n")[1].split("\n## ")[0]
    # BCE, BCE + Dice and BCE + IoU stand in the paper's order; all three losses came first.
    assert "in 3 of 6 pairs: BCE + Dice over BCE (+1.0)" in loss
    assert "**Differs**: BCE + Dice + IoU over BCE (-" in loss


def test_missing_runs_are_told(results, tmp_path):
    result_file(results, TRIALS[0], 2).unlink()
    for seed in SEEDS:
        result_file(results, TRIALS[4], seed).unlink()
    write_report(results, tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "**4 runs are missing.**" in text
    assert "| SAM | – | – |" in text


def test_differences_within_the_noise_are_not_settled(results, tmp_path):
    for seed in SEEDS:
        trial = next(t for t in TRIALS if t.name.endswith("BCE and Dice"))
        other = next(t for t in TRIALS if t.name.endswith(", BCE"))
        content = json.loads(result_file(results, other, seed).read_text())
        for figures in content["figures"]["semi-automatic"].values():
            figures["miou"] += (0.01, -0.01, 0.002)[seed]
        result_file(results, trial, seed).write_text(json.dumps(content))
    write_report(results, tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "Not settled: 1 of 6: BCE + Dice over BCE (+0.1)" in text
