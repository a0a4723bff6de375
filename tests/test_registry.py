"""The list of methods, and what can be told of them without weights."""

from __future__ import annotations

import pytest

from clipsam.errors import PromptError
from clipsam.methods.base import TrainablePredictor
from clipsam.registry import METHODS, describe_methods, find_method, methods
from clipsam.weights.availability import method_status
from clipsam.weights.presets import PRESETS


def test_each_method_is_listed_under_its_own_id():
    assert [method.info.id for method in methods().values()] == list(METHODS)


def test_the_papers_methods_come_first():
    kinds = [method.info.kind for method in methods().values()]
    assert kinds == sorted(kinds, reverse=True)
    assert kinds[0] == "method"


def test_an_unknown_method_names_the_known_ones():
    with pytest.raises(PromptError, match=r"“sum”.*clip-guided-sam"):
        find_method("sum")


@pytest.mark.parametrize("method", methods().values(), ids=methods())
def test_a_method_says_what_it_is(method):
    info = method.info
    assert info.kind in ("method", "baseline")
    assert len(set(info.modes)) == len(info.modes) > 0
    assert info.summary.endswith(".")
    assert info.needs_training == issubclass(method, TrainablePredictor)
    assert {method_status(method.info, preset) for preset in PRESETS.values()} <= {
        "ready",
        "untrained",
        "needs-download",
        "unavailable",
    }


def test_descriptions_of_real_sizes_need_no_weights():
    described = {entry["id"]: entry for entry in describe_methods(PRESETS["base"])}
    assert list(described) == list(methods())
    assert described["clip-guided-sam"]["parameters"]["trainable"] == 48_969_520
    # SAM ViT-B: image encoder, prompt encoder, mask decoder.
    total = 89_670_912 + 6_220 + 4_058_340
    assert described["sam"]["parameters"] == {"total": total, "trainable": 0}
