"""The tiny bundle's card: what it is, how it was made, and figures measured on held-back images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..data.readers import CocoPanopticData, FolderData
from ..data.samples import SegmentationData
from ..data.splits import some_images
from ..data.synthetic import SceneData
from ..evaluation.metrics import SampleScore, class_wise_miou, mean_image_iou
from ..evaluation.runner import MethodRun, evaluate
from ..methods.base import TrainablePredictor
from ..registry import count_parameters, find_method, methods
from ..weights.backbones import load_backbones
from ..weights.presets import TINY

SEEDS = (0, 1, 2)
RUNS = {
    "SAM, 1 click": MethodRun("sam", "manual", 1),
    "SAM, 5 clicks": MethodRun("sam", "manual", 5),
    "SAM, decoder tuned, 5 clicks": MethodRun("sam-decoder", "manual", 5),
    "SU-SAM, parallel, 5 clicks": MethodRun("sam-parallel", "manual", 5),
    "SU-SAM, series, 5 clicks": MethodRun("sam-series", "manual", 5),
    "SU-SAM, mix, 5 clicks": MethodRun("sam-mix", "manual", 5),
    "SU-SAM, LoRA, 5 clicks": MethodRun("sam-lora", "manual", 5),
    "SAM-PTx, 5 clicks": MethodRun("sam-ptx", "manual", 5),
    "CLIP-Guided SAM, manual, 1 click": MethodRun("clip-guided-sam", "manual", 1),
    "CLIP-Guided SAM, manual, 5 clicks": MethodRun("clip-guided-sam", "manual", 5),
    "CLIP Surgery + SAM, vanilla": MethodRun("clip-surgery-sam", "vanilla"),
    "CLIP Surgery + SAM, dense prompt": MethodRun("clip-surgery-sam", "dense-prompt"),
    "CLIP Surgery + SAM, decoder tuned": MethodRun("clip-surgery-sam-decoder", "semi-automatic"),
    "CLIP Surgery + SAM, adapters tuned": MethodRun("clip-surgery-sam-adapters", "semi-automatic"),
    "CLIP-Guided SAM, semi-automatic": MethodRun("clip-guided-sam", "semi-automatic"),
    "CAT-Seg (ESC-Net without SAM)": MethodRun("cat-seg", "whole-image"),
    "ESC-Net": MethodRun("esc-net", "whole-image"),
    "ESC-Net, sliding windows": MethodRun("esc-net", "sliding-window"),
}
SETS = {
    "scenes, seen pairs": "100 procedural scenes, pairs of surface and shape seen in training",
    "scenes, unseen pairs": "100 procedural scenes, pairs never seen in training",
    "camouflage": "60 camouflage scenes, seen pairs",
    "COCO-100 val": "100 photographs, 133 classes",
    "CamVid val": "60 of 101 street photographs, chosen by chance, 11 classes",
    "CCP val": "60 of 120 clothing photographs, chosen by chance, 58 classes",
}
TITLES = {
    "miou": "Class-wise mIoU (pooled over the set), %",
    "mean_iou": "Mean IoU per image and class, %",
    "mae": "Mean absolute error, ×100",
}
"""Of the card's tables, by figure."""
FIGURES = "figures"
EVALUATION_SEED = 1_000_003
"""Far from every training seed: the scenes of the card were never trained on."""


def tuned_methods() -> list[str]:
    """Ids of all methods that have weights of their own."""
    return [id for id, cls in methods().items() if issubclass(cls, TrainablePredictor)]


def held_back(name: str, photographs: Path | None) -> SegmentationData | None:
    """One of :data:`SETS`; ``None`` if its photographs are not here."""
    seed = EVALUATION_SEED
    scenes = {
        "scenes, seen pairs": SceneData(100, seed),
        "scenes, unseen pairs": SceneData(100, seed, pairs="unseen"),
        "camouflage": SceneData(60, seed, mode="camouflage"),
    }
    if name in scenes:
        return scenes[name]
    if photographs is None:
        return None
    if name == "COCO-100 val":
        return CocoPanopticData(photographs / "coco100", "val2017")
    data = FolderData(photographs / name.split()[0].lower() / "val")
    return some_images(data, 60)


def measure(name: str, photographs: Path | None, bundle: Path, work: Path) -> None:
    """Evaluate the runs on one set and keep the figures as JSON in ``work/figures``.

    Runs that have figures there are not repeated.

    Args:
        name: of the set.
        photographs: see :class:`TinyTraining`.
        bundle: the tiny bundle.
        work: where to.
    """
    data = held_back(name, photographs)
    file = work / FIGURES / f"{name}.json"
    figures = json.loads(file.read_text()) if file.is_file() else {}
    missing = {label: run for label, run in RUNS.items() if label not in figures}
    if data is None or not missing:
        return
    backbones = load_backbones(TINY, folder=bundle)
    predictors = {
        method: find_method(method).load(backbones, bundle / method)
        for method in {run.method for run in missing.values()}
    }
    # Where classes compete nothing is drawn by chance.
    seeds = {run: SEEDS[:1] if predictors[run.method].joint else SEEDS for run in missing.values()}
    groups = set(seeds.values())
    scores = {}
    with tqdm(total=len(groups) * len(data), desc=name, mininterval=10) as bar:
        for drawn in groups:
            runs = [run for run in missing.values() if seeds[run] == drawn]
            scores |= evaluate(data, predictors, runs, drawn, lambda *_: bar.update())
    for label, run in missing.items():
        figures[label] = [summarize(scores[run, seed]) for seed in seeds[run]]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({label: figures[label] for label in RUNS}, indent=2))


def summarize(scores: Sequence[SampleScore]) -> dict[str, float]:
    """The card's figures of one run and seed."""
    return {
        "miou": class_wise_miou(scores),
        "mean_iou": mean_image_iou(scores),
        "mae": float(np.mean([score.values["mae"] for score in scores])),
        "samples": len(scores),
    }


def write_card(bundle: Path, work: Path) -> None:
    """Write ``README.md`` of the bundle from its configs and the measured figures."""
    files = {name: work / FIGURES / f"{name}.json" for name in SETS}
    figures = {name: json.loads(f.read_text()) for name, f in files.items() if f.is_file()}
    configs = {
        part: json.loads((bundle / part / "config.json").read_text())
        for part in ("clip", "sam", *tuned_methods())
    }
    sections = [
        _introduction(),
        _parts(bundle, configs),
        _recipe(configs),
        _figures(figures),
        _comparisons(figures),
        _limits(),
    ]
    (bundle / "README.md").write_text("\n\n".join(sections) + "\n")


def read_figures(card: str) -> dict[str, dict[str, str]]:
    """Class-wise mIoU in %, as a card written by :func:`write_card` says it.

    Args:
        card: its text.

    Returns:
        By label of :data:`RUNS`, then by name of the set; empty if the card has no such table.
    """
    table = card.partition(f"### {TITLES['miou']}\n\n")[2].partition("\n\n")[0]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    if len(cells) < 3:
        return {}
    (_, *sets), _, *rows = cells
    return {label: dict(zip(sets, values, strict=True)) for label, *values in rows}


def _introduction() -> str:
    return """# The tiny bundle

Demonstration models, trained by this project's own code, so that every method works offline in
seconds. They are not the papers' models: a few million parameters, about a thousand photographs.
This card is written by `python -m clipsam train-tiny`; every figure in it was measured by that
command."""


def _parts(bundle: Path, configs: Mapping[str, dict]) -> str:
    backbones = load_backbones(TINY, folder=bundle)
    rows = []
    for part in configs:
        if part == "clip":
            what = "CLIP-tiny: 256 px, 16 × 16 patches, read with CLIP Surgery; its own vocabulary"
            count = sum(p.numel() for p in backbones.clip.parameters())
        elif part == "sam":
            what = "SAM-tiny: 256 px, 16 × 16 tokens, SAM's full-width prompt encoder and decoder"
            count = sum(p.numel() for p in backbones.sam.parameters())
        else:
            method = find_method(part)
            what = f"{method.info.name}: what it tunes, for {' and '.join(method.info.modes)} use"
            count = count_parameters(method.untrained(backbones))["trainable"]
        size = (bundle / part / "model.safetensors").stat().st_size / 1e6
        rows.append(f"| `{part}/` | {what} | {count / 1e6:.2f} M | {size:.1f} MB |")
    return f"""## Parts

| folder | what | parameters | size |
|---|---|---|---|
{chr(10).join(rows)}

CLIP and SAM are stored in half precision. Of a method, matrices that were tuned from theirs are
stored as differences in 4 bits, what ESC-Net adds in 8 (`clipsam/weights/quantize.py`); the figures
below are those of the bundles as stored."""


def _recipe(configs: Mapping[str, dict]) -> str:
    rows = []
    for part, config in configs.items():
        training = config["training"]
        loop = training.get("loop", training.get("recipe", {}))
        rows.append(
            f"| {part} | {training.get('steps', loop.get('steps'))} | {loop['batch_size']} | "
            f"{training.get('seed', loop.get('seed'))} | {training['minutes']} | "
            f"{training['hardware']}, torch {training['torch']} |"
        )
    history = [c["training"]["history"] for c in configs.values() if "history" in c["training"]]
    few, many = (configs[part]["training"]["split"] for part in ("clip-guided-sam", "esc-net"))
    return f"""## How they were made

`python -m clipsam train-tiny --photographs DIR` (resumable; stages one after the other).

| stage | steps | images per step | seed | minutes | hardware |
|---|---|---|---|---|---|
{chr(10).join(rows)}

Minutes are wall-clock, on a machine that did other work meanwhile. Data: procedural scenes of
seen pairs (any number), and the train parts of CamVid (367), CCP (480) and COCO-100 (100). CLIP and
SAM saw all of them. The methods that tune SAM saw a low-data split:
{few}.
They were trained alike, for all of their modes at once, with two classes of every image. ESC-Net
and CAT-Seg have a head that starts from nothing, and saw more:
{many}.
Of every image they were asked eight classes, present and absent, and their loss was BCE + Dice (BCE
alone in the papers). No val photograph and no unseen pair was trained on. Recipes:
`clipsam/training/`.
{"".join(history)}"""


def _figures(figures: Mapping[str, dict]) -> str:
    introduction = (
        "## Figures\n\nMean ± standard deviation over 3 seeds of the sampled points (CAT-Seg and "
        "ESC-Net draw none), at the images' own resolution, logits above 0. Only classes present "
        "in an image are asked (the papers' presence oracle). Clicks are drawn from the truth; "
        "rows without clicks have the class name alone."
    )
    sets = [f"- **{name}**: {text}" for name, text in SETS.items() if name in figures]
    tables = []
    for key, title in TITLES.items():
        head = f"### {title}\n\n| | {' | '.join(figures)} |\n|---{'|---' * len(figures)}|\n"
        rows = [
            f"| {label} | " + " | ".join(_cell(figures[n][label], key) for n in figures) + " |"
            for label in next(iter(figures.values()))
        ]
        tables.append(head + "\n".join(rows))
    return "\n\n".join([introduction, "\n".join(sets), *tables])


def _cell(seeds: Sequence[Mapping[str, float]], key: str) -> str:
    values = [100 * seed[key] for seed in seeds]
    return f"{np.mean(values):.1f}" + (f" ± {np.std(values):.1f}" if len(values) > 1 else "")


def _comparisons(figures: Mapping[str, dict]) -> str:
    """Margins between methods, seed by seed."""
    semi = "CLIP-Guided SAM, semi-automatic"
    pairs = [
        (semi, "CLIP Surgery + SAM, vanilla"),
        (semi, "CLIP Surgery + SAM, dense prompt"),
        (semi, "CLIP Surgery + SAM, adapters tuned"),
        ("CLIP-Guided SAM, manual, 5 clicks", semi),
        ("CLIP-Guided SAM, manual, 5 clicks", "SAM, 5 clicks"),
        ("CLIP-Guided SAM, manual, 5 clicks", "SAM-PTx, 5 clicks"),
        ("SAM-PTx, 5 clicks", "SU-SAM, parallel, 5 clicks"),
        ("ESC-Net", "CAT-Seg (ESC-Net without SAM)"),
        ("ESC-Net", semi),
    ]
    rows = []
    for better, worse in pairs:
        cells = []
        for name in figures:
            high, low = (
                np.array([100 * seed["miou"] for seed in figures[name][label]])
                for label in (better, worse)
            )
            margins = high - low  # a run without chance stands against every seed of another
            spread = f" ± {margins.std():.1f}" if len(margins) > 1 else ""
            cells.append(f"{margins.mean():+.1f}{spread}")
        rows.append(f"| {better} − {worse} | {' | '.join(cells)} |")
    return (
        "## Margins, class-wise mIoU in points\n\n"
        f"| | {' | '.join(figures)} |\n|---{'|---' * len(figures)}|\n" + "\n".join(rows)
    )


def _limits() -> str:
    return """## What it cannot do

It knows the words of its training: 8 surfaces, 8 shapes, and the class names of CamVid, CCP and
COCO. Other words give a map, but not a meaningful one. A hundred photographs do not teach 133
classes: on COCO-100 and CCP the figures above say how little it knows. Masks are 64 × 64 before
they are enlarged, so thin things are lost."""
