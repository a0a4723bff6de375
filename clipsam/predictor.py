"""The contract that every method obeys."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import nn

from .errors import PromptError
from .geometry import SquareTransform
from .measure import PeakMemory, Stopwatch
from .memory import Step, place, step_down, weights
from .models.sam import decode_masks
from .prompting import (
    Calibration,
    Sampling,
    dense_prompt,
    points_from_similarity,
    stable_seed,
)
from .scene import Scene
from .types import (
    NOTHING,
    Concept,
    ConceptResult,
    Prediction,
    Prompt,
    PromptsUsed,
)
from .weights.backbones import BUNDLES, Backbones, has_weights
from .weights.local import locate
from .weights.presets import PRESETS, Preset
from .weights.published import Published

Status = Literal["ready", "untrained", "needs-download", "unavailable"]


@dataclass(frozen=True)
class MethodInfo:
    """What people are told of a method.

    Attributes:
        id: how it is called on the command line.
        name: how it is called on the page.
        paper: where it comes from.
        kind: ``method`` of one of the three papers, or ``baseline``.
        modes: what it can be asked to do; the first is the default.
        summary: one sentence: what it does.
        quoted: what its paper reports, of the published network and not of anything here.
    """

    id: str
    name: str
    paper: str
    kind: Literal["method", "baseline"]
    modes: tuple[str, ...]
    summary: str
    quoted: str = ""


@dataclass(frozen=True)
class Options:
    """How to predict.

    Attributes:
        mode: one of the method's modes; ``None`` decides for each class: a method that can take
            points takes them where there are some.
        seed: of the points drawn from similarity maps.
        num_points: points drawn per class (K = 5 in the paper).
        point_threshold: on the min–max-scaled map; ``None`` takes the calibrated one.
        sampling: how points are drawn.
        dense_logit: strength of the dense prompt, see ``prompting.dense_prompt``.
        classes_at_a_time: a method that computes several classes at once takes at most so many,
            and answers the same with less memory; ``None`` leaves the number to the method. When
            memory runs out, a prediction lowers it by itself, see ``memory.step_down``.
    """

    mode: str | None = None
    seed: int = 0
    num_points: int = 5
    point_threshold: float | None = None
    sampling: Sampling = "spread"
    dense_logit: float = 8.0
    classes_at_a_time: int | None = None

    def __post_init__(self) -> None:
        if self.classes_at_a_time is not None and self.classes_at_a_time < 1:
            raise PromptError(
                f"At least one class at a time is needed, got {self.classes_at_a_time}."
            )
        if self.num_points < 1:
            raise PromptError(f"At least one point per class is needed, got {self.num_points}.")

    def map_threshold(self, calibration: Calibration) -> float:
        """Of min–max-scaled similarity, as asked for or as it was calibrated."""
        if self.point_threshold is None:
            return calibration.point_threshold
        return self.point_threshold


class Predictor(ABC):
    """Turns a scene and a prompt into a prediction; holds frozen networks, no image state."""

    info: ClassVar[MethodInfo]
    needs_training: ClassVar[bool] = False
    """Whether the method has weights of its own, which come as a bundle."""
    joint: ClassVar[bool] = False
    """Whether classes compete: the answer for one depends on which others are asked."""

    def __init__(self, backbones: Backbones) -> None:
        self.backbones = backbones

    @classmethod
    def beside(cls, preset: Preset) -> tuple[Published, ...]:
        """Published networks that it runs beside the preset's SAM and CLIP."""
        return ()

    @classmethod
    def missing(cls, preset: Preset) -> tuple[Published, ...]:
        """Published networks that it needs with a preset and that are not on this machine."""
        needed = (*preset.sources, *cls.beside(preset))
        return tuple(published for published in needed if locate(published) is None)

    @classmethod
    def status(cls, preset: Preset) -> Status:
        """Whether the method can run with a preset on this machine, and if not, why.

        ``unavailable`` is what a download alone does not get: its terms must be accepted first.
        """
        if cls.needs_training and not (BUNDLES / preset.name / cls.info.id).is_dir():
            return "untrained"
        missing = cls.missing(preset)
        if any(published.gated for published in missing):
            return "unavailable"
        return "needs-download" if missing or not has_weights(preset) else "ready"

    @classmethod
    def load(cls, backbones: Backbones, folder: Path | None = None) -> Predictor:
        """The method with its weights.

        Args:
            backbones: the preset's networks.
            folder: a bundle; ``None`` takes the one that comes with the project. Methods without
                weights of their own have none.

        Raises:
            WeightsError: its bundle is missing, damaged, or made for another preset.
        """
        return cls(backbones)

    @classmethod
    def untrained(cls, backbones: Backbones) -> Predictor:
        """The method before any training of its own, to be counted, timed and trained."""
        return cls(backbones)

    @abstractmethod
    def network(self) -> nn.Module:
        """Everything that runs, as one module: its parameters are counted.

        Those with ``requires_grad`` are what the method's training changes.
        """

    def on(self, device: torch.device) -> Predictor:
        """The same method with the same networks, to compute elsewhere; none is copied or moved."""
        backbones = self.backbones.on(device)
        if backbones is self.backbones:
            return self
        view = copy.copy(self)
        view.backbones = backbones
        return view

    def to(self, device: torch.device) -> None:
        """Move the weights of all that runs; networks that other methods share go along."""
        place(weights(self.network()).values(), device)

    @abstractmethod
    def _predict_concept(
        self, scene: Scene, concept: Concept, mode: str, options: Options, watch: Stopwatch
    ) -> ConceptResult:
        """Answer for one class."""

    def _predict_all(
        self,
        scene: Scene,
        concepts: Sequence[Concept],
        modes: Sequence[str],
        options: Options,
        watch: Stopwatch,
        progress: Callable[[int, int], None] | None,
    ) -> list[ConceptResult]:
        """Answer for all classes, each on its own."""
        results = []
        for concept, mode in zip(concepts, modes, strict=True):
            results.append(self._predict_concept(scene, concept, mode, options, watch))
            if progress is not None:
                progress(len(results), len(concepts))
        return results

    def _transform(self, scene: Scene) -> SquareTransform:
        """How the image lies in the square that the logits cover."""
        return scene.sam_transform(self.backbones.preset)

    @property
    def _mask_side(self) -> int:
        """Side of the logits, and of the dense prompt."""
        return self.backbones.preset.sam.mask_side

    def predict(
        self,
        scene: Scene,
        prompt: Prompt,
        options: Options | None = None,
        progress: Callable[[int, int], None] | None = None,
        earlier: Prediction | None = None,
    ) -> Prediction:
        """Segment every class of a prompt in a scene.

        Weights that were moved off the device come back. Where its memory does not suffice, all is
        computed again with less, at last on the CPU; then the answer's note says so.

        Args:
            scene: the image; features computed here stay in it for the next method.
            prompt: the classes, with points and boxes in pixels of the original image.
            options: see :class:`Options`.
            progress: called with (classes done, classes to do).
            earlier: what it answered to another prompt in this scene, with these options. A class
                that is asked as it was keeps its answer, unless classes compete; time and memory
                are those of the others.

        Raises:
            PromptError: the prompt does not fit the image, the mode or the method.
            torch.OutOfMemoryError: not even the CPU's suffices.
        """
        options = options or Options()
        prompt.check_inside(scene.size)
        modes = self._modes(prompt, options)
        kept: dict[Hashable, ConceptResult] = {}
        if earlier is not None and not self.joint:
            kept = dict(zip(earlier.prompt.keys, earlier.results, strict=True))

        def run(step: Step) -> Prediction:
            there = self.on(step.device)
            step.bring(there, scene)
            most = [n for n in (options.classes_at_a_time, step.classes) if n is not None]
            given = replace(options, classes_at_a_time=min(most, default=None))
            return there._predict(scene, prompt, modes, given, progress, kept)

        device, classes = self.backbones.device, len(prompt.concepts)
        prediction, note, lost = step_down(run, device, classes)
        if not note:
            return prediction
        return replace(prediction, seconds={"out of memory": lost, **prediction.seconds}, note=note)

    @torch.inference_mode()
    def _predict(
        self,
        scene: Scene,
        prompt: Prompt,
        modes: Sequence[str],
        options: Options,
        progress: Callable[[int, int], None] | None,
        kept: Mapping[Hashable, ConceptResult],
    ) -> Prediction:
        """All classes that have no answer yet, once, here and with these options."""
        watch = Stopwatch(self.backbones.device)
        memory = PeakMemory(self.backbones.device)
        keys = prompt.keys
        asked = [index for index, key in enumerate(keys) if key not in kept]
        concepts, how = ([given[index] for index in asked] for given in (prompt.concepts, modes))
        found = self._predict_all(scene, concepts, how, options, watch, progress)
        answers = dict(kept)
        answers.update(zip((keys[index] for index in asked), found, strict=True))
        return Prediction(
            method=self.info.id,
            preset=self.backbones.preset.name,
            mode=" + ".join(mode for mode in self.info.modes if mode in modes),
            prompt=prompt,
            transform=self._transform(scene),
            results=tuple(answers[key] for key in keys),
            seconds=watch.seconds,
            peak_memory_mb=memory.megabytes(),
        )

    @classmethod
    def check_mode(cls, mode: str | None) -> None:
        """Raises PromptError: the method has no such mode."""
        if mode is not None and mode not in cls.info.modes:
            raise PromptError(
                f"{cls.info.name} has no mode “{mode}”: choose {' or '.join(cls.info.modes)}."
            )

    def _modes(self, prompt: Prompt, options: Options) -> list[str]:
        """The mode for each concept."""
        modes = self.info.modes
        self.check_mode(options.mode)
        chosen = []
        for concept in prompt.concepts:
            own = "manual" if concept.is_pointed_at and "manual" in modes else modes[0]
            mode = options.mode or own
            if mode == "manual" and not concept.is_pointed_at:
                raise PromptError(
                    f"{self.info.name} ({mode}) needs a foreground point or a box for "
                    f"“{concept.text}”: click on it, or drag a box around it."
                )
            chosen.append(mode)
        return chosen

    def _map_points(
        self,
        scene: Scene,
        concept: Concept,
        similarity: torch.Tensor,
        calibration: Calibration,
        options: Options,
    ) -> np.ndarray:
        """Foreground points (K, 2) where one class's raw map (1, h, w) is high.

        None if the map is constant.
        """
        threshold = options.map_threshold(calibration)
        seed = stable_seed(concept.text, options.seed)
        return points_from_similarity(
            similarity[0],
            self._transform(scene),
            threshold,
            options.num_points,
            seed,
            options.sampling,
        )

    def _map_mask(
        self, scene: Scene, similarity: torch.Tensor, calibration: Calibration, options: Options
    ) -> torch.Tensor:
        """One class's raw map (1, h, w) as SAM's mask prompt (1, 1, 4h, 4w)."""
        threshold = options.map_threshold(calibration)
        transform, side = self._transform(scene), self._mask_side
        return dense_prompt(similarity, transform, side, threshold, options.dense_logit)

    def _decode(
        self,
        network: nn.Module,
        embedding: object,
        scene: Scene,
        prompts: PromptsUsed,
        dense: torch.Tensor | None = None,
        **result: object,
    ) -> ConceptResult:
        """Ask a SAM decoder for the mask of one class: of several boxes, the union of theirs.

        Args:
            network, embedding: see :meth:`_decode_masks`.
            scene: tells where the points lie in SAM's square.
            prompts: points and boxes in pixels of the original image.
            dense: (1, 1, 4h, 4w) mask logits.
            result: further fields of the :class:`ConceptResult`.
        """
        points, boxes = self._sam_prompts(scene, prompts)
        logits, scores = self._decode_masks(network, embedding, points, boxes, dense)
        return self._result(logits, scores, prompts, **result)

    def _sam_prompts(
        self, scene: Scene, prompts: PromptsUsed
    ) -> tuple[tuple[torch.Tensor, torch.Tensor] | None, torch.Tensor | None]:
        """One class's points and boxes as tensors in SAM's square, a row for each of its boxes."""
        transform, device = self._transform(scene), self.backbones.device
        asked = max(1, len(prompts.boxes))
        points = boxes = None
        if len(prompts.points):
            coordinates = torch.from_numpy(transform.coordinates(prompts.points)).to(device)
            labels = torch.from_numpy(prompts.labels).to(device)
            points = coordinates.expand(asked, -1, -1), labels.expand(asked, -1)
        if len(prompts.boxes):
            corners = transform.coordinates(prompts.boxes.reshape(-1, 2))
            boxes = torch.from_numpy(corners).to(device).reshape(-1, 4)
        return points, boxes

    @staticmethod
    def _result(
        logits: torch.Tensor, scores: torch.Tensor, prompts: PromptsUsed, **result: object
    ) -> ConceptResult:
        """One class's answer from what the decoder says to its prompts, a row for each box."""
        masks, scores = logits.float().cpu().numpy(), scores.float().cpu().numpy()
        alone = len(masks) == 1
        return ConceptResult(
            logits=masks[:, 0].max(0),
            prompts=prompts,
            candidates=masks[0, 1:] if alone else None,
            candidate_scores=scores[0, 1:] if alone else None,
            **result,
        )

    def _decode_masks(
        self,
        network: nn.Module,
        embedding: torch.Tensor,
        points: tuple[torch.Tensor, torch.Tensor] | None,
        boxes: torch.Tensor | None,
        dense: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Masks of B prompts in one image, see :func:`~clipsam.models.sam.decode_masks`.

        Args:
            network: has ``mask_decoder`` and ``prompt_encoder``.
            embedding: (1, 256, h, w).
            points, boxes, dense: of the prompts, in pixels of SAM's square.
        """
        asked = 1 if boxes is None else len(boxes)
        embeddings = embedding.expand(asked, -1, -1, -1)
        return decode_masks(
            network.mask_decoder, network.prompt_encoder, embeddings, points, boxes, dense
        )


class JointPredictor(Predictor):
    """A predictor whose classes compete: it answers for all of them at once."""

    joint = True

    @abstractmethod
    def _predict_all(
        self,
        scene: Scene,
        concepts: Sequence[Concept],
        modes: Sequence[str],
        options: Options,
        watch: Stopwatch,
        progress: Callable[[int, int], None] | None,
    ) -> list[ConceptResult]:
        """Answer for all classes together, in their order."""

    def _predict_concept(
        self, scene: Scene, concept: Concept, mode: str, options: Options, watch: Stopwatch
    ) -> ConceptResult:
        return self._predict_all(scene, (concept,), (mode,), options, watch, None)[0]


def nothing_found(
    side: int,
    similarity: np.ndarray | None = None,
    note: str = "Nothing found: CLIP's similarity map is the same everywhere.",
    presence: float = 0.0,
) -> ConceptResult:
    """An empty mask (logits of ``side`` × ``side``) for want of anything to ask SAM."""
    return ConceptResult(
        logits=np.full((side, side), NOTHING, np.float32),
        prompts=PromptsUsed(),
        presence=presence,
        similarity=similarity,
        note=note,
    )


def find_preset(preset: str) -> Preset:
    """The preset of a name.

    Raises:
        PromptError: there is none of that name.
    """
    if preset not in PRESETS:
        raise PromptError(f"There is no preset “{preset}”: choose from {', '.join(PRESETS)}.")
    return PRESETS[preset]
