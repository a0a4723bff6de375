"""Execution of the trials: each in a single-threaded process, each once, resumable."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import torch
from tqdm import tqdm

from clipsam.data.readers import CachedData, ConcatData, open_data
from clipsam.data.samples import SegmentationData
from clipsam.data.splits import Split, some_images
from clipsam.evaluation.metrics import class_wise_miou
from clipsam.evaluation.runner import evaluate
from clipsam.methods.base import TrainablePredictor
from clipsam.registry import find_method, load_predictor
from clipsam.training.recipe import apply_settings
from clipsam.training.train_method import TrainingJob, train_method
from clipsam.weights.backbones import load_backbones
from clipsam.weights.presets import TINY

from .trials import SEEDS, Setup, Trial, all_trials

SIDE = 384
"""Long side to which photographs are reduced, pixels."""


def run_all(photographs: Path, work: Path, jobs: int) -> None:
    """Run every trial with every seed that has no result in ``work`` yet."""
    open_part(photographs, "scenes", "val", None)  # a missing folder is told here, not in a process
    wanted = [(t, s) for s in SEEDS for t in all_trials() if not result_file(work, t, s).is_file()]
    with (
        ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (1,)) as pool,
        tqdm(total=len(wanted), desc="trials") as bar,
    ):
        futures = [pool.submit(run_trial, t, s, photographs, work) for t, s in wanted]
        for future in as_completed(futures):
            future.result()
            bar.update()


def result_file(work: Path, trial: Trial, seed: int) -> Path:
    """Return the path of a trial's figures."""
    return work / f"{trial.name}, seed {seed}.json"


def run_trial(trial: Trial, seed: int, photographs: Path, work: Path) -> None:
    """Train if needed, evaluate on every set, and write the figures."""
    began = time.monotonic()
    backbones = load_backbones(TINY)
    method = find_method(trial.method)
    if issubclass(method, TrainablePredictor):
        recipe = dataclasses.replace(trial.setup.recipe, seed=seed)
        recipe, network = apply_settings(recipe, method.design(TINY), trial.settings)
        torch.manual_seed(seed)
        predictor = method.untrained(backbones, network)
        data = training_data(photographs, trial.setup, trial.labels, seed)
        split = Split(f"{len(data)} images, seed {seed}", tuple(range(len(data))))
        job = TrainingJob("benchmark", data, split, recipe, "plain", trial.trained_for)
        out = work / f"{trial.name}, seed {seed}"
        train_method(predictor, job, out, resume=True)
        shutil.rmtree(out)
    else:
        predictor = load_predictor(trial.method, backbones)
    figures: dict[str, dict[str, dict[str, float]]] = {mode: {} for mode in trial.modes}
    setup = trial.setup
    for name, count in setup.measured.items():
        data = measured_data(photographs, name, count)
        scores = evaluate(
            data, {"it": predictor}, trial.runs, (seed,), all_classes=setup.all_classes
        )
        for run in trial.runs:
            of_run = scores[run, seed]
            figures[run.mode][name] = {
                "miou": class_wise_miou(of_run),
                "mae": sum(score.values["mae"] for score in of_run) / len(of_run),
            }
    content = {"figures": figures, "seconds": time.monotonic() - began}
    partial = result_file(work, trial, seed).with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2))
    partial.replace(result_file(work, trial, seed))


@functools.lru_cache(maxsize=2)
def training_data(photographs: Path, setup: Setup, labels: float, seed: int) -> SegmentationData:
    """Return the training images of a seed, cached in memory for later trials."""
    parts = {
        name: open_part(photographs, name, "train", round(labels * count), seed)
        for name, count in setup.labelled.items()
    }
    return CachedData(ConcatData(parts), SIDE)


@functools.lru_cache
def measured_data(photographs: Path, name: str, count: int) -> SegmentationData:
    """Open the held-out images of one set."""
    return CachedData(open_part(photographs, name, "val", count), SIDE)


def open_part(
    photographs: Path, name: str, part: str, count: int | None, seed: int = 0
) -> SegmentationData:
    """Open up to ``count`` random images of a part of one of the sets."""
    specs = {
        "scenes": "scenes:1024",
        "seen pairs": "scenes:256",
        "unseen pairs": "scenes:256-unseen",
        "camouflage": "scenes:256-camouflage",
        "coco100": f"coco-panoptic:{photographs / 'coco100'}",
    }
    data = open_data(specs.get(name, f"folder:{photographs / name}"), part)
    if count is None or count >= len(data):
        return data
    return some_images(data, count, seed)
