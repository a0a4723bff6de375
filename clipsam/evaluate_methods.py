"""Evaluation of methods on a data set, for the command line and programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .data.readers import open_data
from .data.readers.registry import shows_single_objects
from .errors import PromptError
from .evaluation.runner import MANUAL, MethodRun
from .evaluation.study import RESULTS, Settings, Shard, Study
from .method_args import load_methods_from_args
from .predictor import Predictor
from .writing import check_folder


def evaluate(data: str, methods: Sequence[str], out: str | Path, **settings: Any) -> list[dict]:
    """Evaluate methods on a labelled data set, as ``clipsam evaluate`` does.

    Args:
        data: ``KIND:PATH``, for example ``folder:my-images``.
        methods: ``ID[:MODE][@BUNDLE]`` of each.
        out: folder of tables and report; an evaluation that was started there is resumed.
        settings: other fields of :class:`~clipsam.evaluation.study.Settings`: ``part``, ``preset``,
            ``seeds``, ``clicks``, ``limit`` …

    Returns:
        The figures of each method, see :func:`clipsam.evaluation.summary.summarize`.

    Raises:
        ClipsamError: a method, preset, data set or folder that cannot be used.
    """
    defaults = {"part": "val", "preset": "tiny", "single_object": shows_single_objects(data)}
    chosen = Settings(data=data, methods=tuple(methods), **{**defaults, **settings})
    open_study(chosen, Path(out)).run(Shard())
    return json.loads((Path(out) / RESULTS).read_text(encoding="utf-8"))["methods"]


def open_study(settings: Settings, out: Path) -> Study:
    """Load the data and the methods of an evaluation.

    Args:
        settings: what is measured.
        out: folder of the rows and the results.

    Raises:
        ClipsamError: a method, preset, data set or folder that cannot be used.
    """
    data = open_data(settings.data, settings.part)
    check_folder(out)
    runs: list[MethodRun] = []
    predictors: dict[str, Predictor] = {}
    loaded = load_methods_from_args(
        settings.methods,
        settings.preset,
        settings.precision,
        settings.compiled,
        settings.protocol,
    )
    for choice in loaded:
        info = choice.predictor.info
        # One network for all modes: they share what it computes from an image.
        method = info.id if choice.bundle is None else f"{info.id}@{choice.bundle}"
        predictors.setdefault(method, choice.predictor)
        mode = choice.mode or settings.options.followed.mode_of(info.modes)
        clicks = settings.clicks if mode == MANUAL else 0
        run = MethodRun(method, mode, clicks, settings.options)
        if run in runs:
            raise PromptError(f"The method “{method}” is given twice in its mode {mode}.")
        runs.append(run)
    return Study(settings, data, predictors, runs, out)
