"""Shared base of methods with weights of their own: a network, and bundles that store it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from uuid import uuid4

from torch import Tensor

from ..errors import PromptError
from ..models.esc_net import EscNet, EscNetConfig
from ..models.tuned_sam_model import TunedSam, TunedSamConfig
from ..predictor import Predictor
from ..registry import METHODS, find_method
from ..weights.backbones import Backbones
from ..weights.bundle import WeightsError, load_bundle, load_into, read_config
from ..weights.checkpoints import find_checkpoint
from ..weights.presets import Preset

if TYPE_CHECKING:
    from typing_extensions import Self

NetworkConfig = TunedSamConfig | EscNetConfig


def find_trainable(method: str) -> type[TrainablePredictor]:
    """Return the method with an id, which has weights of its own to train.

    Raises:
        PromptError: there is no such method, or it has nothing to train.
    """
    found = find_method(method)
    if not issubclass(found, TrainablePredictor):
        trained = [id for id, info in METHODS.items() if info.needs_training]
        raise PromptError(
            f"{found.info.name} has no trainable weights. Choose one of {', '.join(trained)}."
        )
    return found


class TrainablePredictor(Predictor):
    """Base class of methods whose network is trained on labelled images and stored as a bundle.

    Attributes:
        config: configuration of the network.
        model: the network.
        name: key of its features in the cache of an image, unique per set of weights.
    """

    config_type: ClassVar[type[NetworkConfig]]
    config: NetworkConfig
    model: TunedSam | EscNet

    def __init__(self, backbones: Backbones, config: NetworkConfig) -> None:
        """Build the network.

        Args:
            backbones: the preset's SAM and CLIP.
            config: configuration of the network.
        """
        super().__init__(backbones)
        self.config = config
        self.model = self._build().to(backbones.device).eval()
        self.name = f"{self.info.id} {uuid4().hex}"

    @abstractmethod
    def _build(self) -> TunedSam | EscNet:
        """Build the network before training."""

    @classmethod
    @abstractmethod
    def design(cls, preset: Preset) -> NetworkConfig:
        """Return the default configuration of the network for a preset."""

    @abstractmethod
    def tuned_from(self) -> dict[str, Tensor]:
        """Return the base weights of SAM and CLIP that are tuned, by their names in the network.

        A bundle may store differences from them.
        """

    @classmethod
    def load(cls, backbones: Backbones, folder: Path | None = None) -> Self:
        """Load the method, see :meth:`Predictor.load`."""
        preset = backbones.preset
        folder = folder or find_checkpoint(preset.name, cls.info.id)
        content = read_config(folder)
        for key, expected in (("method", cls.info.id), ("preset", preset.name)):
            if content.get(key) != expected:
                raise WeightsError(
                    f"{folder} was trained for {key} '{content.get(key)}', expected '{expected}'."
                )
        predictor = cls._from_content(backbones, content)
        _, state = load_bundle(folder, predictor.tuned_from())
        load_into(predictor.model, state, str(folder))
        return predictor

    @classmethod
    def _from_content(cls, backbones: Backbones, content: dict) -> Self:
        """Create the method described by a bundle's ``config.json``, before loading its weights."""
        return cls(backbones, cls.config_type.from_json(content["network"]))

    @classmethod
    def untrained(cls, backbones: Backbones, config: NetworkConfig | None = None) -> Self:
        """Create the network before training, to start from, count or time it.

        Args:
            backbones: the preset's SAM and CLIP.
            config: ``None`` for the method's default.
        """
        return cls(backbones, config or cls.design(backbones.preset))

    def bundle_config(self, training: dict) -> dict:
        """Return the ``config.json`` of the weights; ``training`` records how they were made."""
        return {
            "method": self.info.id,
            "preset": self.backbones.preset.name,
            "network": asdict(self.config),
            "training": training,
        }
