"""Runs as a zip archive: masks, maps, scores, a figure, and the command to reproduce it."""

from __future__ import annotations

import csv
import json
import shlex
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image

from ...errors import PromptError
from ...evaluation.map_scores import MapScore, score_maps
from ...evaluation.metric_table import shown_in_compare
from ...evaluation.truth import Truth
from ...export import IMAGE, file_names, merge_coco, write_prediction, write_results
from ...marks import marks_of, prompt_json
from ...types import Prediction, parse_classes
from ...writing import write_json
from .figure import write_figure
from .session import ComparisonRun
from .views.display_settings import DisplaySettings

OUTPUT_FOLDER = "again"
"""Output folder of the command line in an archive."""


def write_zip(
    path: Path,
    run: ComparisonRun,
    display: DisplaySettings,
    truth: Truth | None = None,
    maps: Mapping[str, Mapping[str, MapScore]] | None = None,
) -> Path:
    """Write a run as a zip archive, see :func:`write_files`.

    Returns:
        ``path``.

    Raises:
        PromptError: a class name cannot be passed on the command line.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, TemporaryDirectory() as kept:
        write_files(Path(kept), run, display, truth, maps)
        _add(archive, Path(kept))
    return path


def write_zip_of_all(
    path: Path,
    runs: Iterable[tuple[str, ComparisonRun, Truth | None]],
    display: DisplaySettings,
) -> Path:
    """Write the runs on several images as a zip archive.

    A folder per image, see :func:`write_files`, named like its file; and for each method
    ``coco/<method>.json``, its masks in all images, see :func:`clipsam.export.merge_coco`. There
    the file name of an image is the path of its ``image.png`` in the archive.

    Args:
        path: of the archive.
        runs: file name, run with at least one result, and ground truth of each image.
        display: see :func:`write_files`.

    Returns:
        ``path``.

    Raises:
        PromptError: as :func:`write_zip`.
        ImageError: an image is no longer stored.
    """
    runs = list(runs)
    names = file_names([Path(name).stem for name, _, _ in runs], reserved=("coco",))
    coco: dict[str, list[tuple[str, dict]]] = {}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (_, run, truth) in zip(names, runs, strict=True):
            with TemporaryDirectory() as kept:
                room = Path(kept) / name
                room.mkdir()
                write_files(room, run, display, truth)
                for method in folder_names(run.predictions).values():
                    masks = json.loads((room / method / "annotations.json").read_text("utf-8"))
                    coco.setdefault(method, []).append((f"{name}/{IMAGE}", masks))
                _add(archive, Path(kept))
        with TemporaryDirectory() as kept:
            (Path(kept) / "coco").mkdir()
            for method, parts in coco.items():
                write_json(Path(kept) / "coco" / f"{method}.json", merge_coco(parts))
            _add(archive, Path(kept))
    return path


def write_files(
    room: Path,
    run: ComparisonRun,
    display: DisplaySettings,
    truth: Truth | None = None,
    maps: Mapping[str, Mapping[str, MapScore]] | None = None,
) -> None:
    """Write a run as the files of the command line, with scores and a figure.

    A folder per method (:func:`write_prediction`), ``image.png``, ``results.json``,
    ``prompt.json``, ``scores.csv``, ``figure.png``, ``figure.pdf``, and ``reproduce.txt`` with the
    command line that reproduces the masks.

    Args:
        room: the folder, empty.
        run: a run with at least one result.
        display: threshold, overlap, and the class whose similarity maps the figure shows.
        truth: the ground truth.
        maps: threshold-independent scores by key, if already computed.

    Raises:
        PromptError: a class name cannot be passed on the command line.
    """
    predictions, image = run.predictions, run.encoded.image
    folders = folder_names(predictions)
    words = command(run, display)
    Image.fromarray(image).save(room / IMAGE)
    entries = {
        key: write_prediction(one, room / folders[key], display.threshold, truth, display.overlap)
        for key, one in predictions.items()
    }
    write_results(room, IMAGE, run.prompt, list(entries.values()))
    request = {
        "preset": run.preset,
        "methods": [{"id": one.method, "mode": one.mode} for one in predictions.values()],
        "classes": prompt_json(run.prompt),
        "threshold": display.threshold,
        "overlap": display.overlap,
        "seed": run.seed,
        "settings": run.options.overrides,
    }
    (room / "prompt.json").write_text(
        json.dumps(request, indent=2, ensure_ascii=False), encoding="utf-8"
    )
    scored = {
        key: (maps or {}).get(key) or ({} if truth is None else score_maps(prediction, truth))
        for key, prediction in predictions.items()
    }
    with (room / "scores.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, score_columns())
        table.writeheader()
        for key, entry in entries.items():
            known = run.parameters.get(key, {})
            table.writerows(_scores(entry, run.titles[key], scored[key], known))
    write_figure(room, run, display, truth)
    (room / "reproduce.txt").write_text(_reproduction(words), encoding="utf-8")


def _add(archive: zipfile.ZipFile, room: Path) -> None:
    """Add all files of a folder to an archive."""
    for source in sorted(room.rglob("*")):
        if source.is_file():
            # A fixed date: the same files make the same archive.
            info = zipfile.ZipInfo(source.relative_to(room).as_posix())
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, source.read_bytes())


def score_columns() -> list[str]:
    """Return the columns of ``scores.csv``; unknown values are empty cells."""
    return [
        *("method", "mode", "title", "class", *shown_in_compare("mask"), *shown_in_compare("map")),
        *("presence", "area_fraction", "seconds", "peak_memory_mb"),
        *("parameters", "trained_parameters"),
    ]


def _scores(
    entry: dict, title: str, maps: Mapping[str, MapScore], parameters: Mapping[str, int]
) -> Iterator[dict]:
    """Yield the rows of ``scores.csv``, one per class of a method."""
    for one in entry["classes"]:
        yield {
            "method": entry["id"],
            "mode": entry["mode"],
            "title": title,
            "class": one["text"],
            **{name: one.get(name) for name in shown_in_compare("mask")},
            **maps.get(one["text"], {}),
            "presence": one["presence"],
            "area_fraction": one["area_fraction"],
            "seconds": entry["seconds"],
            "peak_memory_mb": entry["peak_memory_mb"],
            "parameters": parameters.get("total"),
            "trained_parameters": parameters.get("trainable"),
        }


def folder_names(predictions: Mapping[str, Prediction]) -> dict[str, str]:
    """Return a folder name for each key, as on the command line: id, and mode if needed."""
    ids = [one.method for one in predictions.values()]
    return {
        key: one.method if ids.count(one.method) == 1 else f"{one.method}-{one.mode}"
        for key, one in predictions.items()
    }


def command(run: ComparisonRun, display: DisplaySettings) -> list[str]:
    """Return the arguments of ``python -m clipsam`` that reproduce the masks from :data:`IMAGE`.

    Raises:
        PromptError: a class name contains a comma or a semicolon.
    """
    predictions, concepts = run.predictions, run.prompt.concepts
    text = ", ".join("; ".join(concept.synonyms) for concept in concepts)
    if parse_classes(text) != tuple(concept.synonyms for concept in concepts):
        raise PromptError(
            "Class names with a comma or a semicolon cannot be passed on the command line, so this "
            "run cannot be archived. Rename the class."
        )
    # With "=", for a name may begin with a dash.
    words = ["segment", IMAGE, f"--text={text}"]
    folders = folder_names(predictions)
    for key, prediction in predictions.items():
        # Several modes at once are what a method chooses when it is given none.
        mixed = " + " in prediction.mode
        words.append(f"--method={prediction.method}{'' if mixed else ':' + prediction.mode}")
        for name, result in zip(prediction.texts, prediction.results, strict=True):
            if result.candidate is not None:
                words.append(f"--candidate={folders[key]}:{name}:{result.candidate + 1}")
    for concept in concepts:
        words += [f"--{mark.kind}={mark.to_text()}" for mark in marks_of(concept)]
    settings = {"seed": run.seed, **run.options.overrides}
    words += [f"--preset={run.preset}", f"--threshold={display.threshold!r}"]
    words += [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    return [*words, f"--overlap={display.overlap}", f"--out={OUTPUT_FOLDER}"]


def _reproduction(words: Sequence[str]) -> str:
    """Return the content of ``reproduce.txt``."""
    return (
        "# Unpack the archive, change to its folder, add the project's folder to PYTHONPATH, and "
        "run:\n\n"
        f"python -m clipsam {shlex.join(words)}\n\n"
        f"# The folder {OUTPUT_FOLDER!r} then holds identical masks, provided that weights,\n"
        f"# library versions and device type are the same. Written with torch {torch.__version__} "
        f"on {'a GPU' if torch.cuda.is_available() else 'a CPU'}.\n"
    )
