"""Published networks that pipelines run beside a preset's SAM and CLIP, read by transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from .bundle import WeightsError
from .files import read_state
from .pretrained import LocalFiles
from .published import Published

Model = TypeVar("Model", bound=PreTrainedModel)


def read_network(published: Published, files: LocalFiles) -> nn.Module:
    """A published network from its files, frozen and ready to run, on the CPU.

    Raises:
        WeightsError: a file is damaged, or another network's.
    """
    return READERS[published.repo](files).eval().requires_grad_(False)


def read_model(files: LocalFiles, kind: type[Model]) -> Model:
    """A model of transformers' own class, with every one of its weights from a file.

    Args:
        files: weights, and ``config.json``.
        kind: the class.

    Raises:
        WeightsError: a file is damaged, or another network's.
    """
    path = files.extras["config.json"]
    config = _read_config(path, kind.config_class)
    state = read_state(files.weights)
    model, report = kind.from_pretrained(
        None,
        config=config,
        state_dict=state,
        ignore_mismatched_sizes=True,  # they are reported instead
        output_loading_info=True,
    )
    for key, problem in (
        ("missing_keys", "lacks"),
        ("unexpected_keys", "holds what {kind} has not:"),
        ("mismatched_keys", "holds in another shape than {path} says:"),
    ):
        if names := sorted(str(name) for name in report[key]):
            text = problem.format(kind=kind.__name__, path=path.name)
            raise WeightsError(f"{files.weights} {text} {names[0]} (of {len(names)})")
    return model


def read_json(path: Path) -> dict:
    """What a published configuration says.

    Raises:
        WeightsError: it is missing or no JSON object.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read as JSON ({error})") from None
    if not isinstance(content, dict):
        raise WeightsError(f"{path} should be a JSON object, is a {type(content).__name__}")
    return content


def _read_config(path: Path, kind: type[PreTrainedConfig]) -> PreTrainedConfig:
    content = read_json(path)
    if content.get("model_type") != kind.model_type:
        raise WeightsError(
            f"{path} should be of a {kind.model_type}, is of a {content.get('model_type')}"
        )
    try:
        return kind.from_dict(content)
    except Exception as error:  # transformers checks configurations with classes of its own
        raise WeightsError(f"{path} does not describe a {kind.model_type} ({error})") from None


READERS: dict[str, Callable[[LocalFiles], nn.Module]] = {}
"""Who reads a repository's files."""
