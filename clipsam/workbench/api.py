"""The page's functions for programs: ``gradio_client``, HTTP, and tools for agents (MCP).

Gradio makes the tools' descriptions of the docstrings here, of an argument's only its first line,
and the schemas of the type hints, which must not be strings: it leaves a result's unread.
"""

import base64
import binascii
import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypedDict

import gradio as gr
import numpy as np
from gradio.processing_utils import save_pil_to_cache
from gradio.utils import get_upload_folder
from PIL import Image
from pycocotools import mask as coco

from ..data.images import ImageError, open_image, open_mask
from ..errors import ClipsamError, PromptError
from ..evaluation.metrics import dice, iou
from ..evaluation.truth import Truth, match_truth, read_names
from ..marks import Box, Mark, Point, find_class, points_json, prompt_with_marks
from ..predictor import Options
from ..registry import describe_methods, find_method
from ..scene import Scene
from ..types import Prediction, Prompt, parse_classes
from ..weights.bundle import WeightsError
from ..weights.presets import PRESETS, find_preset
from .choices import why_not
from .events import ON_GPU
from .models import ModelStore
from .zero_gpu import Asked, predict_all

PresetName = Literal[tuple(PRESETS)]
MaskFormat = Literal["png", "rle"]
Row = list[str | float]
"""A class with numbers after it."""


class FileMeta(TypedDict):
    """By this Gradio knows a file."""

    _type: Literal["gradio.FileData"]


class File(TypedDict, total=False):
    """A file that was uploaded, or that can be downloaded.

    Not total, for to agents Gradio shows it as text, of which no fields can be required.
    """

    path: str
    meta: FileMeta


class RunLengths(TypedDict):
    """A mask as COCO stores it."""

    size: list[int]
    counts: str


class Found(TypedDict):
    """What a method found of one class."""

    text: str
    mask: File | RunLengths
    area_fraction: float
    presence: float | None
    similarity_range: list[float] | None
    similarity_unit: str
    points: list[list[float]]
    boxes: list[list[float]]
    note: str


class Segmented(TypedDict):
    """What a method found, or why it could not answer."""

    method: str
    mode: str | None
    error: str
    seconds: float | None
    peak_memory_mb: float | None
    note: str
    classes: list[Found]


class Segmentation(TypedDict):
    """Answers of all methods asked, in their order."""

    preset: str
    size: list[int]
    methods: list[Segmented]


class Score(TypedDict):
    """How well a method found one class."""

    text: str
    iou: float | None
    dice: float | None
    presence: float | None
    area_fraction: float


class Scored(TypedDict):
    """How well a method did on one image, or why it could not answer."""

    method: str
    mode: str | None
    error: str
    mean_iou: float | None
    classes: list[Score]


class Comparison(TypedDict):
    """Scores of all methods asked, in their order."""

    preset: str
    methods: list[Scored]


class Described(TypedDict):
    """What is known of a method without running it."""

    id: str
    name: str
    summary: str
    paper: str
    kind: str
    modes: list[str]
    status: str
    why_not: str
    parameters: dict[str, int] | None


def add_api(models: ModelStore) -> None:
    """Offer the functions, inside the ``gr.Blocks`` that is open.

    Args:
        models: what runs.
    """
    api = Api(models)
    gr.api(api.list_methods)
    for function in (api.segment, api.compare_with_truth):
        gr.api(function, **ON_GPU)


class Api:
    """The functions; what they raise is one sentence for the caller."""

    def __init__(self, models: ModelStore) -> None:
        self._models = models

    def segment(
        self,
        image: File,
        classes: str,
        methods: list[str],
        preset: PresetName = "tiny",
        points: list[Row] | None = None,
        boxes: list[Row] | None = None,
        threshold: float = 0.0,
        seed: int = 0,
        masks: MaskFormat = "png",
    ) -> Segmentation:
        """Find classes, given by name, in an image with one or several segmentation methods.

        Args:
            image: The picture: an uploaded file, or a data URL (base64).
            classes: Class names, "," between classes and ";" between synonyms: "dog; puppy, grass".
            methods: Ids from list_methods, or "id:mode"; without a mode, points and boxes decide.
            preset: Which SAM and CLIP run. "tiny" is always there; it knows simple things only.
            points: Clicks as [class, x, y, label] in pixels; label 1 is foreground, 0 background.
            boxes: Boxes as [class, x0, y0, x1, y1] in pixels, one per class.
            threshold: Pixels whose logit is above it are mask.
            seed: Of the points that methods draw from CLIP's similarity map.
            masks: "png" gives files (0 or 255), "rle" COCO's run-length encoding.

        Returns:
            for each method its seconds and memory or why it could not answer
            for each class its mask
            presence from 0 to 1
            range of the similarities
            points and boxes given to SAM
        """
        with _in_words():
            scene = Scene(open_image(_content(image, "image")))
            prompt = _prompt(classes, points, boxes)
            limit = _number(threshold, "threshold")
            if masks not in ("png", "rle"):
                raise PromptError(f"masks is “{masks}”: choose png or rle.")
            answers = [
                _segmented(method, mode, found, limit, masks)
                for method, mode, found in self._run(scene, prompt, preset, methods, seed)
            ]
        return {"preset": preset, "size": list(scene.size), "methods": answers}

    def list_methods(self, preset: PresetName = "tiny") -> list[Described]:
        """List the segmentation methods, what each does, and whether it can run here.

        Args:
            preset: Which SAM and CLIP are meant.

        Returns:
            for each method its id
            modes
            summary
            paper
            status
            why it cannot run (empty if it can)
            number of parameters
        """
        with _in_words():
            chosen = find_preset(preset)
        described: list[Described] = []
        for method in describe_methods(chosen):
            described.append(
                {
                    "id": method["id"],
                    "name": method["name"],
                    "summary": find_method(method["id"]).info.summary,
                    "paper": method["paper"],
                    "kind": method["kind"],
                    "modes": method["modes"],
                    "status": method["presets"][preset],
                    "why_not": why_not(method["id"], chosen),
                    "parameters": method["parameters"],
                }
            )
        return described

    def compare_with_truth(
        self,
        image: File,
        truth: File,
        classes: str,
        methods: list[str],
        preset: PresetName = "tiny",
        truth_names: str = "",
        truth_class: str = "",
        points: list[Row] | None = None,
        boxes: list[Row] | None = None,
        threshold: float = 0.0,
        seed: int = 0,
    ) -> Comparison:
        """Score segmentation methods on an image against its true mask: IoU and Dice per class.

        Args:
            image: The picture: an uploaded file, or a data URL (base64).
            truth: The mask, as large as the picture: black and white, or ids as PNG.
            classes: Class names, "," between classes and ";" between synonyms: "dog; puppy, grass".
            methods: Ids from list_methods, or "id:mode"; without a mode, points and boxes decide.
            preset: Which SAM and CLIP run. "tiny" is always there; it knows simple things only.
            truth_names: Names of the mask's ids, index = id; without it 1 is the first class, etc.
            truth_class: The class that a black and white mask shows, if several are asked.
            points: Clicks as [class, x, y, label] in pixels; label 1 is foreground, 0 background.
            boxes: Boxes as [class, x0, y0, x1, y1] in pixels, one per class.
            threshold: Pixels whose logit is above it are mask.
            seed: Of the points that methods draw from CLIP's similarity map.

        Returns:
            for each method its mean IoU or why it could not answer
            for each class that the mask knows IoU and Dice
            presence from 0 to 1
            area as a fraction
        """
        with _in_words():
            scene = Scene(open_image(_content(image, "image")))
            ids = open_mask(_content(truth, "truth"))
            prompt = _prompt(classes, points, boxes)
            limit = _number(threshold, "threshold")
            known = match_truth(
                ids,
                scene.size,
                prompt,
                read_names(_text(truth_names, "truth_names")),
                _class_shown(prompt, truth_class),
            )
            answers = [
                _scored(method, mode, found, known, limit)
                for method, mode, found in self._run(scene, prompt, preset, methods, seed)
            ]
        return {"preset": preset, "methods": answers}

    def _run(
        self, scene: Scene, prompt: Prompt, preset: str, methods: Sequence[str], seed: int
    ) -> Iterator[tuple[str, str | None, Prediction | str]]:
        """Method, mode and what it found, one by one."""
        prompt.check_inside(scene.size)
        chosen = find_preset(preset)
        if not isinstance(methods, list) or not methods:
            raise PromptError("Name at least one method, in a list.")
        if not isinstance(seed, int):
            raise PromptError(f"seed is {seed!r}: give a whole number.")
        asked = []
        for text in dict.fromkeys(_text(method, "A method") for method in methods):
            method, _, mode = text.partition(":")
            predictor = find_method(method)
            predictor.check_mode(mode or None)
            problem = why_not(method, chosen)
            if problem:
                raise WeightsError(f"{predictor.info.name} is not available: {problem}.")
            asked.append(Asked(method, mode or None))
        answers = predict_all(self._models, scene, prompt, preset, asked, Options(seed=seed))
        found = (answer.found for answer in answers if answer.found is not None)
        for one, answer in zip(asked, found, strict=True):
            yield one.method, one.mode, answer


@contextmanager
def _in_words() -> Iterator[None]:
    """What was wrong with a request goes to the caller as it is, and into no log."""
    try:
        yield
    except ClipsamError as error:
        raise gr.Error(str(error), print_exception=False) from None


def _content(file: object, name: str) -> Path | io.BytesIO:
    """An uploaded file, or the content of a data URL.

    Gradio checks that a path lies among the uploads only if the file is described in full.
    """
    if isinstance(file, str) and file.startswith("data:"):
        try:
            return io.BytesIO(base64.b64decode(file.partition(",")[2], validate=True))
        except binascii.Error:
            raise ImageError(f"{name} is a data URL that is not valid base64.") from None
    path = file.get("path") if isinstance(file, dict) else None
    if not isinstance(path, str):
        raise ImageError(f"{name} is neither an uploaded file nor a data URL.")
    found = Path(path).resolve()
    if not found.is_relative_to(Path(get_upload_folder()).resolve()):
        raise ImageError(f"{name} was not uploaded: there is no {found.name} among the uploads.")
    return found


def _prompt(classes: object, points: object, boxes: object) -> Prompt:
    """Classes with their points and boxes."""
    names = parse_classes(_text(classes, "classes"))
    return prompt_with_marks(names, [*_marks(points, Point), *_marks(boxes, Box)])


def _marks(rows: object, kind: type[Mark]) -> list[Mark]:
    if rows is None:
        return []
    return [kind.from_row(row) for row in (rows if isinstance(rows, list) else [rows])]


def _class_shown(prompt: Prompt, name: str) -> str | None:
    """The class that a black and white mask is said to show."""
    if not _text(name, "truth_class"):
        return None
    index = find_class(name, [concept.synonyms for concept in prompt.concepts])
    if index is None:
        raise PromptError(f"“{name}” is none of the classes asked ({', '.join(prompt.texts)}).")
    return prompt.texts[index]


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise PromptError(f"{name} must be text, got {value!r}.")
    return value


def _number(value: object, name: str) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise PromptError(f"{name} is {value!r}: give a number.")
    return float(value)


def _segmented(
    method: str, mode: str | None, found: Prediction | str, threshold: float, masks: MaskFormat
) -> Segmented:
    if isinstance(found, str):
        nothing = {"seconds": None, "peak_memory_mb": None, "note": "", "classes": []}
        return {"method": method, "mode": mode, "error": found, **nothing}
    return {
        "method": method,
        "mode": found.mode,
        "error": "",
        "seconds": found.total_seconds,
        "peak_memory_mb": found.peak_memory_mb,
        "note": found.note,
        "classes": [_found(found, i, threshold, masks) for i in range(len(found.results))],
    }


def _found(prediction: Prediction, index: int, threshold: float, masks: MaskFormat) -> Found:
    result, mask = prediction.results[index], prediction.class_mask(index, threshold)
    similarity = result.similarity
    return {
        "text": prediction.texts[index],
        "mask": _file(mask) if masks == "png" else _run_lengths(mask),
        "area_fraction": float(mask.mean()),
        "presence": _known(result.presence),
        "similarity_range": (
            None if similarity is None else [float(similarity.min()), float(similarity.max())]
        ),
        "similarity_unit": result.similarity_unit,
        "points": points_json(result.prompts.points, result.prompts.labels),
        "boxes": result.prompts.boxes.tolist(),
        "note": result.note,
    }


def _file(mask: np.ndarray) -> File:
    """A mask, bool (H, W), as a PNG that Gradio serves, and deletes in time."""
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    path = save_pil_to_cache(picture, get_upload_folder(), name="mask", format="png")
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def _run_lengths(mask: np.ndarray) -> RunLengths:
    """A mask, bool (H, W), as ``pycocotools`` reads it."""
    encoded = coco.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}


def _scored(
    method: str, mode: str | None, found: Prediction | str, truth: Truth, threshold: float
) -> Scored:
    if isinstance(found, str):
        return {"method": method, "mode": mode, "error": found, "mean_iou": None, "classes": []}
    scores: list[Score] = []
    for index, text in enumerate(found.texts):
        counts = truth.score(found, index, threshold)
        if counts is not None:
            scores.append(
                {
                    "text": text,
                    "iou": _known(iou(counts)),
                    "dice": _known(dice(counts)),
                    "presence": _known(found.results[index].presence),
                    "area_fraction": counts.predicted / max(1, int(truth.valid.sum())),
                }
            )
    known = [score["iou"] for score in scores if score["iou"] is not None]
    return {
        "method": method,
        "mode": found.mode,
        "error": "",
        "mean_iou": sum(known) / len(known) if known else None,
        "classes": scores,
    }


def _known(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else float(value)
