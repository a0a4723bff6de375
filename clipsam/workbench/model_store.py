"""Models of a running page: loaded on first use, shared by all users, unloaded to save memory."""

from __future__ import annotations

import gc
import logging
import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch

from ..encoded_image import EncodedImage
from ..memory import CPU, exclusive, move_tensors, weights
from ..predictor import Predictor
from ..registry import find_info, load_predictor
from ..types import prompt_from_classes
from ..weights.backbones import Backbones, load_backbones
from ..weights.presets import find_preset

logger = logging.getLogger(__name__)


class ModelStore:
    """Backbones by preset and predictors by preset and method; holds no images.

    Attributes:
        device: device of predictions. Models are loaded to the CPU and moved by a prediction.
        max_bytes: limit of weights on the GPU; above it, the least recently used method is moved
            to the CPU until it runs again. Above the same limit there, or without a GPU, it is
            unloaded. The most recently requested method always stays.
    """

    def __init__(self, max_bytes: int = 4 * 2**30) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.max_bytes = max_bytes
        self._backbones: dict[str, Backbones] = {}
        self._predictors: OrderedDict[tuple[str, str, Path | None], Predictor] = OrderedDict()
        self._loading = threading.RLock()

    def backbones(self, preset: str) -> Backbones:
        """Return the SAM and CLIP of a preset.

        Raises:
            PromptError: no such preset.
            WeightsError: its weights are missing or damaged.
        """
        with self._loading, exclusive(self.device):
            backbones = self._loaded(preset).on(self.device)
            if self.device != CPU:
                move_tensors(weights(backbones.sam, backbones.clip).values(), self.device)
            return backbones

    def _loaded(self, preset: str) -> Backbones:
        """Return the SAM and CLIP of a preset as loaded, for use on the CPU."""
        if preset not in self._backbones:
            self._backbones[preset] = load_backbones(find_preset(preset))
        return self._backbones[preset]

    def predictor(self, preset: str, method: str, bundle: Path | None = None) -> Predictor:
        """Return a method on a preset.

        Args:
            preset, method: their names.
            bundle: weights trained in a session; ``None`` for the project's.

        Raises:
            PromptError: no such preset or method.
            WeightsError: weights are missing or damaged.
        """
        key = preset, method, bundle
        with self._loading:
            if key not in self._predictors:
                # What comes from a file is known to be large before it is read.
                extra_networks = find_info(method).extra_networks(find_preset(preset))
                self._make_room(sum(10**6 * published.megabytes for published in extra_networks))
                backbones = self._loaded(preset)
                with exclusive(self.device):  # its own weights are made from these, on the CPU
                    move_tensors(weights(backbones.sam, backbones.clip).values(), CPU)
                    predictor = load_predictor(method, backbones, bundle)
                self._predictors[key] = predictor.on(self.device)
                self._make_room(0)
            self._predictors.move_to_end(key)
            self._clear_gpu()
            return self._predictors[key]

    def warm_up(self, preset: str, method: str) -> None:
        """Load a method and run it once, since a network's first pass is its slowest."""
        with self._loading:
            if (preset, method, None) in self._predictors:
                return
            predictor = self.predictor(preset, method)
            encoded = EncodedImage(np.zeros((64, 64, 3), np.uint8))
            predictor.predict(encoded, prompt_from_classes([["warm-up"]]))

    @property
    def bytes(self) -> int:
        """Size of all loaded weights; weights shared by several methods count once."""
        networks = [predictor.network() for predictor in self._predictors.values()]
        networks += [part for one in self._backbones.values() for part in (one.sam, one.clip)]
        sizes = {p.data_ptr(): p.nbytes for network in networks for p in network.parameters()}
        return sum(sizes.values())

    def _make_room(self, needed: int) -> None:
        """Unload until this many bytes fit, but never the most recently loaded model.

        A running method stays in memory until it has finished.
        """
        most = self.max_bytes if self.device == CPU else 2 * self.max_bytes
        while self.bytes + needed > most and len(self._predictors) > 1:
            (preset, method, _), _ = self._predictors.popitem(last=False)
            logger.info("Unloaded %s on %s to free memory.", method, preset)
            used = {preset for preset, _, _ in self._predictors}
            self._backbones = {name: one for name, one in self._backbones.items() if name in used}
            gc.collect()  # transformers' networks know themselves in circles

    def _clear_gpu(self) -> None:
        """Move the least recently used models to the CPU until the requested one fits.

        Weights that a method may move back count, wherever they are now. Half of the GPU is always
        kept free of weights.
        """
        if self.device == CPU:
            return
        most = min(self.max_bytes, torch.cuda.mem_get_info(self.device)[1] // 2)
        *idle, newest = (
            weights(one.network(), one.backbones.sam, one.backbones.clip)
            for one in self._predictors.values()
        )
        kept, fits = dict(newest), True
        for held in reversed(idle):
            both = kept | held
            fits = fits and sum(tensor.nbytes for tensor in both.values()) <= most
            if fits:
                kept = both
            else:
                with exclusive(self.device):
                    move_tensors([held[key] for key in held.keys() - kept.keys()], CPU)
        if not fits:
            torch.cuda.empty_cache()
