"""The interface that every method implements."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, get_args

import torch
from torch import nn

from .encoded_image import EncodedImage
from .errors import PromptError
from .geometry import SquareTransform
from .measure import PeakMemory, Stopwatch
from .memory import CPU, FallbackPlan, move_tensors, run_with_fallback, weights
from .prompting import PointSampling, PromptSettings
from .protocols import PaperProtocol, find_protocol
from .registry import MethodInfo
from .tiling import Mosaic, TileResult, Tiling
from .types import Concept, ConceptResult, Prediction, Prompt
from .weights.backbones import Backbones

if TYPE_CHECKING:
    from typing_extensions import Self


MAX_POINTS = 1000
"""Most points per class; SAM's decoder attends to all of them at once."""


@dataclass(frozen=True)
class PredictOptions:
    """Options of a prediction.

    Attributes:
        mode: one of the method's modes; ``None`` decides for each class: a method that can take
            points takes them where there are some.
        seed: random seed of the points sampled from similarity maps.
        num_points, sampling, point_threshold, dense_logit: how prompts are made from a map, see
            :class:`~clipsam.prompting.PromptSettings`; ``None`` takes the protocol's or else the
            method's own.
        protocol: name of a paper's protocol to follow, see :mod:`clipsam.protocols`. How images are
            prepared is decided where the method is loaded.
        classes_at_a_time: a method that computes several classes at once takes at most so many,
            and answers the same with less memory; ``None`` leaves the number to the method. When
            memory runs out, a prediction lowers it by itself, see ``memory.run_with_fallback``.
        tiling: divides images larger than a tile; ``None`` predicts every image whole.
    """

    mode: str | None = None
    seed: int = 0
    num_points: int | None = None
    sampling: PointSampling | None = None
    point_threshold: float | None = None
    dense_logit: float | None = None
    protocol: str | None = None
    classes_at_a_time: int | None = None
    tiling: Tiling | None = None

    def __post_init__(self) -> None:
        if self.classes_at_a_time is not None and self.classes_at_a_time < 1:
            raise PromptError(
                f"classes_at_a_time is {self.classes_at_a_time}, expected at least 1."
            )
        if self.num_points is not None and not 1 <= self.num_points <= MAX_POINTS:
            raise PromptError(f"num_points is {self.num_points}, expected 1 to {MAX_POINTS:,}.")
        if self.sampling is not None and self.sampling not in get_args(PointSampling):
            kinds = " or ".join(get_args(PointSampling))
            raise PromptError(f"sampling is “{self.sampling}”, expected {kinds}.")
        for name in ("point_threshold", "dense_logit"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise PromptError(f"{name} is {value}, expected a finite number.")
        find_protocol(self.protocol)

    @property
    def followed(self) -> PaperProtocol:
        """The protocol to follow, which may set nothing."""
        return find_protocol(self.protocol)

    @property
    def overrides(self) -> dict[str, Any]:
        """The settings of prompts that are set here, by name."""
        return {
            field.name: value
            for field in fields(PromptSettings)
            if (value := getattr(self, field.name)) is not None
        }

    @property
    def recorded(self) -> dict[str, Any]:
        """What a result keeps of the settings, by name: :attr:`overrides` and the tiles."""
        tiling = asdict(self.tiling) if self.tiling is not None else {}
        return {**self.overrides, **{f"tile_{name}": value for name, value in tiling.items()}}

    def prompt_settings(self, defaults: PromptSettings) -> PromptSettings:
        """Return a method's own settings, with those that are set here in their place."""
        return replace(self.followed.prompts or defaults, **self.overrides)


class Turn(Protocol):
    """A context in which predictions are made, shared with others who want the same machine."""

    def __enter__(self) -> object:
        """Wait until it is this one's turn; again inside it, do nothing."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let others go on."""

    def check(self) -> None:
        """Raise an exception of its own if the prediction is not wanted any more."""

    def pause(self) -> object:
        """Check, and let others go on for a while if it is time."""


class _Alone:
    """The turn of a program that shares the machine with nobody."""

    def __enter__(self) -> _Alone:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def check(self) -> None:
        return

    def pause(self) -> None:
        return


ALONE = _Alone()


class Predictor(ABC):
    """Base class of methods; predicts from an image and a prompt and holds no image."""

    info: ClassVar[MethodInfo]
    joint: ClassVar[bool] = False
    """Whether classes compete, so that the result for one depends on the others."""
    _turn: Turn = ALONE

    def __init__(self, backbones: Backbones) -> None:
        self.backbones = backbones

    @classmethod
    def load(cls, backbones: Backbones, folder: Path | None = None) -> Predictor:
        """Load the method with its weights.

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
        """Create the method without any training of its own, to count, time or train it."""
        return cls(backbones)

    @abstractmethod
    def network(self) -> nn.Module:
        """Return all networks of the method as one module, to count its parameters.

        Parameters with ``requires_grad`` are those that the method's training changes.
        """

    def on(self, device: torch.device) -> Predictor:
        """Return the same method on another device, without copying or moving networks."""
        backbones = self.backbones.on(device)
        if backbones is self.backbones:
            return self
        view = copy.copy(self)
        view.backbones = backbones
        return view

    def during(self, turn: Turn) -> Self:
        """Return the same method, which predicts only during a turn and gives way between classes.

        On a GPU, whose memory a prediction has for itself, it gives way between predictions only.
        """
        view = copy.copy(self)
        view._turn = turn
        return view

    def _give_way(self, watch: Stopwatch) -> None:
        """Let others go on between two pieces of a prediction; the time does not count."""
        with watch.excluding():
            if self.backbones.device == CPU:
                self._turn.pause()
            else:
                self._turn.check()

    def to(self, device: torch.device) -> None:
        """Move all weights of the method, including networks shared with other methods."""
        move_tensors(weights(self.network()).values(), device)

    @abstractmethod
    def _predict_concept(
        self,
        encoded: EncodedImage,
        concept: Concept,
        mode: str,
        options: PredictOptions,
        watch: Stopwatch,
    ) -> ConceptResult:
        """Predict one class."""

    def _predict_all(
        self,
        encoded: EncodedImage,
        concepts: Sequence[Concept],
        modes: Sequence[str],
        options: PredictOptions,
        watch: Stopwatch,
        progress: Callable[[int, int], None] | None,
    ) -> list[ConceptResult]:
        """Predict all classes, each on its own."""
        results = []
        for concept, mode in zip(concepts, modes, strict=True):
            results.append(self._predict_concept(encoded, concept, mode, options, watch))
            if progress is not None:
                progress(len(results), len(concepts))
        return results

    def _transform(self, encoded: EncodedImage) -> SquareTransform:
        """Return how the image lies in the square covered by the logits."""
        return encoded.sam_transform(self.backbones.preset)

    @property
    def _mask_side(self) -> int:
        """Side of the logits and of the dense prompt."""
        return self.backbones.preset.sam.mask_side

    def predict(
        self,
        encoded: EncodedImage,
        prompt: Prompt,
        options: PredictOptions | None = None,
        progress: Callable[[int, int], None] | None = None,
        earlier: Prediction | None = None,
    ) -> Prediction:
        """Segment every class of a prompt in an image.

        Weights that were moved off the device are moved back. If its memory runs out, everything is
        recomputed with less memory, finally on the CPU; the prediction's note then says so.

        Args:
            encoded: the image; features computed here stay in it for the next method.
            prompt: the classes, with points and boxes in pixels of the original image.
            options: see :class:`PredictOptions`.
            progress: called with (classes done, classes to do); a class counts once per tile.
            earlier: a prediction for another prompt on this image, with these options. A class
                that is unchanged keeps its result, unless classes compete; time and memory
                are those of the others.

        Raises:
            PromptError: the prompt does not fit the image, the mode or the method.
            torch.OutOfMemoryError: the CPU's memory ran out too.
        """
        options = options or PredictOptions()
        prompt.check_inside(encoded.size)
        modes = self._modes(prompt, options)
        kept: dict[Hashable, ConceptResult] = {}
        if earlier is not None and not self.joint:
            kept = dict(zip(earlier.prompt.keys, earlier.results, strict=True))

        def run(step: FallbackPlan) -> Prediction:
            there = self.on(step.device)
            step.move(there, encoded)
            most = [n for n in (options.classes_at_a_time, step.classes) if n is not None]
            given = replace(options, classes_at_a_time=min(most, default=None))
            return there._predict(encoded, prompt, modes, given, progress, kept)

        device, classes = self.backbones.device, len(prompt.concepts)
        with self._turn:
            prediction, note, lost = run_with_fallback(run, device, classes)
        if not note:
            return prediction
        return replace(prediction, seconds={"out of memory": lost, **prediction.seconds}, note=note)

    @torch.inference_mode()
    def _predict(
        self,
        encoded: EncodedImage,
        prompt: Prompt,
        modes: Sequence[str],
        options: PredictOptions,
        progress: Callable[[int, int], None] | None,
        kept: Mapping[Hashable, ConceptResult],
    ) -> Prediction:
        """Predict the classes without a result yet, once, on this device with these options."""
        watch = Stopwatch(self.backbones.device)
        memory = PeakMemory(self.backbones.device)
        keys = prompt.keys
        pending = [index for index, key in enumerate(keys) if key not in kept]
        concepts, how = [prompt.concepts[i] for i in pending], [modes[i] for i in pending]

        def step(done: int, total: int) -> None:
            if progress is not None:
                progress(done, total)
            self._give_way(watch)

        tiling = options.tiling
        if tiling is not None and tiling.divides(encoded.size):
            mosaic = Mosaic(encoded.size, tiling, self._mask_side)
            found = self._predict_tiles(encoded, mosaic, concepts, how, options, watch, step)
            transform = mosaic.transform
        else:
            found = self._predict_all(encoded, concepts, how, options, watch, step)
            transform = self._transform(encoded)
        found = [self._noted(*one) for one in zip(found, concepts, strict=True)]
        answers = dict(kept)
        answers.update(zip((keys[index] for index in pending), found, strict=True))
        return Prediction(
            method=self.info.id,
            preset=self.backbones.preset.name,
            mode=" + ".join(mode for mode in self.info.modes if mode in modes),
            prompt=prompt,
            transform=transform,
            results=tuple(answers[key] for key in keys),
            seconds=watch.seconds,
            peak_memory_mb=memory.megabytes(),
            overrides=options.recorded,
            protocol=options.followed.name,
            score_space=options.followed.score_space,
        )

    def _predict_tiles(
        self,
        encoded: EncodedImage,
        mosaic: Mosaic,
        concepts: Sequence[Concept],
        modes: Sequence[str],
        options: PredictOptions,
        watch: Stopwatch,
        progress: Callable[[int, int], None],
    ) -> list[ConceptResult]:
        """Predict all classes in every tile; a class that needs marks, in the tiles with some.

        Features of a tile are not kept in the image: those of all would not fit into its cache.
        """
        asked = [
            [
                index
                for index, (concept, mode) in enumerate(zip(concepts, modes, strict=True))
                if mode != "manual" or tile.concept(concept).has_user_prompt
            ]
            for tile in mosaic.tiles
        ]
        total, before = sum(map(len, asked)), 0
        parts: list[list[TileResult]] = [[] for _ in concepts]
        for tile, indices in zip(mosaic.tiles, asked, strict=True):
            if not indices:
                continue
            cut = EncodedImage(tile.crop(encoded.image))

            def step(done: int, _: int, before: int = before) -> None:
                progress(before + done, total)

            found = self._predict_all(
                cut,
                [tile.concept(concepts[index]) for index in indices],
                [modes[index] for index in indices],
                options,
                watch,
                step,
            )
            before += len(indices)
            for index, result in zip(indices, found, strict=True):
                # Of hundreds of tiles, what is not put together would fill the memory.
                result = replace(
                    result,
                    candidates=None,
                    candidate_scores=None,
                    instances=None,
                    block_traces=(),
                )
                parts[index].append(TileResult(tile, self._transform(cut), result))
        return [mosaic.result(own) for own in parts]

    def _is_cut(self, name: str) -> bool:
        """Return whether the method reads only the beginning of a name, being so long."""
        return False

    def _noted(self, result: ConceptResult, concept: Concept) -> ConceptResult:
        """Add to a result that a name of its class was cut."""
        cut = [name for name in concept.synonyms if self._is_cut(name)]
        if not cut:
            return result
        note = f"“{cut[0][:40]}…” is too long for {self.info.name}, which read its beginning only."
        return replace(result, note=" ".join(filter(None, (result.note, note))))

    def check_prompt(self, prompt: Prompt, options: PredictOptions) -> None:
        """Check that the method can answer a prompt, whatever the image.

        Raises:
            PromptError: it has no such mode, or needs a point or a box.
        """
        self._modes(prompt, options)

    @classmethod
    def check_mode(cls, mode: str | None) -> None:
        """Check a mode.

        Raises:
            PromptError: the method has no such mode.
        """
        if mode is not None and mode not in cls.info.modes:
            raise PromptError(
                f"{cls.info.name} has no mode “{mode}”, expected {' or '.join(cls.info.modes)}."
            )

    def _modes(self, prompt: Prompt, options: PredictOptions) -> list[str]:
        """Return the mode for each class."""
        modes = self.info.modes
        self.check_mode(options.mode)
        chosen = []
        for concept in prompt.concepts:
            marked = concept.has_user_prompt and "manual" in modes
            own = "manual" if marked else options.followed.mode_of(modes)
            mode = options.mode or own
            if mode == "manual" and not concept.has_user_prompt:
                raise PromptError(
                    f"{self.info.name} ({mode}) needs a foreground point or a box for "
                    f"“{concept.text}”. Click on the class, or drag a box around it."
                )
            chosen.append(mode)
        return chosen


class JointPredictor(Predictor):
    """Base class of methods whose classes compete and are predicted together."""

    joint = True

    @abstractmethod
    def _predict_all(
        self,
        encoded: EncodedImage,
        concepts: Sequence[Concept],
        modes: Sequence[str],
        options: PredictOptions,
        watch: Stopwatch,
        progress: Callable[[int, int], None] | None,
    ) -> list[ConceptResult]:
        """Predict all classes together, in order."""

    def _predict_concept(
        self,
        encoded: EncodedImage,
        concept: Concept,
        mode: str,
        options: PredictOptions,
        watch: Stopwatch,
    ) -> ConceptResult:
        return self._predict_all(encoded, (concept,), (mode,), options, watch, None)[0]
