"""Models of one running page: loaded at first use, shared by all its users, unloaded when many."""

from __future__ import annotations

import gc
import logging
import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch

from ..predictor import Predictor, find_method, find_preset, load_predictor
from ..scene import Scene
from ..types import prompt_from_classes
from ..weights.backbones import Backbones, load_backbones

logger = logging.getLogger(__name__)


class ModelStore:
    """Backbones by preset and predictors by preset and method. Images are never kept here.

    Attributes:
        device: where they run.
        max_bytes: weights beyond this are unloaded, the longest unused method first; the one
            asked for last always stays.
    """

    def __init__(self, max_bytes: int = 4 * 2**30) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.max_bytes = max_bytes
        self._backbones: dict[str, Backbones] = {}
        self._predictors: OrderedDict[tuple[str, str, Path | None], Predictor] = OrderedDict()
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

    def predictor(self, preset: str, method: str, bundle: Path | None = None) -> Predictor:
        """A method on a preset.

        Args:
            preset, method: their names.
            bundle: weights trained in a session; ``None`` takes the project's.

        Raises:
            PromptError: no such preset or method.
            WeightsError: weights are missing or damaged.
        """
        key = preset, method, bundle
        with self._loading:
            if key not in self._predictors:
                # What comes from a file is known to be large before it is read.
                beside = find_method(method).beside(find_preset(preset))
                self._make_room(sum(10**6 * published.megabytes for published in beside))
                self._predictors[key] = load_predictor(method, self.backbones(preset), bundle)
                self._make_room(0)
            self._predictors.move_to_end(key)
            return self._predictors[key]

    def warm_up(self, preset: str, method: str) -> None:
        """Load a method and run it once, for a network's first pass is its slowest."""
        with self._loading:
            if (preset, method, None) in self._predictors:
                return
            predictor = self.predictor(preset, method)
            scene = Scene(np.zeros((64, 64, 3), np.uint8))
            predictor.predict(scene, prompt_from_classes([["warm-up"]]))

    @property
    def bytes(self) -> int:
        """Of all loaded weights, those that several methods share counted once."""
        networks = [predictor.network() for predictor in self._predictors.values()]
        networks += [part for one in self._backbones.values() for part in (one.sam, one.clip)]
        sizes = {p.data_ptr(): p.nbytes for network in networks for p in network.parameters()}
        return sum(sizes.values())

    def _make_room(self, needed: int) -> None:
        """Unload until so many more bytes fit, but never what was loaded last.

        A method that still runs stays in memory until it has answered.
        """
        while self.bytes + needed > self.max_bytes and len(self._predictors) > 1:
            (preset, method, _), _ = self._predictors.popitem(last=False)
            logger.info("%s on %s is unloaded, to make room.", method, preset)
            used = {preset for preset, _, _ in self._predictors}
            self._backbones = {name: one for name, one in self._backbones.items() if name in used}
            gc.collect()  # transformers' networks know themselves in circles
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
