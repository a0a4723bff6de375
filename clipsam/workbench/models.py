"""Models of one running page: loaded at first use, once, and shared by all its users."""

from __future__ import annotations

import threading

import numpy as np
import torch

from ..predictor import Predictor, find_preset, load_predictor
from ..scene import Scene
from ..types import prompt_from_classes
from ..weights.backbones import Backbones, load_backbones


class ModelStore:
    """Backbones by preset and predictors by preset and method. Images are never kept here."""

    def __init__(self) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._backbones: dict[str, Backbones] = {}
        self._predictors: dict[tuple[str, str], Predictor] = {}
        self._loading = threading.RLock()

    def backbones(self, preset: str) -> Backbones:
        """The SAM and CLIP of a preset.

        Raises:
            PromptError: no such preset.
            WeightsError: its weights are missing or damaged.
        """
        with self._loading:
            if preset not in self._backbones:
                self._backbones[preset] = load_backbones(find_preset(preset), self.device)
            return self._backbones[preset]

    def predictor(self, preset: str, method: str) -> Predictor:
        """A method on a preset.

        Raises:
            PromptError: no such preset or method.
            WeightsError: weights are missing or damaged.
        """
        with self._loading:
            if (preset, method) not in self._predictors:
                predictor = load_predictor(method, self.backbones(preset))
                self._predictors[preset, method] = predictor
            return self._predictors[preset, method]

    def warm_up(self, preset: str, method: str) -> None:
        """Load a method and run it once, for a network's first pass is its slowest."""
        with self._loading:
            if (preset, method) in self._predictors:
                return
            predictor = self.predictor(preset, method)
            scene = Scene(np.zeros((64, 64, 3), np.uint8))
            predictor.predict(scene, prompt_from_classes([["warm-up"]]))
