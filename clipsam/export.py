"""Export of predictions as files."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as run_lengths

from .evaluation.metric_table import shown_in_compare
from .evaluation.truth import Truth
from .marks import points_json, prompt_json
from .registry import find_method
from .types import Overlap, Prediction, Prompt
from .writing import check_folder, replacing, shorten, write_json, write_text

LABEL_MAP = "label map"

IMAGE = "image.png"
"""Name of an image without a file name."""


def write_prediction(
    prediction: Prediction,
    folder: Path,
    threshold: float = 0.0,
    truth: Truth | None = None,
    overlap: Overlap = "independent",
    image_name: str = IMAGE,
) -> dict:
    """Write masks and maps of one prediction and return its entry for ``results.json``.

    ``<class>.png`` is 0/255 at the original size, ``<class>.similarity.npy`` float32 raw
    similarity on CLIP's grid, ``annotations.json`` the masks in COCO format, see
    :func:`coco_annotations`. Where classes compete there is also ``label map.png``, an index PNG:
    0 for none of the classes, then 1, 2, … in their order.
    """
    check_folder(folder)
    if find_method(prediction.method).joint:
        labels = prediction.label_map(threshold) + 1
        dtype = np.uint8 if len(prediction.results) < 256 else np.uint16
        with replacing(folder / f"{LABEL_MAP}.png") as partial:
            Image.fromarray(labels.astype(dtype)).save(partial)
    classes, found = [], []
    names = file_names(prediction.texts)
    masks = prediction.each_mask(threshold, None, overlap)
    for text, name, result, mask in zip(
        prediction.texts, names, prediction.results, masks, strict=True
    ):
        with replacing(folder / f"{name}.png") as partial:
            Image.fromarray(mask.astype(np.uint8) * 255).save(partial)
        found.append(run_lengths.encode(np.asfortranarray(mask.view(np.uint8))))
        entry = {
            "text": text,
            "area_fraction": float(mask.mean()),
            "presence": None if np.isnan(result.presence) else float(result.presence),
            "similarity_range": None,
            "similarity_unit": result.similarity_unit,
            "points": points_json(result.prompts.points, result.prompts.labels),
            "boxes": result.prompts.boxes.tolist(),
        }
        if result.similarity is not None:
            with replacing(folder / f"{name}.similarity.npy") as partial:
                np.save(partial, result.similarity.astype(np.float32))
            low, high = float(result.similarity.min()), float(result.similarity.max())
            entry["similarity_range"] = [low, high]
        if result.candidate is not None:
            entry["candidate"] = result.candidate + 1
        if result.note:
            entry["note"] = result.note
        if truth is not None:
            compared = truth.compare(text, mask)
            for name, metric in shown_in_compare("mask").items():
                value = math.nan if compared is None else metric.of_sample(compared)
                entry[name] = None if math.isnan(value) else value
        classes.append(entry)
    annotations = coco_annotations(prediction, found, image_name)
    write_text(folder / "annotations.json", json.dumps(annotations, ensure_ascii=False))
    return {
        "id": prediction.method,
        "preset": prediction.preset,
        "mode": prediction.mode,
        "seconds": prediction.total_seconds,
        "peak_memory_mb": prediction.peak_memory_mb,
        **({"note": prediction.note} if prediction.note else {}),
        **({"protocol": prediction.protocol} if prediction.protocol else {}),
        **({"settings": dict(prediction.overrides)} if prediction.overrides else {}),
        "classes": classes,
    }


def coco_annotations(
    prediction: Prediction, masks: Sequence[Mapping[str, Any]], image_name: str
) -> dict:
    """Convert a prediction to COCO; its ``annotations`` alone are a COCO results file.

    A class is one annotation, none if its mask is empty. The score is the class's presence, 1
    if unknown.

    Args:
        prediction: the method's prediction.
        masks: of each class, in order, as pycocotools encodes them.
        image_name: file name of the image.
    """
    height, width = prediction.transform.image_size
    annotations: list[dict] = []
    for number, (result, mask) in enumerate(zip(prediction.results, masks, strict=True), start=1):
        area = int(run_lengths.area(mask))
        if area:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 1,
                    "category_id": number,
                    "segmentation": {"size": [height, width], "counts": mask["counts"].decode()},
                    "bbox": run_lengths.toBbox(mask).tolist(),
                    "area": area,
                    "iscrowd": 0,
                    "score": 1.0 if np.isnan(result.presence) else float(result.presence),
                }
            )
    names = enumerate(prediction.texts, start=1)
    return {
        "images": [{"id": 1, "file_name": image_name, "height": height, "width": width}],
        "categories": [{"id": number, "name": name} for number, name in names],
        "annotations": annotations,
    }


def merge_coco(parts: Sequence[tuple[str, Mapping[str, Any]]]) -> dict:
    """Join the COCO annotations of several images.

    Args:
        parts: file name of each image, and what :func:`coco_annotations` returned for it.

    Returns:
        The same with an id for each image, in order; categories are those of all images, by name.
    """
    images: list[dict] = []
    annotations: list[dict] = []
    categories: dict[str, int] = {}
    for image_id, (file_name, part) in enumerate(parts, start=1):
        images += [{**image, "id": image_id, "file_name": file_name} for image in part["images"]]
        ids = {
            one["id"]: categories.setdefault(one["name"], len(categories) + 1)
            for one in part["categories"]
        }
        for one in part["annotations"]:
            moved = {"image_id": image_id, "category_id": ids[one["category_id"]]}
            annotations.append({**one, **moved, "id": len(annotations) + 1})
    return {
        "images": images,
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
        "annotations": annotations,
    }


def write_results(folder: Path, image_name: str, prompt: Prompt, methods: Sequence[dict]) -> None:
    """Write ``results.json``: the prompt, and the entries of :func:`write_prediction`."""
    results = {"image": image_name, "prompt": prompt_json(prompt), "methods": list(methods)}
    check_folder(folder)
    write_json(folder / "results.json", results)


def safe_name(text: str) -> str:
    """Convert a class name to a file name, replacing unsafe characters by underscores."""
    safe = "".join("_" if c in '/\\:*?"<>|\0' else c for c in text).lstrip(".")[:100]
    return shorten(safe) or "_"


def file_names(texts: Sequence[str], reserved: Collection[str] = (LABEL_MAP,)) -> list[str]:
    """Return file names for the classes, unique regardless of case and none of the reserved."""
    names: list[str] = []
    taken = {*reserved}
    for text in texts:
        name = stem = safe_name(text)
        number = 2
        while name.lower() in taken:
            name, number = f"{stem} {number}", number + 1
        taken.add(name.lower())
        names.append(name)
    return names
