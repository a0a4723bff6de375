"""The tiny bundle's card: what it is, how it was made, and figures measured on held-back images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

import baselines as _baselines  # noqa: F401 (registers its pipelines)

from ..data.readers import CocoPanopticData, FolderData
from ..data.samples import SegmentationData
from ..data.scenes import SceneData
from ..evaluation.metrics import class_wise_miou, mean_image_iou
from ..evaluation.runner import Run, SampleScore, evaluate
from ..methods.clip_guided_sam import ClipGuidedSamPredictor
from ..predictor import count_parameters, find_method
from ..weights.backbones import load_backbones
from ..weights.presets import TINY

SEEDS = (0, 1, 2)
REFERENCE = "clip-guided-sam-reference"
"""CLIP-Guided SAM with the authors' block, trained alike, for comparison; not in the bundle."""

RUNS = {
    "SAM, 1 click": Run("sam", "manual", 1),
    "SAM, 5 clicks": Run("sam", "manual", 5),
    "CLIP Surgery + SAM, vanilla": Run("clip-surgery-sam", "vanilla"),
    "CLIP Surgery + SAM, dense prompt": Run("clip-surgery-sam", "dense-prompt"),
    "CLIP-Guided SAM, semi-automatic": Run("clip-guided-sam", "semi-automatic"),
    "CLIP-Guided SAM, manual, 1 click": Run("clip-guided-sam", "manual", 1),
    "CLIP-Guided SAM, manual, 5 clicks": Run("clip-guided-sam", "manual", 5),
    "– reference block, semi-automatic": Run(REFERENCE, "semi-automatic"),
    "– reference block, manual, 5 clicks": Run(REFERENCE, "manual", 5),
}
SETS = {
    "scenes, seen pairs": "200 procedural scenes, pairs of surface and shape seen in training",
    "scenes, unseen pairs": "200 procedural scenes, pairs never seen in training",
    "camouflage": "100 camouflage scenes, seen pairs",
    "COCO-100 val": "100 photographs, 133 classes",
    "CamVid val": "101 street photographs, 11 classes",
    "CCP val": "120 clothing photographs, 58 classes",
}
FIGURES = "figures"
EVALUATION_SEED = 1_000_003
"""Far from every training seed: the scenes of the card were never trained on."""


def held_back(name: str, photographs: Path | None) -> SegmentationData | None:
    """One of :data:`SETS`; ``None`` if its photographs are not here."""
    seed = EVALUATION_SEED
    scenes = {
        "scenes, seen pairs": SceneData(200, seed),
        "scenes, unseen pairs": SceneData(200, seed, pairs="unseen"),
        "camouflage": SceneData(100, seed, mode="camouflage"),
    }
    if name in scenes:
        return scenes[name]
    if photographs is None:
        return None
    if name == "COCO-100 val":
        return CocoPanopticData(photographs / "coco100", "val2017")
    return FolderData(photographs / name.split()[0].lower() / "val")


def measure(name: str, photographs: Path | None, bundle: Path, work: Path) -> None:
    """Evaluate all runs on one set and keep the figures as JSON in ``work/figures``.

    Args:
        name: of the set.
        photographs: see :class:`TinyTraining`.
        bundle: the tiny bundle.
        work: also holds the bundle with the reference block, if it was trained.
    """
    data = held_back(name, photographs)
    if data is None:
        return
    backbones = load_backbones(TINY, folder=bundle)
    predictors = {
        method: find_method(method).load(backbones, bundle / method)
        for method in ("sam", "clip-surgery-sam", "clip-guided-sam")
    }
    if (work / REFERENCE).is_dir():
        predictors[REFERENCE] = ClipGuidedSamPredictor.load(backbones, work / REFERENCE)
    runs = {label: run for label, run in RUNS.items() if run.method in predictors}
    with tqdm(total=len(data), desc=name, mininterval=10) as bar:
        scores = evaluate(data, predictors, list(runs.values()), SEEDS, lambda *_: bar.update())
    figures = {
        label: [summarize(scores[run, seed]) for seed in SEEDS] for label, run in runs.items()
    }
    folder = work / FIGURES
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(figures, indent=2))


def summarize(scores: Sequence[SampleScore]) -> dict[str, float]:
    """The card's figures of one run and seed."""
    return {
        "miou": class_wise_miou(scores),
        "mean_iou": mean_image_iou(scores),
        "mae": float(np.mean([score.mae for score in scores])),
        "samples": len(scores),
    }


def write_card(bundle: Path, work: Path) -> None:
    """Write ``README.md`` of the bundle from its configs and the measured figures."""
    files = {name: work / FIGURES / f"{name}.json" for name in SETS}
    figures = {name: json.loads(f.read_text()) for name, f in files.items() if f.is_file()}
    configs = {
        part: json.loads((bundle / part / "config.json").read_text())
        for part in ("clip", "sam", "clip-guided-sam")
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


def _introduction() -> str:
    return """# The tiny bundle

Demonstration models, trained by this project's own code, so that every method works offline in
seconds. They are not the papers' models: a few million parameters, about a thousand photographs.
This card is written by `python -m clipsam train-tiny`; every figure in it was measured by that
command."""


def _parts(bundle: Path, configs: Mapping[str, dict]) -> str:
    backbones = load_backbones(TINY, folder=bundle)
    guided = count_parameters(ClipGuidedSamPredictor.untrained(backbones))
    counts = {
        "clip": sum(p.numel() for p in backbones.clip.parameters()),
        "sam": sum(p.numel() for p in backbones.sam.parameters()),
        "clip-guided-sam": guided["trainable"],
    }
    what = {
        "clip": "CLIP-tiny: 256 px, 16 × 16 patches, read with CLIP Surgery; its own vocabulary",
        "sam": "SAM-tiny: 256 px, 16 × 16 tokens, SAM's full-width prompt encoder and decoder",
        "clip-guided-sam": (
            "CLIP-Guided SAM, both modes: adapters, prompt encoder, decoder, CLIP's attention"
        ),
    }
    rows = [
        f"| `{part}/` | {what[part]} | {counts[part] / 1e6:.2f} M | "
        f"{(bundle / part / 'model.safetensors').stat().st_size / 1e6:.1f} MB |"
        for part in configs
    ]
    head = "| folder | what | parameters | size (half precision) |\n|---|---|---|---|\n"
    return "## Parts\n\n" + head + "\n".join(rows)


def _recipe(configs: Mapping[str, dict]) -> str:
    rows = []
    for part, config in configs.items():
        training, loop = config["training"], config["training"]["loop"]
        rows.append(
            f"| {part} | {loop['steps']} | {loop['batch_size']} | {training['seed']} | "
            f"{training['minutes']} | {training['hardware']}, torch {training['torch']} |"
        )
    history = [c["training"]["history"] for c in configs.values() if "history" in c["training"]]
    split = configs["clip-guided-sam"]["training"]["split"]
    labelled = ", ".join(f"{count} of {name}" for name, count in split.items())
    head = "| stage | steps | images per step | seed | minutes | hardware |\n"
    return f"""## How they were made

`python -m clipsam train-tiny --photographs DIR` (resumable; stages one after the other).

{head}|---|---|---|---|---|---|
{chr(10).join(rows)}

Minutes are wall-clock, on a machine that did other work meanwhile. Data: procedural scenes of
seen pairs (any number), and the train parts of CamVid (367), CCP (480) and COCO-100 (100). CLIP and
SAM saw all of them; CLIP-Guided SAM saw a low-data split: {labelled}.
No val photograph and no unseen pair was trained on. Losses and prompts: `clipsam/training/`.
{"".join(history)}"""


def _figures(figures: Mapping[str, dict]) -> str:
    titles = {
        "miou": "Class-wise mIoU (pooled over the set), %",
        "mean_iou": "Mean IoU per image and class, %",
        "mae": "Mean absolute error, ×100",
    }
    introduction = (
        "## Figures\n\nMean ± standard deviation over 3 seeds of the sampled points, at the "
        "images' own resolution, logits above 0. Only classes present in an image are asked (the "
        "papers' presence oracle). Clicks are drawn from the truth. “Reference block”: adapters "
        "joined to all blocks of SAM as in the authors' code, trained alike; the bundle's are "
        "joined to the last four so that SAM is preserved at the start."
    )
    sets = [f"- **{name}**: {text}" for name, text in SETS.items() if name in figures]
    tables = []
    for key, title in titles.items():
        head = f"### {title}\n\n| | {' | '.join(figures)} |\n|---{'|---' * len(figures)}|\n"
        rows = [
            f"| {label} | " + " | ".join(_cell(figures[n][label], key) for n in figures) + " |"
            for label in next(iter(figures.values()))
        ]
        tables.append(head + "\n".join(rows))
    return "\n\n".join([introduction, "\n".join(sets), *tables])


def _cell(seeds: Sequence[Mapping[str, float]], key: str) -> str:
    values = [100 * seed[key] for seed in seeds]
    return f"{np.mean(values):.1f} ± {np.std(values):.1f}"


def _comparisons(figures: Mapping[str, dict]) -> str:
    """Margins between methods, seed by seed."""
    semi = "CLIP-Guided SAM, semi-automatic"
    pairs = [
        (semi, "CLIP Surgery + SAM, vanilla"),
        (semi, "CLIP Surgery + SAM, dense prompt"),
        ("CLIP-Guided SAM, manual, 5 clicks", semi),
        ("CLIP-Guided SAM, manual, 5 clicks", "SAM, 5 clicks"),
    ]
    rows = []
    for better, worse in pairs:
        cells = []
        for name in figures:
            margins = [
                100 * (a["miou"] - b["miou"])
                for a, b in zip(figures[name][better], figures[name][worse], strict=True)
            ]
            cells.append(f"{np.mean(margins):+.1f} ± {np.std(margins):.1f}")
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
