"""What one page remembers, and that it is nobody else's."""

from __future__ import annotations

import numpy as np

from clipsam.evaluation.truth import TruthFile
from clipsam.types import prompt_from_classes
from clipsam.workbench.choices import Choice
from clipsam.workbench.compare.session import MOST_PAST, Run, Session


def finished(session: Session, classes: str, preset: str = "tiny", seed: int = 0) -> Run:
    """Show a picture, run, remember."""
    image = np.random.default_rng(seed).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    session.show(image, TruthFile(np.zeros((8, 9), int)))
    asked = (Choice("a", "b", "A · b", "It does."),)
    prompt = prompt_from_classes([[classes]])
    session.run = Run(session.scene, prompt, preset, asked, {"a/b": classes})
    session.remember(classes, {"active": None, "marks": []})
    return session.run


def test_the_latest_come_first_and_few_are_kept() -> None:
    session = Session()
    for index in range(MOST_PAST + 3):
        finished(session, f"class {index}")
    assert [past.classes for past in session.history] == [
        f"class {index}" for index in range(MOST_PAST + 2, 2, -1)
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
    assert [(past.classes, past.run.preset) for past in session.history] == [
        ("dog", "tiny"),
        ("cat", "tiny"),
        ("dog", "tiny"),
        ("dog", "base"),
    ]


def test_coming_back_brings_results_but_no_features() -> None:
    session = Session()
    first = finished(session, "dog")
    first.scene.cached("a feature", lambda: np.zeros(3))
    truth = session.truth_file
    finished(session, "cat", seed=1)
    past = session.history[1]
    assert not past.run.scene._features
    session.come_back(past)
    assert session.run.predictions == {"a/b": "dog"}
    np.testing.assert_array_equal(session.scene.image, first.scene.image)
    assert session.run.scene is session.scene
    assert session.truth_file is truth
    assert len(session.history) == 2


def test_a_new_session_knows_nothing() -> None:
    finished(Session(), "dog")
    assert Session().history == ()
