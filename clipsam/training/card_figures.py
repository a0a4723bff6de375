"""What the bundled models' card states, measured on held-back images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..data.readers import CocoPanopticData, FolderData, NamedData
from ..data.readers.common import read_json
from ..data.samples import LabelledImage, SegmentationData
from ..data.splits import some_images
from ..data.synthetic import SceneData
from ..evaluation.metrics import SampleScore, class_wise_miou, mean_image_iou
from ..evaluation.runner import MethodRun, evaluate
from ..registry import METHODS, find_method
from ..weights.backbones import load_backbones
from ..weights.presets import HYBRID
from ..writing import write_json
from .map_figures import map_auc, name_accuracy, synonyms_found
from .tiny_data import COCO

PRESET = HYBRID
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
SCENE_SETS = {
    "scenes, seen pairs": "100 procedural scenes, pairs of surface and shape seen in training",
    "scenes, unseen pairs": "100 procedural scenes, pairs never seen in training",
    "camouflage": "60 camouflage scenes, seen pairs",
}
PHOTOGRAPHS = {
    "wild animals val": ("wildanimals", "60 of 235 photographs, 7 classes"),
    "horses val": ("weizmannhorse", "60 of 64 photographs, horse"),
    "cats val": ("feralcat", "60 of 220 photographs, cat"),
    "persons val": ("graz_person", "24 street photographs, person"),
    "DAVIS val": ("davis2016val", "47 frames of videos not trained on, 14 classes"),
    "CamVid val": ("camvid", "60 of 101 street photographs, 11 classes"),
    "facades val": ("labelmefacade", "60 of 144 street photographs, 8 classes"),
    "CCP val": ("ccp", "60 of 120 clothing photographs, 58 classes"),
    "COCO-100 val": ("coco100", "60 of 100 photographs, 133 classes"),
}
"""Of the card's sets of photographs: folder, and what it holds. Subsets are chosen by chance."""
MOST_IMAGES = 60
SETS = {**SCENE_SETS, **{name: text for name, (_, text) in PHOTOGRAPHS.items()}}
FIGURES, WORDS, WITHOUT = "figures", "words", "without masks"
TWINS_OF = "clip-guided-sam"
"""The method whose figures beyond the tables are measured."""
EVALUATION_SEED = 1_000_003
"""Far from every training seed: the scenes of the card were never trained on."""


def tuned_methods() -> list[str]:
    """Ids of all methods that have weights of their own."""
    return [id for id, info in METHODS.items() if info.needs_training]


def held_back(name: str, photographs: Path | None) -> SegmentationData:
    """Open one of :data:`SETS`.

    Raises:
        ValueError: it is one of photographs, and nobody says where they are.
    """
    seed = EVALUATION_SEED
    scenes = {
        "scenes, seen pairs": SceneData(100, seed),
        "scenes, unseen pairs": SceneData(100, seed, pairs="unseen"),
        "camouflage": SceneData(60, seed, mode="camouflage"),
    }
    if name in scenes:
        return scenes[name]
    if photographs is None:
        raise ValueError(f"{name} needs photographs")
    folder, _ = PHOTOGRAPHS[name]
    data: SegmentationData
    if folder == COCO:
        data = CocoPanopticData(photographs / folder, "val2017")
    else:
        data = FolderData(photographs / folder / "val")
    return some_images(data, min(MOST_IMAGES, len(data)))


def measure(name: str, photographs: Path | None, bundle: Path, work: Path) -> None:
    """Evaluate the runs on one set and keep the figures as JSON in ``work/figures``.

    Runs that have figures there are not repeated.

    Args:
        name: of the set.
        photographs: see :class:`TinyTraining`.
        bundle: the tiny bundle.
        work: where to.
    """
    if name in PHOTOGRAPHS and photographs is None:
        return
    data = held_back(name, photographs)
    file = work / FIGURES / f"{name}.json"
    figures = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    missing = {label: run for label, run in RUNS.items() if label not in figures}
    if not missing:
        return
    backbones = load_backbones(PRESET, folder=bundle)
    predictors = {
        method: find_method(method).load(backbones, bundle / method)
        for method in {run.method for run in missing.values()}
    }
    # Where classes compete nothing is drawn by chance.
    seeds = {run: SEEDS[:1] if predictors[run.method].joint else SEEDS for run in missing.values()}
    groups = set(seeds.values())
    scores: dict[tuple[MethodRun, int], list[SampleScore]] = {}
    with tqdm(total=len(groups) * len(data), desc=name, mininterval=10) as bar:
        for drawn in groups:
            runs = [run for run in missing.values() if seeds[run] == drawn]
            scores |= evaluate(data, predictors, runs, drawn, lambda *_: bar.update())
    for label, run in missing.items():
        figures[label] = [summarize(scores[run, seed]) for seed in seeds[run]]
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {label: figures[label] for label in RUNS})


def summarize(scores: Sequence[SampleScore]) -> dict[str, float]:
    """Return the card's figures of one run and seed."""
    return {
        "miou": class_wise_miou(scores),
        "mean_iou": mean_image_iou(scores),
        "mae": float(np.mean([score.values["mae"] for score in scores])),
        "samples": len(scores),
    }


def measure_words(photographs: Path | None, bundle: Path, work: Path) -> None:
    """Measure CLIP's maps and words alone; store them in ``work/figures/words.json``."""
    file = work / FIGURES / f"{WORDS}.json"
    if photographs is None or file.is_file():
        return
    backbones = load_backbones(PRESET, folder=bundle)
    folder = photographs / "imagenet1k"
    named, names = NamedData(folder / "val"), read_json(folder / "classes.json")
    first, five = name_accuracy(backbones, named, names)
    figures: dict[str, object] = {
        "top-1": first,
        "top-5": five,
        "photographs": len(named),
        "synonyms": synonyms_found(backbones),
        "auc": {name: map_auc(backbones, held_back(name, photographs)) for name in SETS},
    }
    twins = TwinScenes()
    predictors = {TWINS_OF: find_method(TWINS_OF).load(backbones, bundle / TWINS_OF)}
    run = MethodRun(TWINS_OF, "semi-automatic")
    scores = evaluate(twins, predictors, [run], SEEDS)
    figures["twins"] = [
        mean_image_iou([one for one in scores[run, seed] if twins.is_twin(one)]) for seed in SEEDS
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, figures)


def measure_without_masks(photographs: Path | None, folder: Path, work: Path) -> None:
    """CLIP-Guided SAM and maps where two sets' masks were never seen, as JSON in ``work``.

    Args:
        photographs: see :class:`TinyTraining`.
        folder: backbones and ``clip-guided-sam`` trained without them.
        work: where to.
    """
    file = work / FIGURES / f"{WITHOUT}.json"
    if photographs is None or file.is_file() or not (folder / TWINS_OF).is_dir():
        return
    backbones = load_backbones(PRESET, folder=folder)
    predictors = {TWINS_OF: find_method(TWINS_OF).load(backbones, folder / TWINS_OF)}
    run = MethodRun(TWINS_OF, "semi-automatic")
    figures = {}
    for name in ("cats val", "horses val"):
        data = held_back(name, photographs)
        scores = evaluate(data, predictors, [run], SEEDS)
        seeds = [class_wise_miou(scores[run, seed]) for seed in SEEDS]
        figures[name] = {"miou": seeds, "auc": map_auc(backbones, data)}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, figures)


class TwinScenes:
    """Scenes that show two shapes of one surface, which only their shape tells apart."""

    def __init__(self, count: int = 40, seed: int = EVALUATION_SEED) -> None:
        scenes = SceneData(20 * count, seed)
        self.names = scenes.names
        chosen: list[LabelledImage] = []
        self._twins: set[tuple[str, str]] = set()
        for index in range(len(scenes)):
            sample = scenes[index]
            present = [sample.names[value] for value in sample.present()]
            surfaces = [name.split()[0] for name in present]
            twins = [n for n, s in zip(present, surfaces, strict=True) if surfaces.count(s) > 1]
            if twins and len(chosen) < count:
                chosen.append(sample)
                self._twins |= {(sample.key, name) for name in twins}
        self._scenes = chosen
        self.keys = [sample.key for sample in chosen]

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, index: int) -> LabelledImage:
        return self._scenes[index]

    def is_twin(self, score: SampleScore) -> bool:
        """Whether a score is of one of two shapes of one surface."""
        return (score.image, score.name) in self._twins
