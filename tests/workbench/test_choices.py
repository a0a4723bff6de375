"""What can be chosen, and in which order."""

from __future__ import annotations

from clipsam.registry import methods
from clipsam.workbench.choices import DEFAULT_KEYS, all_choices


def test_every_mode_can_be_chosen_once_the_papers_methods_first() -> None:
    choices = all_choices()
    assert len({choice.key for choice in choices}) == len(choices)
    assert len(choices) == sum(len(method.info.modes) for method in methods().values())
    kinds = [methods()[choice.method].info.kind for choice in choices]
    assert kinds == sorted(kinds, key=lambda kind: kind != "method")


def test_only_manual_modes_need_marks_and_none_is_ticked_at_first() -> None:
    for choice in all_choices():
        assert choice.needs_marks == (choice.mode == "manual")
        assert not (choice.needs_marks and choice.key in DEFAULT_KEYS)


def test_classes_compete_where_a_method_says_so() -> None:
    joint = {choice.method for choice in all_choices() if choice.joint}
    assert joint == {"esc-net", "cat-seg", "sam-proposals-clip"}
