"""Models are loaded when first asked for, and once."""

from __future__ import annotations

import pytest

from clipsam.types import PromptError
from clipsam.weights.bundle import WeightsError
from clipsam.workbench import models


def test_backbones_are_loaded_once_per_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def load(preset: object, device: object) -> object:
        loaded.append(preset.name)
        return object()

    monkeypatch.setattr(models, "load_backbones", load)
    monkeypatch.setattr(models, "load_predictor", lambda method, backbones: (method, backbones))
    store = models.ModelStore()
    assert loaded == []
    first = store.predictor("tiny", "sam")
    assert store.predictor("tiny", "sam") is first
    assert store.predictor("tiny", "clip-surgery-sam")[1] is first[1]
    store.predictor("base", "sam")
    assert loaded == ["tiny", "base"]


def test_an_unknown_preset_is_one_sentence() -> None:
    with pytest.raises(PromptError, match="no preset “x”"):
        models.ModelStore().backbones("x")


def test_a_failed_load_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([WeightsError("not there"), "backbones"])

    def load(preset: object, device: object) -> object:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(models, "load_backbones", load)
    store = models.ModelStore()
    with pytest.raises(WeightsError, match="not there"):
        store.backbones("tiny")
    assert store.backbones("tiny") == "backbones"
