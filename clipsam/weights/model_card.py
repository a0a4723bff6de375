"""The model card of a bundle for the hub, built from its ``config.json`` and weights."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import ModelCardData
from safetensors import safe_open

from .bundle import CODES, DELTA, OWN, SCALES, SHAPE, WEIGHTS
from .presets import PRESETS, Preset

WRITTEN = "This card is written by `python -m clipsam push`; without this line it is left alone."
"""Line that identifies a generated card, which may be overwritten."""

_LABELS = {
    DELTA: "as differences in 4 bits from the weights they were tuned from",
    OWN: "in 8 bits",
    "F16": "in half precision",
    "F32": "in single precision",
}


@dataclass(frozen=True)
class MethodSummary:
    """Description of a method for the card.

    Attributes:
        name: display name.
        paper: its source, ``arXiv …``.
        modes: its modes; the first is the default.
        summary: one sentence about the method.
    """

    name: str
    paper: str
    modes: tuple[str, ...]
    summary: str


def model_card(bundle: Path, config: dict, about: MethodSummary, source: str) -> str:
    """Format the card of a bundle; all figures are the bundle's own.

    Args:
        bundle: its folder.
        config: its ``config.json``.
        about: its method.
        source: repository or folder to pull it from; the part after the last slash is its name.
    """
    method, preset, folder = config["method"], PRESETS[config["preset"]], Path(source).name
    front = ModelCardData(
        library_name="clipsam",
        pipeline_tag="image-segmentation",
        license="apache-2.0",
        base_model=[base.repo for base in preset.sources] or None,
        tags=["clipsam", "segment-anything", "clip", method],
    )
    paper = re.sub(r"arXiv (\d{4}\.\d{4,5})", r"[\g<0>](https://arxiv.org/abs/\1)", about.paper)
    return f"""---
{front.to_yaml()}
---

# {about.name} for the preset {preset.name}

{about.summary} Source: {paper}. Preset: {preset.title}.

{WRITTEN}

## Use it

With the CLIP-SAM Workbench:

```sh
python -m clipsam pull {shlex.quote(source)} --out {shlex.quote(folder)}
{segment_command(method, preset.name, about.modes, folder)}
```

`python -m clipsam pull {shlex.quote(source)}` without `--out` puts it where the page and
`--method {method}` look for it, if the place is free. {_needs(preset)}

## Weights

{_storage(bundle / WEIGHTS)}

## Training

{_training(config.get("training"))}

## Network

```json
{json.dumps(config["network"], indent=2)}
```
"""


def segment_command(method: str, preset: str, modes: tuple[str, ...], folder: str | None) -> str:
    """Format a command line that uses a bundle in a folder; ``None`` for the default folder."""
    method_arg = method if folder is None else shlex.quote(f"{method}@{folder}")
    point = ' --point "dog:120,80,1"' if modes == ("manual",) else ""
    return (
        f'python -m clipsam segment photo.jpg --text "dog"{point} --preset {preset} '
        f"--method {method_arg} --out results/"
    )


def _needs(preset: Preset) -> str:
    """Describe the base weights of the bundle."""
    bases = [
        f"[{base.repo}](https://huggingface.co/{base.repo}) ({base.licence}, {base.megabytes} MB)"
        for base in preset.sources
    ]
    if not bases:
        return f"The required SAM and CLIP are bundled with the project (preset `{preset.name}`)."
    return (
        f"It contains the tuned weights only, and needs {' and '.join(bases)}; download them with "
        f"`python -m clipsam download {preset.name}`."
    )


def _storage(weights: Path) -> str:
    """Describe number and format of the stored parameters."""
    counts: Counter[str] = Counter()
    with safe_open(weights, "pt") as file:
        for key in file.keys():  # noqa: SIM118 (not a mapping)
            stored = file.get_slice(key)
            number = math.prod(stored.get_shape())
            if key.endswith(DELTA + CODES):
                counts[DELTA] += 2 * number
            elif key.endswith(OWN + CODES):
                counts[OWN] += number
            elif not key.endswith((SCALES, OWN + SHAPE)):
                counts[stored.get_dtype()] += number
    parts = [
        f"{number / 1e6:.2f} M {_LABELS.get(kind, f'as {kind}')}"
        for kind, number in counts.most_common()
    ]
    megabytes = weights.stat().st_size / 1e6
    text = f"{counts.total() / 1e6:.2f} M parameters in {megabytes:.1f} MB: {', '.join(parts)}."
    if counts[DELTA]:
        text += " The differences only fit the SAM and CLIP of the preset."
    return text


def _training(training: object) -> str:
    """Describe the training as recorded in `config.json`."""
    if not isinstance(training, dict) or not training:
        return "The bundle does not record its training."
    lines = [
        f"- {_words(key)}: {_plain(value)}"
        for key, value in training.items()
        if value is not None and not isinstance(value, dict)
    ]
    scores = training.get("validation_miou")
    if isinstance(scores, dict) and any(value is not None for value in scores.values()):
        figures = ", ".join(f"{key} {_percent(value)}" for key, value in scores.items())
        lines.append(
            "- class-wise mIoU on the held-out training images, queried for the classes present "
            f"(used to choose the checkpoint, hence optimistic): {figures}"
        )
    tables = [
        f"\n| {_words(key)} | value |\n|---|---|\n"
        + "\n".join(f"| {name} | {_plain(field)} |" for name, field in value.items())
        for key, value in training.items()
        if isinstance(value, dict) and key != "validation_miou"
    ]
    return "\n".join(lines + tables)


def _words(key: str) -> str:
    return key.replace("_", " ")


def _plain(value: object) -> str:
    """Format a value on one line without table separators."""
    return "–" if value is None else " ".join(str(value).split()).replace("|", "\\|")


def _percent(value: object) -> str:
    return f"{100 * value:.1f} %" if isinstance(value, int | float) else "not measured"
