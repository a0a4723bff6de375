"""The recipe of the bundled ``tiny`` models: one resumable command, on CPU or GPU."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from ..data.readers import CachedData, CocoPanopticData, ConcatData, FolderData
from ..data.scenes import SceneData
from ..data.splits import Split, some_images
from ..data.stream import Domain, TrainingStream
from ..measure import hardware
from ..models.clip import PROMPT_TEMPLATES, ClassTextEncoder, SurgeryVision, build_clip
from ..models.esc_net import EscNetConfig
from ..models.sam import build_sam
from ..registry import find_method
from ..types import PromptError
from ..weights.backbones import load_backbones
from ..weights.bundle import CONFIG, load_bundle, save_bundle
from ..weights.presets import TINY
from .calibration import calibrate_clip
from .card import SETS, measure, tuned_methods, write_card
from .loop import LoopConfig, start_accelerator, train
from .pretrain_clip import ClipStage, start_positions_as_waves
from .pretrain_sam import SamStage
from .recipe import TINY_ESC_NET_RECIPE, TINY_RECIPE, EscNetRecipe, TunedSamRecipe
from .tokenizer import train_tokenizer
from .train_method import Job, train_method

logger = logging.getLogger(__name__)


LOW_DATA_SPLIT = {"scenes": 512, "camouflage": 64, "camvid": 92, "ccp": 120, "coco100": 100}
"""Labelled images for the methods that tune SAM: a quarter of CamVid and CCP, all of COCO-100."""

LARGE_SPLIT = {"scenes": 1536, "camouflage": 192, "camvid": 367, "ccp": 480, "coco100": 100}
"""Labelled images for ESC-Net, whose head starts from nothing: all photographs."""


@dataclass(frozen=True)
class TinyRecipe:
    """Everything that decides what the tiny bundle becomes, besides the photographs.

    Attributes:
        seed: of weights and samples; the procedural scenes of training use seeds from here on.
        clip, clip_lr: stage 1, CLIP-tiny.
        sam, sam_lr: stage 2, SAM-tiny.
        tuned_sam: stage 3, every method that tunes SAM, on the first two.
        low_data: images of each set that it may see.
        esc_net: stage 3 of ESC-Net and CAT-Seg.
        large: images of each set that it may see.
    """

    seed: int = 20
    clip: LoopConfig = dataclasses.field(default_factory=lambda: LoopConfig(2000, 16))
    clip_lr: float = 8e-4
    sam: LoopConfig = dataclasses.field(default_factory=lambda: LoopConfig(1800, 10))
    sam_lr: float = 6e-4
    tuned_sam: TunedSamRecipe = dataclasses.field(
        default_factory=lambda: dataclasses.replace(
            TINY_RECIPE,
            lr=4e-4,
            clip_lr=2e-5,
            epochs=2,
            validation_images=0,
            seed=20,
        )
    )
    low_data: Mapping[str, int] = dataclasses.field(default_factory=lambda: dict(LOW_DATA_SPLIT))
    esc_net: EscNetRecipe = dataclasses.field(
        default_factory=lambda: dataclasses.replace(
            TINY_ESC_NET_RECIPE, epochs=1, validation_images=0, seed=20
        )
    )
    large: Mapping[str, int] = dataclasses.field(default_factory=lambda: dict(LARGE_SPLIT))


def training_domains(photographs: Path | None, seed: int) -> dict[str, Domain]:
    """Procedural scenes of seen pairs, and the photographs' train parts where there are any."""
    endless = 10**6
    scenes, camouflage = SceneData(endless, seed), SceneData(endless, seed, mode="camouflage")
    facets = tuple(zip(*(name.split() for name in scenes.names), strict=True))
    domains = {
        "scenes": Domain(scenes, 0.42, False, facets),
        "camouflage": Domain(camouflage, 0.06, False, facets),
    }
    if photographs is None:
        return domains
    side = 384
    sets = {
        "camvid": (FolderData(photographs / "camvid" / "train"), 0.22),
        "ccp": (FolderData(photographs / "ccp" / "train"), 0.16),
        "coco100": (CocoPanopticData(photographs / "coco100", "train2017"), 0.14),
    }
    for name, (data, weight) in sets.items():
        domains[name] = Domain(CachedData(data, side), weight, True)
    return domains


class TinyTraining:
    """Trains the parts of the tiny bundle, one after the other, and saves each as it ends."""

    def __init__(self, recipe: TinyRecipe, photographs: Path | None, out: Path, work: Path) -> None:
        """
        Args:
            recipe: what to do.
            photographs: folder with ``camvid/``, ``ccp/`` and ``coco100/``; only their train
                parts are read.
            out: the bundle's folder.
            work: checkpoints and logs.
        """
        self.recipe, self.out, self.work = recipe, out, work
        self.photographs = photographs
        self.device = start_accelerator().device
        self.domains = training_domains(photographs, recipe.seed)

    def run(self, stage: str | None = None) -> None:
        """Run all stages in order, or one of them.

        Raises:
            PromptError: there is no such stage.
        """
        stages = {
            "clip": self.train_clip,
            "sam": self.train_sam,
            **{method: partial(self.train_method, method) for method in tuned_methods()},
            "card": self.write_card,
        }
        if stage is not None and stage not in stages:
            raise PromptError(f"There is no stage “{stage}”: choose from {', '.join(stages)}.")
        for name, step in stages.items():
            if stage in (None, name):
                step()

    def _stream(self, domains: Mapping[str, Domain], seed: int) -> TrainingStream:
        return TrainingStream(domains, seed, TINY.sam.image_size, TINY.clip.surgery_size)

    def _record(self, stage: str, seconds: float, config: LoopConfig) -> dict:
        """What the card says about a stage."""
        record = {
            "stage": stage,
            "seed": self.recipe.seed,
            "loop": dataclasses.asdict(config),
            "minutes": round(seconds / 60, 1),
            "hardware": hardware(self.device),
            "torch": torch.__version__,
        }
        (self.work / f"{stage}.json").write_text(json.dumps(record, indent=2))
        return record

    def train_clip(self) -> None:
        """Stage 1: CLIP-tiny and its vocabulary."""
        recipe = self.recipe
        stream = self._stream(self.domains, recipe.seed + 1)
        empty = [template.format("") for template in PROMPT_TEMPLATES]
        tokenizer = train_tokenizer([*stream.vocabulary.names, *empty], TINY.clip.vocab_size)
        torch.manual_seed(recipe.seed)
        clip = build_clip(TINY.clip)
        start_positions_as_waves(clip)
        stage = ClipStage(clip, tokenizer, stream.vocabulary, TINY, recipe.clip_lr)
        seconds = train(stage, stream, recipe.clip, self.work).seconds
        clip.eval().requires_grad_(False)
        vision = SurgeryVision(clip, TINY.clip.surgery_layers)
        data = [domain.data for domain in self.domains.values()]
        text = ClassTextEncoder(clip, tokenizer)
        calibration = calibrate_clip(data, vision, text, TINY)
        config = {
            "kind": "clip",
            "calibration": dataclasses.asdict(calibration),
            "training": self._record("clip", seconds, recipe.clip),
        }
        save_bundle(self.out / "clip", config, clip.state_dict())
        tokenizer.backend_tokenizer.save(str(self.out / "clip" / "tokenizer.json"))

    def train_sam(self) -> None:
        """Stage 2: SAM-tiny."""
        recipe = self.recipe
        torch.manual_seed(recipe.seed)
        sam = build_sam(TINY.sam)
        stage = SamStage(sam, TINY, recipe.sam_lr)
        stream = self._stream(self.domains, recipe.seed + 2)
        seconds = train(stage, stream, recipe.sam, self.work).seconds
        record = self._record("sam", seconds, recipe.sam)
        save_bundle(self.out / "sam", {"kind": "sam", "training": record}, sam.state_dict())

    def train_method(self, method: str) -> None:
        """Stage 3: a method on its split of all domains, for all of its modes."""
        recipe, counts = self.recipe.tuned_sam, self.recipe.low_data
        if find_method(method).config_type is EscNetConfig:
            recipe, counts = self.recipe.esc_net, self.recipe.large
        backbones = load_backbones(TINY, self.device, self.out)
        torch.manual_seed(recipe.seed)
        predictor = find_method(method).untrained(backbones)
        parts = {
            name: some_images(domain.data, counts[name], self.recipe.seed)
            for name, domain in self.domains.items()
        }
        data = ConcatData(parts)
        labelled = ", ".join(f"{len(part)} of {name}" for name, part in parts.items())
        split = Split(labelled, tuple(range(len(data))))
        job = Job("the tiny bundle's data", data, split, recipe, "plain")
        work = self.work / method
        if not (work / CONFIG).is_file():
            train_method(predictor, job, work, resume=True)
        config, state = load_bundle(work)
        save_bundle(self.out / method, config, state, predictor.tuned_from())

    def write_card(self) -> None:
        """Measure the bundle on held-back images and write its card; what is measured stays."""
        for name in SETS:
            measure(name, self.photographs, self.out, self.work)
        write_card(self.out, self.work)
