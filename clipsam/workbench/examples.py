"""Example images: synthetic scenes with ground truth, and photographs shipped with Gradio."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gradio as gr
import numpy as np

from ..data.images import open_image
from ..data.samples import BACKGROUND, LabelledImage
from ..data.synthetic import SceneData
from ..evaluation.truth import TruthFile

SEED = 7
"""Seed of the synthetic examples; training scenes use seeds from 20 on."""


@dataclass(frozen=True)
class Example:
    """One example image.

    Attributes:
        title: display title.
        image: uint8 (H, W, 3).
        classes: as typed.
        truth: the ground truth, if known.
    """

    title: str
    image: np.ndarray
    classes: str
    truth: TruthFile | None = None


def all_examples() -> list[Example]:
    """Return the examples, synthetic scenes first; photographs that Gradio lacks are left out."""
    seen, unseen = SceneData(12, SEED), SceneData(12, SEED, pairs="unseen")
    hidden = SceneData(12, SEED, mode="camouflage")
    return [
        _scene("Unseen combinations", unseen[3], "red star, green cross, checked disc"),
        _scene("Shapes", seen[3], "red heart, red cross, checked star"),
        _scene("One class is absent", seen[11], "yellow ring, striped disc, green square"),
        _scene("Camouflage", hidden[4], "striped triangle"),
        *_photographs(),
    ]


def _scene(title: str, scene: LabelledImage, classes: str) -> Example:
    """Build an example whose ground truth is 0 for background and c + 1 for class c."""
    ids = np.where(scene.classes == BACKGROUND, -1, scene.classes).astype(np.int64) + 1
    return Example(title, scene.image, classes, TruthFile(ids, ("background", *scene.names)))


def _photographs() -> list[Example]:
    named = (("cheetah.jpg", "cheetah, grass"), ("lion.jpg", "lion"), ("tower.jpg", "tower, sky"))
    return [
        Example(Path(name).stem.capitalize(), open_image(path), classes)
        for name, classes in named
        if (path := _shipped(name)) is not None
    ]


def _shipped(name: str) -> Path | None:
    try:
        return Path(gr.get_image(name))
    except FileNotFoundError:
        return None
