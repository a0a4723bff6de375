"""What one page remembers, and that it is nobody else's."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from clipsam.evaluation.truth import TruthFile
from clipsam.types import prompt_from_classes
from clipsam.workbench.choices import MethodChoice
from clipsam.workbench.compare import session as session_module
from clipsam.workbench.compare.session import MAX_HISTORY, ComparisonRun, Session


def answer(classes: str) -> SimpleNamespace:
    """A stand-in for a prediction, of a class with logits of 400 bytes."""
    logits = np.zeros((10, 10), np.float32)
    arrays = {"candidates": None, "similarity": None, "instances": None, "block_traces": ()}
    prompts = SimpleNamespace(dense=None)
    result = SimpleNamespace(logits=logits, prompts=prompts, **arrays)
    return SimpleNamespace(text=classes, results=(result,))


def finished(session: Session, classes: str, preset: str = "tiny", seed: int = 0) -> ComparisonRun:
    """Show a picture, run, remember."""
    image = np.random.default_rng(seed).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    session.show(image, TruthFile(np.zeros((8, 9), int)))
    asked = (MethodChoice("a", "b", "A · b", "It does."),)
    prompt = prompt_from_classes([[classes]])
    session.run = ComparisonRun(session.encoded, prompt, preset, asked, {"a/b": answer(classes)})
    session.remember(classes, {"active": None, "marks": []})
    return session.run


def test_the_latest_come_first_and_few_are_kept() -> None:
    session = Session()
    for index in range(MAX_HISTORY + 3):
        finished(session, f"class {index}")
    assert [entry.classes for entry in session.history] == [
        f"class {index}" for index in range(MAX_HISTORY + 2, 2, -1)
    ]


def test_asking_the_same_again_is_one_run() -> None:
    session = Session()
    for classes, preset, seed in (
        ("dog", "tiny", 0),
        ("dog", "base", 0),
        ("dog", "tiny", 1),
        ("cat", "tiny", 0),
        ("dog", "tiny", 0),
    ):
        finished(session, classes, preset, seed)
    assert [(entry.classes, entry.run.preset) for entry in session.history] == [
        ("dog", "tiny"),
        ("cat", "tiny"),
        ("dog", "tiny"),
        ("dog", "base"),
    ]


def test_coming_back_brings_results_but_no_features() -> None:
    session = Session()
    first = finished(session, "dog")
    first.encoded.cached("a feature", lambda: np.zeros(3))
    truth = session.truth_file
    finished(session, "cat", seed=1)
    entry = session.history[1]
    assert not entry.run.encoded._features
    session.restore(entry)
    assert session.run.predictions["a/b"].text == "dog"
    np.testing.assert_array_equal(session.encoded.image, first.encoded.image)
    assert session.run.encoded is session.encoded
    assert session.truth_file is truth
    assert len(session.history) == 2


def test_a_new_session_knows_nothing() -> None:
    finished(Session(), "dog")
    assert Session().history == ()


def test_predictions_of_earlier_runs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two and a half of 400 bytes fit two."""
    monkeypatch.setattr(session_module, "MAX_HISTORY_BYTES", 1000)
    session = Session()
    for classes in ("cat", "dog", "cow"):
        finished(session, classes)
    assert [entry.classes for entry in session.history] == ["cow", "dog"]
