"""The recipe of the bundled ``tiny`` models: one resumable command, on CPU or GPU."""

from __future__ import annotations

import dataclasses
import json
import logging
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ..data.readers import CachedData, CocoPanopticData, FolderData
from ..data.scenes import SceneData
from ..data.stream import Domain, TrainingStream
from ..models.clip import PROMPT_TEMPLATES, build_clip
from ..models.sam import build_sam
from ..weights.bundle import save_bundle
from ..weights.presets import TINY
from .loop import LoopConfig, train
from .pretrain_clip import ClipStage
from .pretrain_sam import SamStage
from .tokenizer import train_tokenizer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TinyRecipe:
    """Everything that decides what the tiny bundle becomes, besides the photographs.

    Attributes:
        seed: of weights and samples; the procedural scenes of training use seeds from here on.
        clip, clip_lr: stage 1, CLIP-tiny.
        sam, sam_lr: stage 2, SAM-tiny.
    """

    seed: int = 20
    clip: LoopConfig = dataclasses.field(default_factory=lambda: LoopConfig(2000, 16))
    clip_lr: float = 8e-4
    sam: LoopConfig = dataclasses.field(default_factory=lambda: LoopConfig(2000, 10))
    sam_lr: float = 6e-4


def training_domains(photographs: Path | None, seed: int) -> dict[str, Domain]:
    """Procedural scenes of seen pairs, and the photographs' train parts where there are any."""
    endless = 10**6
    domains = {
        "scenes": Domain(SceneData(endless, seed), 0.42, False),
        "camouflage": Domain(SceneData(endless, seed, mode="camouflage"), 0.06, False),
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
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.domains = training_domains(photographs, recipe.seed)

    def stages(self) -> dict[str, Callable[[], None]]:
        """The stages by name, in order."""
        return {"clip": self.train_clip, "sam": self.train_sam}

    def _stream(self, seed: int) -> TrainingStream:
        return TrainingStream(self.domains, seed, TINY.sam.image_size, TINY.clip.surgery_size)

    def _record(self, stage: str, seconds: float, config: LoopConfig) -> dict:
        """What the card says about a stage."""
        record = {
            "stage": stage,
            "seed": self.recipe.seed,
            "loop": dataclasses.asdict(config),
            "minutes": round(seconds / 60, 1),
            "hardware": self._hardware(),
            "torch": torch.__version__,
        }
        (self.work / f"{stage}.json").write_text(json.dumps(record, indent=2))
        return record

    def _hardware(self) -> str:
        if self.device.type == "cuda":
            return torch.cuda.get_device_name()
        return f"{torch.get_num_threads()} CPU threads, {platform.machine()}"

    def train_clip(self) -> None:
        """Stage 1: CLIP-tiny and its vocabulary."""
        recipe = self.recipe
        stream = self._stream(recipe.seed + 1)
        empty = [template.format("") for template in PROMPT_TEMPLATES]
        tokenizer = train_tokenizer([*stream.vocabulary.names, *empty], TINY.clip.vocab_size)
        torch.manual_seed(recipe.seed)
        clip = build_clip(TINY.clip)
        stage = ClipStage(clip, tokenizer, stream.vocabulary, TINY, recipe.clip_lr)
        seconds = train(stage, stream, recipe.clip, self.work, self.device)
        record = self._record("clip", seconds, recipe.clip)
        save_bundle(self.out / "clip", {"kind": "clip", "training": record}, clip.state_dict())
        tokenizer.backend_tokenizer.save(str(self.out / "clip" / "tokenizer.json"))

    def train_sam(self) -> None:
        """Stage 2: SAM-tiny."""
        recipe = self.recipe
        torch.manual_seed(recipe.seed)
        sam = build_sam(TINY.sam)
        stage = SamStage(sam, TINY, recipe.sam_lr)
        stream = self._stream(recipe.seed + 2)
        seconds = train(stage, stream, recipe.sam, self.work, self.device)
        record = self._record("sam", seconds, recipe.sam)
        save_bundle(self.out / "sam", {"kind": "sam", "training": record}, sam.state_dict())
