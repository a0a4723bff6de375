"""Functions for programs: ``gradio_client``, HTTP, and tools for agents (MCP).

Gradio builds the tools' descriptions from the docstrings here (of each argument only the first
line) and the schemas from the type hints, which must not be strings. It ignores the result's
description.
"""

import base64
import binascii
import io
import math
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict
from urllib.parse import unquote

import gradio as gr
import numpy as np
from gradio.processing_utils import save_pil_to_cache
from gradio.utils import get_upload_folder
from PIL import Image
from pycocotools import mask as coco

from ..data.images import ImageError, load_image, load_mask
from ..encoded_image import EncodedImage
from ..errors import ClipsamError, PromptError
from ..evaluation.metrics import dice, iou
from ..evaluation.truth import Truth, match_truth, read_names
from ..marks import Box, Mark, Point, find_class, points_json, prompt_with_marks
from ..predictor import PredictOptions
from ..prompting import PointSampling
from ..protocols import PROTOCOLS
from ..registry import describe_methods, find_info, find_method
from ..suggest import COMMON
from ..types import Prediction, Prompt
from ..weights.bundle import WeightsError
from ..weights.presets import PRESETS, find_preset
from .choices import why_not
from .events import ON_GPU
from .limits import check_marks, read_classes
from .model_store import ModelStore
from .presence import caller_is_there
from .suggesting import suggestions
from .zero_gpu import MethodRequest, predict_all

if TYPE_CHECKING:
    PresetName = str
    ProtocolName = str
else:
    PresetName = Literal[tuple(PRESETS)]
    """Gradio lists the names in the schemas."""
    ProtocolName = Literal[tuple(PROTOCOLS)]
MaskFormat = Literal["png", "rle"]
_ADDRESS_LETTERS = str.maketrans("-_", "+/")
"""From the base64 of addresses to the usual one."""

Row = list[str | float]
"""A class name followed by numbers."""


class FileMeta(TypedDict):
    """Tag by which Gradio recognises a file."""

    _type: Literal["gradio.FileData"]


class File(TypedDict, total=False):
    """A file that was uploaded, or that can be downloaded.

    Not total, because Gradio shows it to agents as text, which has no required fields.
    """

    path: str
    meta: FileMeta


class RunLengths(TypedDict):
    """A mask in COCO's run-length encoding."""

    size: list[int]
    counts: str


class SegmentedClass(TypedDict):
    """Result of one method for one class."""

    text: str
    mask: File | RunLengths
    area_fraction: float
    presence: float | None
    similarity_range: list[float] | None
    similarity_unit: str
    points: list[list[float]]
    boxes: list[list[float]]
    note: str


class SegmentedMethod(TypedDict):
    """Result of one method, or the reason why it failed."""

    method: str
    mode: str | None
    error: str
    seconds: float | None
    peak_memory_mb: float | None
    note: str
    protocol: str
    settings: dict[str, float | str]
    classes: list[SegmentedClass]


class Segmentation(TypedDict):
    """Results of all requested methods, in order."""

    preset: str
    size: list[int]
    notes: list[str]
    methods: list[SegmentedMethod]


class ScoredClass(TypedDict):
    """Scores of one method for one class."""

    text: str
    iou: float | None
    dice: float | None
    presence: float | None
    area_fraction: float


class ScoredMethod(TypedDict):
    """Scores of one method on one image, or the reason why it failed."""

    method: str
    mode: str | None
    error: str
    mean_iou: float | None
    classes: list[ScoredClass]


class TruthComparison(TypedDict):
    """Scores of all requested methods, in order."""

    preset: str
    notes: list[str]
    methods: list[ScoredMethod]


class SuggestedClass(TypedDict):
    """A class that an image may show."""

    name: str
    presence: float | None
    similarity: float


class MethodDescription(TypedDict):
    """Metadata of a method."""

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
    """Register the API functions inside the open ``gr.Blocks``.

    Args:
        models: cache of loaded models.
    """
    api = Api(models)
    gr.api(api.list_methods)
    for function in (api.segment, api.compare_with_truth, api.suggest):
        gr.api(function, **ON_GPU)


class Api:
    """The API functions; errors reach the caller as one sentence."""

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
        num_points: int | None = None,
        sampling: PointSampling | None = None,
        point_threshold: float | None = None,
        dense_logit: float | None = None,
        protocol: ProtocolName | None = None,
    ) -> Segmentation:
        """Segment the named classes in an image with one or more methods.

        Args:
            image: The image: an uploaded file, or a data URL (base64).
            classes: Class names, "," between classes and ";" between synonyms: "dog; puppy, grass".
            methods: Ids from list_methods, or "id:mode"; without a mode, points and boxes decide.
            preset: SAM and CLIP weights. "tiny" is bundled; it is a small demonstration.
            points: Points as [class, x, y, label] in pixels; label 1 is foreground, 0 background.
            boxes: Boxes as [class, x0, y0, x1, y1] in pixels, one per class.
            threshold: Pixels with a higher logit belong to the mask.
            seed: Random seed of the points sampled from CLIP's similarity map.
            masks: "png" for files (0 or 255), "rle" for COCO's run-length encoding.
            num_points: Points per class sampled from the map; by default as the method was trained.
            sampling: "spread" over the map's regions, or "reference": uniform, with replacement.
            point_threshold: On the map scaled to 0..1, for points and dense prompt.
            dense_logit: Strength of the map as dense prompt; 255 in the authors' code.
            protocol: Paper whose preparation of images, prompts and scoring are followed.

        Returns:
            notes on how the image was read
            for each method its run time and memory, or an error message
            for each class its mask
            presence from 0 to 1
            range of the similarities
            points and boxes used as SAM prompts
        """
        with _errors_for_caller():
            picture = load_image(_content(image, "image"))
            encoded = EncodedImage(picture.values)
            prompt = _prompt(classes, points, boxes)
            options = _options(seed, num_points, sampling, point_threshold, dense_logit, protocol)
            limit = _number(threshold, "threshold")
            if masks not in ("png", "rle"):
                raise PromptError(f"masks is “{masks}”, expected png or rle.")
            is_there = caller_is_there()
            answers = [
                _segmented(method, mode, result, limit, masks)
                for method, mode, result in self._run(encoded, prompt, preset, methods, options)
                if is_there()
            ]
        return {
            "preset": preset,
            "size": list(encoded.size),
            "notes": [picture.note] if picture.note else [],
            "methods": answers,
        }

    def list_methods(self, preset: PresetName = "tiny") -> list[MethodDescription]:
        """List the segmentation methods, what each does, and whether it can run here.

        Args:
            preset: SAM and CLIP weights.

        Returns:
            for each method its id
            modes
            summary
            paper
            status
            reason why it cannot run (empty if it can)
            number of parameters
        """
        with _errors_for_caller():
            chosen = find_preset(_text(preset, "preset"))
        described: list[MethodDescription] = []
        for method in describe_methods(chosen):
            described.append(
                {
                    "id": method["id"],
                    "name": method["name"],
                    "summary": find_info(method["id"]).summary,
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
        num_points: int | None = None,
        sampling: PointSampling | None = None,
        point_threshold: float | None = None,
        dense_logit: float | None = None,
        protocol: ProtocolName | None = None,
    ) -> TruthComparison:
        """Score segmentation methods on an image with a ground-truth mask: IoU and Dice per class.

        Args:
            image: The image: an uploaded file, or a data URL (base64).
            truth: Ground-truth mask of the image's size: binary, or a PNG of class ids.
            classes: Class names, "," between classes and ";" between synonyms: "dog; puppy, grass".
            methods: Ids from list_methods, or "id:mode"; without a mode, points and boxes decide.
            preset: SAM and CLIP weights. "tiny" is bundled; it is a small demonstration.
            truth_names: Class names by id; without them, id 1 is the first class, and so on.
            truth_class: The class that a binary mask shows, if there are several classes.
            points: Points as [class, x, y, label] in pixels; label 1 is foreground, 0 background.
            boxes: Boxes as [class, x0, y0, x1, y1] in pixels, one per class.
            threshold: Pixels with a higher logit belong to the mask.
            seed: Random seed of the points sampled from CLIP's similarity map.
            num_points: Points per class sampled from the map; by default as the method was trained.
            sampling: "spread" over the map's regions, or "reference": uniform, with replacement.
            point_threshold: On the map scaled to 0..1, for points and dense prompt.
            dense_logit: Strength of the map as dense prompt; 255 in the authors' code.
            protocol: Paper whose preparation of images, prompts and scoring are followed.

        Returns:
            notes on how image and mask were read
            for each method its mean IoU, or an error message
            for each class in the mask IoU and Dice
            presence from 0 to 1
            area as a fraction
        """
        with _errors_for_caller():
            picture = load_image(_content(image, "image"))
            encoded = EncodedImage(picture.values)
            mask = load_mask(_content(truth, "truth"))
            prompt = _prompt(classes, points, boxes)
            options = _options(seed, num_points, sampling, point_threshold, dense_logit, protocol)
            limit = _number(threshold, "threshold")
            known = match_truth(
                mask.values,
                encoded.size,
                prompt,
                read_names(_text(truth_names, "truth_names")),
                _class_shown(prompt, truth_class),
            )
            answers = [
                _scored(method, mode, result, known, limit)
                for method, mode, result in self._run(encoded, prompt, preset, methods, options)
            ]
        notes = [text for text in (picture.note, mask.note, known.note) if text]
        return {"preset": preset, "notes": notes, "methods": answers}

    def suggest(
        self,
        image: File,
        vocabulary: str = COMMON,
        preset: PresetName = "tiny",
        count: int = 8,
    ) -> list[SuggestedClass]:
        """Suggest class names for an image, for use in segment.

        Args:
            image: The image: an uploaded file, or a data URL (base64).
            vocabulary: Names to choose from, separated by "," or one a line; or "common", "a-150",
                "pc-459", "a-847", "coco-171" or "imagenet".
            preset: SAM and CLIP weights. "tiny" is bundled; it is a small demonstration.
            count: Number of suggestions, at most 50.

        Returns:
            the names, the likeliest first
            presence from 0 to 1
            highest similarity with a place in the image
        """
        with _errors_for_caller():
            if not isinstance(count, int):
                raise PromptError(f"count is {count!r}, expected an integer.")
            pixels = load_image(_content(image, "image")).values
            names = _text(vocabulary, "vocabulary")
            found = suggestions(self._models, pixels, preset, names, count)
        return [
            {"name": one.name, "presence": _known(one.presence), "similarity": one.similarity}
            for one in found
        ]

    def _run(
        self,
        encoded: EncodedImage,
        prompt: Prompt,
        preset: str,
        methods: Sequence[str],
        options: PredictOptions,
    ) -> Iterator[tuple[str, str | None, Prediction | str]]:
        """Yield method, mode, and prediction or error message, one method at a time."""
        prompt.check_inside(encoded.size)
        chosen = options.followed.prepare(find_preset(_text(preset, "preset")))
        if not isinstance(methods, list) or not methods:
            raise PromptError("methods must be a list with at least one method.")
        requests = []
        for text in dict.fromkeys(_text(method, "A method") for method in methods):
            method, _, mode = text.partition(":")
            predictor = find_method(method)
            predictor.check_mode(mode or None)
            problem = why_not(method, chosen)
            if problem:
                raise WeightsError(f"{predictor.info.name} is not available: {problem}.")
            requests.append(MethodRequest(method, mode or None))
        is_there = caller_is_there()
        answers = predict_all(
            self._models, encoded, prompt, chosen.name, requests, options, lambda: not is_there()
        )
        with closing(answers):
            for answer in answers:
                if answer.result is not None:
                    request = requests[answer.method_index]
                    yield request.method, request.mode, answer.result


@contextmanager
def _errors_for_caller() -> Iterator[None]:
    """Pass a user's error on to the caller unchanged and unlogged."""
    try:
        yield
    except ClipsamError as error:
        raise gr.Error(str(error), print_exception=False) from None


def _content(file: object, name: str) -> Path | io.BytesIO:
    """Return an uploaded file, or the content of a data URL.

    Gradio only checks that a path is an upload if the file is described in full.
    """
    if isinstance(file, str) and file.startswith("data:"):
        head, _, content = file.partition(",")
        # Encoders break lines, leave out the padding, escape it, or use the letters of addresses.
        content = "".join(unquote(content).split()).rstrip("=").translate(_ADDRESS_LETTERS)
        try:
            if not head.endswith(";base64"):
                raise binascii.Error
            return io.BytesIO(base64.b64decode(content + "=" * (-len(content) % 4), validate=True))
        except binascii.Error:
            raise ImageError(f"{name} is a data URL without valid base64.") from None
    path = file.get("path") if isinstance(file, dict) else None
    if not isinstance(path, str) or "\0" in path:
        raise ImageError(f"{name} must be an uploaded file or a data URL.")
    uploaded = Path(path).resolve()
    if not uploaded.is_relative_to(Path(get_upload_folder()).resolve()):
        raise ImageError(f"{name}: the upload “{uploaded.name}” does not exist.")
    return uploaded


def _prompt(classes: object, points: object, boxes: object) -> Prompt:
    """Build the prompt from classes, points and boxes."""
    names = read_classes(_text(classes, "classes"))
    point_rows, box_rows = _rows(points), _rows(boxes)
    check_marks(len(point_rows) + len(box_rows))
    marks: list[Mark] = [Point.from_row(row) for row in point_rows]
    return prompt_with_marks(names, [*marks, *map(Box.from_row, box_rows)])


def _rows(rows: object) -> list:
    if rows is None:
        return []
    return rows if isinstance(rows, list) else [rows]


def _class_shown(prompt: Prompt, name: str) -> str | None:
    """Return the class that a binary mask shows."""
    if not _text(name, "truth_class"):
        return None
    index = find_class(name, [concept.synonyms for concept in prompt.concepts])
    if index is None:
        raise PromptError(
            f"“{name}” is not one of the requested classes ({', '.join(prompt.texts)})."
        )
    return prompt.texts[index]


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise PromptError(f"{name} must be a string, got {value!r}.")
    return value


def _number(value: object, name: str) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise PromptError(f"{name} is {value!r}, expected a finite number.")
    return float(value)


def _options(
    seed: object,
    num_points: object,
    sampling: PointSampling | None,
    point_threshold: object,
    dense_logit: object,
    protocol: object,
) -> PredictOptions:
    """Check the options of a request.

    Raises:
        PromptError: one of them cannot have its value.
    """
    if not isinstance(seed, int):
        raise PromptError(f"seed is {seed!r}, expected an integer.")
    if num_points is not None and not isinstance(num_points, int):
        raise PromptError(f"num_points is {num_points!r}, expected an integer.")

    def number(value: object, name: str) -> float | None:
        return None if value is None else _number(value, name)

    return PredictOptions(
        seed=seed,
        num_points=num_points,
        sampling=sampling or None,
        point_threshold=number(point_threshold, "point_threshold"),
        dense_logit=number(dense_logit, "dense_logit"),
        protocol=_text(protocol or "", "protocol") or None,
    )


def _segmented(
    method: str, mode: str | None, result: Prediction | str, threshold: float, masks: MaskFormat
) -> SegmentedMethod:
    if isinstance(result, str):
        return {
            "method": method,
            "mode": mode,
            "error": result,
            "seconds": None,
            "peak_memory_mb": None,
            "note": "",
            "protocol": "",
            "settings": {},
            "classes": [],
        }
    return {
        "method": method,
        "mode": result.mode,
        "error": "",
        "seconds": result.total_seconds,
        "peak_memory_mb": result.peak_memory_mb,
        "note": result.note,
        "protocol": result.protocol,
        "settings": dict(result.overrides),
        "classes": [
            _segmented_class(result, i, threshold, masks) for i in range(len(result.results))
        ],
    }


def _segmented_class(
    prediction: Prediction, index: int, threshold: float, masks: MaskFormat
) -> SegmentedClass:
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
    """Write a mask, bool (H, W), as a PNG in Gradio's cache."""
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    path = save_pil_to_cache(picture, get_upload_folder(), name="mask", format="png")
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def _run_lengths(mask: np.ndarray) -> RunLengths:
    """Encode a mask, bool (H, W), as ``pycocotools`` reads it."""
    encoded = coco.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}


def _scored(
    method: str, mode: str | None, result: Prediction | str, truth: Truth, threshold: float
) -> ScoredMethod:
    if isinstance(result, str):
        return {"method": method, "mode": mode, "error": result, "mean_iou": None, "classes": []}
    scores: list[ScoredClass] = []
    for index, text in enumerate(result.texts):
        counts = truth.score(result, index, threshold)
        if counts is not None:
            scores.append(
                {
                    "text": text,
                    "iou": _known(iou(counts)),
                    "dice": _known(dice(counts)),
                    "presence": _known(result.results[index].presence),
                    "area_fraction": counts.predicted / max(1, int(truth.valid.sum())),
                }
            )
    known = [score["iou"] for score in scores if score["iou"] is not None]
    return {
        "method": method,
        "mode": result.mode,
        "error": "",
        "mean_iou": sum(known) / len(known) if known else None,
        "classes": scores,
    }


def _known(value: float) -> float | None:
    """Replace NaN by ``None``, since JSON has no NaN."""
    return None if math.isnan(value) else float(value)
