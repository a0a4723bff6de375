"""A workbench to see, compare and adapt text-guided SAM segmentation.

For programs::

    model = clipsam.load("clip-guided-sam")
    result = model("street.jpg", ["road", "car; automobile"])
    result.masks, result.similarity, result.scores, result.plot(), result.save("results")

Names are imported when they are first used, so that ``import clipsam`` loads no library.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .encoded_image import EncodedImage
    from .errors import ClipsamError
    from .evaluate_methods import evaluate
    from .model import Model, from_pretrained, list_methods, load
    from .predictor import PredictOptions, Predictor
    from .registry import load_predictor
    from .result import Result
    from .tiling import Tiling
    from .types import Concept, Prediction, Prompt, parse_classes

__version__ = "0.2.0"

__all__ = [
    "ClipsamError",
    "Concept",
    "EncodedImage",
    "Model",
    "PredictOptions",
    "Prediction",
    "Predictor",
    "Prompt",
    "Result",
    "Tiling",
    "evaluate",
    "from_pretrained",
    "list_methods",
    "load",
    "load_predictor",
    "parse_classes",
]

_MODULES = {
    "ClipsamError": "errors",
    "Concept": "types",
    "Model": "model",
    "PredictOptions": "predictor",
    "Prediction": "types",
    "Predictor": "predictor",
    "Prompt": "types",
    "EncodedImage": "encoded_image",
    "Result": "result",
    "Tiling": "tiling",
    "evaluate": "evaluate_methods",
    "from_pretrained": "model",
    "list_methods": "model",
    "load": "model",
    "load_predictor": "registry",
    "parse_classes": "types",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
