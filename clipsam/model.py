"""A loaded method for programs: one call from an image to masks."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from .data.images import ImageLike, open_mask
from .encoded_image import EncodedImage
from .errors import PromptError
from .evaluation.truth import Truth, match_truth
from .export import IMAGE
from .marks import Box, Mark, Point, prompt_with_marks
from .predictor import PredictOptions, Predictor
from .protocols import find_protocol
from .registry import describe_methods, find_method, load_predictor, methods_with_bundles
from .result import Result
from .types import Prompt, parse_classes
from .weights.backbones import load_backbones
from .weights.bundle_transfer import fetch_bundle, push_bundle
from .weights.checkpoints import find_checkpoint
from .weights.presets import find_preset

logger = logging.getLogger(__name__)

Row = Sequence[str | float]
"""A class name followed by numbers."""

TruthLike = str | Path | np.ndarray | Mapping[str, np.ndarray]
"""A mask file, its ids (H, W), or true masks, bool (H, W), by class name."""


class Model:
    """A loaded method; holds no image.

    Attributes:
        predictor: what runs.
        bundle: folder of its weights; ``None`` for those of the project, or if it has none.
        protocol: name of the paper's protocol that calls without options of their own follow.
    """

    def __init__(
        self, predictor: Predictor, bundle: Path | None = None, protocol: str | None = None
    ) -> None:
        self.predictor = predictor
        self.bundle = bundle
        self.protocol = protocol

    @property
    def method(self) -> str:
        """The method's id."""
        return self.predictor.info.id

    @property
    def preset(self) -> str:
        """Name of the preset."""
        return self.predictor.backbones.preset.name

    def __call__(
        self,
        image: ImageLike | EncodedImage,
        classes: str | Sequence[str],
        *,
        points: Iterable[Row] = (),
        boxes: Iterable[Row] = (),
        truth: TruthLike | None = None,
        truth_classes: Sequence[str] | None = None,
        options: PredictOptions | None = None,
    ) -> Result:
        """Segment every class in an image.

        Args:
            image: path, PIL image, uint8 (H, W, 3), or an encoded image, whose features the next
                method with the same preset finds ready.
            classes: a name each, ``;`` between synonyms; or one text, ``,`` between classes.
            points: ``(class, x, y, label)``, pixels of the image; label 1 is foreground, 0
                background.
            boxes: ``(class, x0, y0, x1, y1)``, pixels of the image, one per class.
            truth: what is really there, to be scored against.
            truth_classes: names of the ids of ``truth``, index = id; see
                :func:`clipsam.evaluation.truth.match_truth` for masks without.
            options: mode, seed, protocol, how prompts are made; ``None`` follows the model's
                protocol.

        Raises:
            ClipsamError: an image, a prompt or a truth that cannot be used.
        """
        encoded = image if isinstance(image, EncodedImage) else EncodedImage(image)
        prompt = _prompt(classes, points, boxes)
        known = None if truth is None else _truth(truth, encoded.size, prompt, truth_classes)
        options = options or PredictOptions(protocol=self.protocol)
        prediction = self.predictor.predict(encoded, prompt, options)
        name = Path(image).name if isinstance(image, str | Path) else IMAGE
        return Result(encoded.image, prediction, known, name)

    def with_method(self, method: str, bundle: str | Path | None = None) -> Model:
        """Load another method on the same SAM and CLIP, which are shared.

        Args:
            method: its id.
            bundle: folder of its weights; ``None`` takes the project's own.

        Raises:
            PromptError: no such method.
            WeightsError: its weights are missing or do not fit.
        """
        folder = None if bundle is None else Path(bundle)
        predictor = load_predictor(method, self.predictor.backbones, folder)
        return Model(predictor, folder, self.protocol)

    def push_to_hub(self, repo: str, private: bool = False) -> str:
        """Upload the method's own weights with a model card to a repository of the hub.

        Args:
            repo: ``owner/name``; a folder works, too.
            private: make a private repository, if it is made now.

        Returns:
            Its address.

        Raises:
            PromptError: the method has no weights of its own.
            WeightsError: the hub refuses; then the repository is as before.
        """
        if not self.predictor.info.needs_training:
            raise PromptError(f"{self.predictor.info.name} has no weights of its own to share.")
        bundle = self.bundle or find_checkpoint(self.preset, self.method)
        return push_bundle(bundle, repo, methods_with_bundles(), private)

    def __repr__(self) -> str:
        """Return method, preset and device."""
        device = self.predictor.backbones.device
        return f"<Model {self.method} on {self.preset}, {device}>"


def load(
    method: str,
    preset: str = "tiny",
    device: str | torch.device = "auto",
    bundle: str | Path | None = None,
    protocol: str | None = None,
) -> Model:
    """Load a method with its weights from this machine; nothing is downloaded.

    Args:
        method: its id, see :func:`list_methods`.
        preset: its SAM and CLIP.
        device: ``auto`` takes a GPU if torch finds one.
        bundle: folder of the method's own weights, as ``train`` writes it; ``None`` takes the
            project's own.
        protocol: name of a paper's protocol, by which images are prepared and which calls follow,
            see :mod:`clipsam.protocols`.

    Raises:
        PromptError: no such method, preset or protocol.
        WeightsError: weights are missing, damaged or do not fit.
    """
    find_method(method)  # Before the networks are loaded.
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    folder = None if bundle is None else Path(bundle)
    backbones = load_backbones(find_protocol(protocol).prepare(find_preset(preset)), device)
    return Model(load_predictor(method, backbones, folder), folder, protocol)


def from_pretrained(source: str, device: str | torch.device = "auto") -> Model:
    """Load a method with weights from the hub or a folder.

    The SAM and CLIP of its preset must be on this machine, see ``clipsam download``.

    Args:
        source: ``owner/name`` on the hub, or a folder.
        device: see :func:`load`.

    Raises:
        WeightsError: what came is no whole bundle, or the hub refuses.
    """
    folder, config = fetch_bundle(source, methods_with_bundles())
    return load(config["method"], config["preset"], device, folder)


def list_methods(preset: str = "tiny") -> list[dict]:
    """Describe every method without loading weights.

    Args:
        preset: whose parameters are counted.

    Returns:
        For each method ``id``, ``name``, ``paper``, ``kind``, ``modes``; ``presets``, whether it
        can run with each of them on this machine; ``parameters``, ``total`` and ``trainable``.

    Raises:
        PromptError: no such preset.
    """
    return describe_methods(find_preset(preset))


def _prompt(classes: str | Sequence[str], points: Iterable[Row], boxes: Iterable[Row]) -> Prompt:
    texts = [classes] if isinstance(classes, str) else classes
    names = [synonyms for text in texts for synonyms in parse_classes(text)]
    marks: list[Mark] = [Point.from_row(list(row)) for row in points]
    marks += [Box.from_row(list(row)) for row in boxes]
    return prompt_with_marks(names, marks)


def _truth(
    truth: TruthLike, size: tuple[int, int], prompt: Prompt, names: Sequence[str] | None
) -> Truth:
    """Match a ground truth in any form with the classes.

    Raises:
        TruthError: it does not fit the image or the classes.
    """
    if isinstance(truth, Mapping):
        return Truth.from_masks(truth, size, prompt)
    ids = truth if isinstance(truth, np.ndarray) else open_mask(truth)
    known = match_truth(ids.astype(np.int64), size, prompt, names)
    if known.note:
        logger.warning(known.note)
    return known
