"""A workbench to see, compare and adapt text-guided SAM segmentation."""

from .predictor import Options, Predictor, load_predictor
from .scene import Scene
from .types import Concept, Prediction, Prompt, parse_classes

__all__ = [
    "Concept",
    "Options",
    "Prediction",
    "Predictor",
    "Prompt",
    "Scene",
    "load_predictor",
    "parse_classes",
]
