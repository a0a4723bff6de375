"""A workbench to see, compare and adapt text-guided SAM segmentation.

Names are imported when they are first used, so that ``import clipsam`` loads no library.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .encoded_image import EncodedImage
    from .errors import ClipsamError
    from .predictor import PredictOptions, Predictor
    from .registry import load_predictor
    from .types import Concept, Prediction, Prompt, parse_classes

__all__ = [
    "ClipsamError",
    "Concept",
    "EncodedImage",
    "PredictOptions",
    "Prediction",
    "Predictor",
    "Prompt",
    "load_predictor",
    "parse_classes",
]

_MODULES = {
    "ClipsamError": "errors",
    "Concept": "types",
    "PredictOptions": "predictor",
    "Prediction": "types",
    "Predictor": "predictor",
    "Prompt": "types",
    "EncodedImage": "encoded_image",
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
