"""From a labelled data set to a method's bundle: check, train, validate, save."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..data.checking import check_data
from ..data.readers import CachedData, SubsetData
from ..data.samples import SegmentationData
from ..data.splits import Split
from ..evaluation.metrics import class_wise_miou
from ..evaluation.runner import MethodRun, evaluate
from ..measure import hardware
from ..methods.base import TrainablePredictor
from ..types import PromptError
from ..weights.bundle import CONFIG, read_config, save_bundle
from ..writing import check_folder, write_json, write_text
from .curve import draw_curve
from .loop import Watch, start_accelerator, train
from .recipe import Recipe
from .stages import STAGES

logger = logging.getLogger(__name__)

WORK = "training"
"""Folder of an unfinished run within its bundle's folder."""

CACHE_BYTES = 2 * 2**30
"""Training images are kept in memory, reduced, if they take less."""


@dataclass(frozen=True)
class TrainingJob:
    """What is to be trained on what.

    Attributes:
        source: the data set, as it was named.
        data: its part to train on.
        split: the images of it that may be trained on.
        mode: the only mode to train for; ``None`` trains for all that the method has.
        recipe: how.
        start: what training starts from, in words.
        skip_bad: leave out images that cannot be used.
        seconds: see :class:`LoopConfig`; the process itself then loads the images, for one that
            serves a page must not be forked.
    """

    source: str
    data: SegmentationData
    split: Split
    recipe: Recipe
    start: str
    mode: str | None = None
    skip_bad: bool = False
    seconds: float | None = None


def train_method(
    predictor: TrainablePredictor,
    job: TrainingJob,
    out: Path,
    resume: bool = False,
    watch: Watch | None = None,
) -> dict[str, float]:
    """Train a method and write its bundle, with log, curve and card.

    The checkpoint is chosen on images that are held out of the training part: those outside the
    split, or a tenth of the split where there are none. No other part is ever looked at.

    Args:
        predictor: the method as it is before; its network is changed.
        job: data and recipe.
        out: the bundle's folder.
        resume: go on with an unfinished run in ``out``.
        watch: see :data:`Watch`.

    Returns:
        ``before`` and ``after``: class-wise mIoU on the held-out images (NaN without any).

    Raises:
        PromptError: ``out`` is taken, or holds another run.
        DataError: data that cannot be used.
    """
    recipe, preset = job.recipe, predictor.backbones.preset
    predictor.check_mode(job.mode)
    work = out / WORK
    accelerator = start_accelerator()
    if resume and (finished := _finished(out, predictor, job)) is not None:
        logger.info("%s holds the finished bundle of this run already.", out)
        return finished
    if accelerator.is_main_process:
        _claim(out, work, _identity(predictor, job), resume)
    accelerator.wait_for_everyone()
    chosen, held_out = hold_out(job)
    # Checked as it is trained on: a class may be too small to survive the reduction.
    data = _in_memory(job.data, len(chosen), preset.sam.image_size * 3 // 2)
    with tqdm(total=len(chosen), desc="checking images", mininterval=1) as bar:
        checked = check_data(data, chosen, job.skip_bad, lambda *_: bar.update())
    for sentence in checked.left_out:
        logger.warning("left out: %s", sentence)
    stage = STAGES[predictor.config_type].stage(predictor, data, recipe, job.mode)
    samples = stage.samples(checked.samples)

    def validate() -> float:
        if held_out is None:
            return math.nan
        return validation_score(predictor, held_out, stage.runs)

    before = float("nan")
    if held_out is not None and accelerator.is_main_process:
        before = _remembered(work / "before.json", validate)
    loop = recipe.loop(samples.epoch)
    if job.seconds is not None:
        loop = dataclasses.replace(loop, seconds=job.seconds, workers=0)
    result = train(stage, samples, loop, work, None if held_out is None else validate, watch)
    predictor.model.eval()
    stage.finish(SubsetData(job.data, sorted({image for image, _ in checked.samples})))
    training = {
        "data": job.source,
        "split": job.split.name,
        "images": len({image for image, _ in checked.samples}),
        "held_out_images": 0 if held_out is None else len(held_out),
        "mode": job.mode or " + ".join(predictor.info.modes),
        "start": job.start,
        "recipe": dataclasses.asdict(
            recipe if job.seconds is None else dataclasses.replace(recipe, steps=result.steps)
        ),
        "steps": result.steps,
        "kept_step": result.best_step,
        "validation_miou": {
            "before": None if np.isnan(before) else round(before, 4),
            "after": None if result.best_score is None else round(result.best_score, 4),
        },
        "minutes": round(result.seconds / 60, 1),
        "hardware": hardware(predictor.backbones.device),
        "torch": torch.__version__,
    }
    if accelerator.is_main_process:
        # The bundle comes last, and all that it is made of stays until then: a run that ends in
        # between writes the same again.
        log = (work / f"{stage.name}.jsonl").read_text(encoding="utf-8")
        write_text(out / "log.jsonl", log)
        draw_curve(out / "log.jsonl", out / "curve.png", f"{predictor.info.name} on {job.source}")
        write_text(out / "README.md", _card(predictor, training))
        save_bundle(out, predictor.bundle_config(training), predictor.model.trainable_state())
        shutil.rmtree(work)
    after = float("nan") if result.best_score is None else result.best_score
    return {"before": before, "after": after}


def validation_score(
    predictor: TrainablePredictor, data: SegmentationData, runs: Sequence[MethodRun]
) -> float:
    """Class-wise mIoU with one seed, the mean over the runs."""
    scores = evaluate(data, {"it": predictor}, runs, (0,))
    return float(np.mean([class_wise_miou(scores[run, 0]) for run in runs]))


def _identity(predictor: TrainablePredictor, job: TrainingJob) -> dict:
    """Return the settings that identify a run."""
    return json.loads(
        json.dumps(
            {
                "method": predictor.info.id,
                "preset": predictor.backbones.preset.name,
                "network": dataclasses.asdict(predictor.config),
                "data": job.source,
                "split": job.split.name,
                "mode": job.mode,
                "start": job.start,
                "recipe": dataclasses.asdict(job.recipe),
            }
        )
    )


def _finished(
    out: Path, predictor: TrainablePredictor, job: TrainingJob
) -> dict[str, float] | None:
    """Return the scores of a finished run if ``out`` holds it; it may have ended at its very end.

    Raises:
        WeightsError: it holds a damaged bundle.
    """
    if not (out / CONFIG).is_file():
        return None
    content, wanted = read_config(out), _identity(predictor, job)
    training = content.get("training") or {}
    found = {
        **{name: content.get(name) for name in ("method", "preset", "network")},
        **{name: training.get(name) for name in ("data", "split", "start", "recipe")},
    }
    if any(found[name] != wanted[name] for name in found):
        return None
    shutil.rmtree(out / WORK, ignore_errors=True)
    scores = training["validation_miou"]
    return {name: math.nan if value is None else value for name, value in scores.items()}


def _claim(out: Path, work: Path, identity: dict, resume: bool) -> None:
    """Make sure that ``out`` is free, or holds this very run, unfinished."""
    check_folder(out)
    note = work / "run.json"
    if (out / CONFIG).is_file():
        shutil.rmtree(work, ignore_errors=True)  # Left by a run that ended right at its end.
        raise PromptError(f"{out} holds a finished bundle: choose another --out.")
    if any(work.glob("*.pt")):
        if not resume:
            raise PromptError(
                f"{out} holds an unfinished run: go on with --resume, or choose another --out."
            )
        earlier = json.loads(note.read_text(encoding="utf-8"))
        differing = [key for key in identity if earlier.get(key) != identity[key]]
        if differing:
            raise PromptError(
                f"{out} holds an unfinished run with another {differing[0]}: choose another --out."
            )
        return
    if work.is_dir():  # of a run that ended before its first checkpoint
        shutil.rmtree(work)
    work.mkdir(parents=True)
    write_json(note, identity)


def hold_out(job: TrainingJob) -> tuple[list[int], SegmentationData | None]:
    """Return images to train on, and the data to choose the checkpoint with, if there is any."""
    chosen, wanted = list(job.split.indices), job.recipe.validation_images
    if not wanted:
        return chosen, None
    rng = np.random.default_rng(job.recipe.seed)
    rest = sorted(set(range(len(job.data))) - set(chosen))
    if rest:
        kept = rng.permutation(rest)[:wanted]
    else:
        kept = rng.permutation(chosen)[: min(wanted, len(chosen) // 10)]
        chosen = sorted(set(chosen) - set(kept.tolist()))
    if not len(kept):
        return chosen, None
    usable = check_data(job.data, kept.tolist(), job.skip_bad)
    return chosen, SubsetData(job.data, sorted({image for image, _ in usable.samples}))


def _in_memory(data: SegmentationData, images: int, side: int) -> SegmentationData:
    """Cache the training images of the data set in memory, if they fit."""
    bytes_per_pixel = 3 + 2 + 4
    fits = images * side * side * bytes_per_pixel < CACHE_BYTES
    return CachedData(data, side) if fits else data


def _remembered(file: Path, compute: Callable[[], float]) -> float:
    """Compute a value once per run, even if the run is interrupted."""
    if not file.is_file():
        write_json(file, compute())
    return json.loads(file.read_text(encoding="utf-8"))


def _card(predictor: TrainablePredictor, training: dict) -> str:
    """Format the model card of a bundle."""
    info, scores = predictor.info, training["validation_miou"]

    def percent(value: float | None) -> str:
        return "not measured" if value is None else f"{100 * value:.1f} %"

    flatters = (
        "\n  (these images chose the checkpoint, so the figure flatters)"
        if training["recipe"]["validations"] > 1
        else ""
    )
    recipe = "\n".join(f"| {name} | {value} |" for name, value in training["recipe"].items())
    network = json.dumps(dataclasses.asdict(predictor.config), indent=2)
    return f"""# {info.name} for the preset {predictor.backbones.preset.name}

{info.summary} Source: {info.paper}. Trained with the CLIP-SAM Workbench.

- Data: {training["data"]}, split {training["split"]}, {training["images"]} images trained on.
- Mode: {training["mode"]}. Start: {training["start"]}.
- {training["steps"]} steps in {training["minutes"]} minutes on {training["hardware"]}, torch
  {training["torch"]}; the weights after step {training["kept_step"]} were kept.
- Class-wise mIoU on {training["held_out_images"]} held-out training images, classes present
  asked{flatters}: before {percent(scores["before"])}, after {percent(scores["after"])}.

![Loss and IoU](curve.png)

Use it: `python -m clipsam segment IMAGE --text "…" --method {info.id}@FOLDER --out DIR`.

## Recipe

| field | value |
|---|---|
{recipe}

## Network

```json
{network}
```
"""
