"""The trials: trainings of a method, and the papers' tables that they reproduce."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from clipsam.evaluation.runner import MANUAL, MethodRun
from clipsam.registry import WHOLE
from clipsam.training.recipe import TINY_ESC_NET_RECIPE, TINY_RECIPE, Recipe

SEEDS = (0, 1, 2)
"""Seeds of the training images, weights, order and points."""

SEMI = "semi-automatic"
CLICKS = 5


@dataclass(frozen=True, eq=False)
class Setup:
    """Settings common to comparable trials.

    Attributes:
        title: one sentence for people.
        recipe: of the training.
        labelled: training images of each set; a trial may take a share of them.
        measured: held-back images of each set, the same for all trials.
        all_classes: whether all classes of a set are asked, or those present in an image.
    """

    title: str
    recipe: Recipe
    labelled: Mapping[str, int]
    measured: Mapping[str, int]
    all_classes: bool = False


LOW_DATA = Setup(
    "Few labelled images of all kinds; in each image, the classes present are queried.",
    replace(
        TINY_RECIPE,
        lr=4e-4,
        clip_lr=2e-5,
        steps=60,
        batch_size=4,
        warmup=8,
        validation_images=0,
    ),
    labelled={"scenes": 64, "camouflage": 16, "camvid": 24, "ccp": 24, "coco100": 32},
    measured={"scenes": 24, "camouflage": 12, "camvid": 10, "ccp": 12, "coco100": 12},
)

OPEN_VOCABULARY = Setup(
    "Synthetic scenes; in each image all 52 seen pairs of surface and shape are queried, or all 12 "
    "unseen ones.",
    replace(TINY_ESC_NET_RECIPE, steps=40, classes_per_image=6, warmup=4, validation_images=0),
    labelled={"scenes": 400},
    measured={"seen pairs": 16, "unseen pairs": 24},
    all_classes=True,
)


@dataclass(frozen=True)
class Trial:
    """One way of training a method, or a method without training.

    Attributes:
        name: fit for a file.
        method: its id.
        modes: in which it is measured.
        settings: what differs from the method and the setup, as ``train --set`` takes it.
        trained_for: the only mode to train for; ``None`` trains for all.
        labels: share of the setup's labelled images.
        setup: training and measurement.
    """

    name: str
    method: str
    modes: tuple[str, ...] = (SEMI,)
    settings: tuple[str, ...] = ()
    trained_for: str | None = None
    labels: float = 1.0
    setup: Setup = LOW_DATA

    @property
    def runs(self) -> tuple[MethodRun, ...]:
        """Runs of the evaluation."""
        return tuple(MethodRun("it", mode, CLICKS if mode == MANUAL else 0) for mode in self.modes)


GUIDED = Trial("clip-guided-sam", "clip-guided-sam", (SEMI, MANUAL))
ADAPTERS = Trial("clip-surgery-sam-adapters", "clip-surgery-sam-adapters")


def guided(name: str, *settings: str, **fields: object) -> Trial:
    """Define CLIP-Guided SAM with changes."""
    return Trial(f"clip-guided-sam, {name}", "clip-guided-sam", settings=settings, **fields)


def seeing(*modalities: str) -> Trial:
    """Define CLIP-Guided SAM whose adapters use a subset of text, vision and similarity."""
    settings = [f"{m}={str(m in modalities).lower()}" for m in ("text", "vision", "similarity")]
    return guided(f"sees {' and '.join(modalities) or 'nothing'}", *settings)


def esc_net(name: str, *settings: str, method: str = "esc-net") -> Trial:
    """Define ESC-Net with changes."""
    return Trial(f"esc-net, {name}", method, (WHOLE,), settings, setup=OPEN_VOCABULARY)


ESC_NET = Trial("esc-net", "esc-net", (WHOLE,), setup=OPEN_VOCABULARY)
NO_SAM = esc_net("no SAM", method="cat-seg")


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        label: what people read.
        trial: what was trained.
        mode: in which it is measured.
        paper: the figure that the paper reports, in its own unit; ``None`` if it has none.
    """

    label: str
    trial: Trial
    mode: str
    paper: float | None = None


def numbers_of(
    symbol: str, noun: str, field: str, numbers: Iterable[int], ours: int
) -> tuple[Row, ...]:
    """Define a row for each value of a numeric field of ESC-Net."""

    def trial(number: int) -> Trial:
        return ESC_NET if number == ours else esc_net(f"{number} {noun}", f"{field}={number}")

    return tuple(
        Row(f"{symbol} = {number}" + (" (ours)" if number == ours else ""), trial(number), WHOLE)
        for number in numbers
    )


@dataclass(frozen=True)
class Table:
    """A comparison of a paper.

    Attributes:
        title: what is compared.
        paper: what the paper's figures are.
        rows: the lines.
        lower_is_better: the paper's figure is an error.
    """

    title: str
    paper: str
    rows: tuple[Row, ...]
    lower_is_better: bool = False

    @property
    def setup(self) -> Setup:
        """The settings common to its trials."""
        return self.rows[0].trial.setup


TABLES = (
    Table(
        "Class name only: methods",
        "CLIP-Guided SAM, VOC 1/16, mIoU",
        (
            Row(
                "CLIP Surgery + SAM, vanilla",
                Trial("clip-surgery-sam", "clip-surgery-sam", ("vanilla", "dense-prompt")),
                "vanilla",
                41.2,
            ),
            Row(
                "– with dense prompt",
                Trial("clip-surgery-sam", "clip-surgery-sam", ("vanilla", "dense-prompt")),
                "dense-prompt",
                48.6,
            ),
            Row(
                "– decoder tuned",
                Trial("clip-surgery-sam-decoder", "clip-surgery-sam-decoder"),
                SEMI,
                58.8,
            ),
            Row("– adapters and decoder tuned", ADAPTERS, SEMI, 61.4),
            Row("CLIP-Guided SAM", GUIDED, SEMI, 78.3),
        ),
    ),
    Table(
        "Five clicks: methods",
        "CLIP-Guided SAM, COD10K, MAE (lower is better)",
        (
            Row("SAM", Trial("sam", "sam", (MANUAL,)), MANUAL),
            Row("SAM, decoder tuned", Trial("sam-decoder", "sam-decoder", (MANUAL,)), MANUAL),
            Row("SU-SAM, LoRA", Trial("sam-lora", "sam-lora", (MANUAL,)), MANUAL, 0.097),
            Row("SU-SAM, series", Trial("sam-series", "sam-series", (MANUAL,)), MANUAL, 0.073),
            Row("SU-SAM, mix", Trial("sam-mix", "sam-mix", (MANUAL,)), MANUAL, 0.029),
            Row(
                "SU-SAM, parallel", Trial("sam-parallel", "sam-parallel", (MANUAL,)), MANUAL, 0.020
            ),
            Row("SAM-PTx", Trial("sam-ptx", "sam-ptx", (MANUAL,)), MANUAL, 0.020),
            Row("CLIP-Guided SAM", GUIDED, MANUAL, 0.015),
        ),
        lower_is_better=True,
    ),
    Table(
        "What the adapters see",
        "CLIP-Guided SAM, Table 6, VOC 1/16, mIoU",
        (
            Row("nothing (plain adapters)", seeing(), SEMI, 67.1),
            Row("text", seeing("text"), SEMI, 67.2),
            Row("vision", seeing("vision"), SEMI, 68.8),
            Row("similarity", seeing("similarity"), SEMI, 77.5),
            Row("text and vision", seeing("text", "vision"), SEMI, 69.5),
            Row("text and similarity", seeing("text", "similarity"), SEMI, 78.1),
            Row("vision and similarity", seeing("vision", "similarity"), SEMI, 77.5),
            Row("text, vision and similarity", GUIDED, SEMI, 78.3),
        ),
    ),
    Table(
        "Points in training, points from CLIP's map in use",
        "CLIP-Guided SAM, section 3.4, VOC 1/16, mIoU",
        (
            Row("trained on clicks", guided("for manual", trained_for=MANUAL), SEMI, 69.8),
            Row("trained on points from the map", guided("for semi", trained_for=SEMI), SEMI, 78.3),
            Row("trained on both, half and half (ours)", GUIDED, SEMI),
        ),
    ),
    Table(
        "CLIP",
        "CLIP-Guided SAM, ablation, VOC 1/16, mIoU",
        (
            Row("plain CLIP, tuned along", guided("plain CLIP", "clip=plain"), SEMI, 72.8),
            Row("CLIP Surgery, frozen", guided("frozen CLIP", "clip_blocks=0"), SEMI, 73.7),
            Row("CLIP Surgery, tuned along", GUIDED, SEMI, 78.3),
        ),
    ),
    Table(
        "Loss",
        "CLIP-Guided SAM, ablation, VOC 1/16, mIoU",
        (
            Row("BCE", guided("BCE", "dice=0", "iou=0"), SEMI, 76.1),
            Row("BCE + Dice", guided("BCE and Dice", "iou=0"), SEMI, 77.7),
            Row("BCE + IoU", guided("BCE and IoU", "dice=0"), SEMI, 78.1),
            Row("BCE + Dice + IoU", GUIDED, SEMI, 78.3),
        ),
    ),
    Table(
        "Labelled images: CLIP-Guided SAM",
        "COCO, 1/512, 1/128 and 1/32, mIoU",
        (
            Row("a quarter (40)", guided("a quarter of the labels", labels=0.25), SEMI, 60.5),
            Row("all (160)", GUIDED, SEMI, 65.8),
            Row("four times (640)", guided("four times the labels", labels=4.0), SEMI, 69.2),
        ),
    ),
    Table(
        "How adapters join SAM's blocks",
        "our question: no paper has it",
        (
            Row(
                "as the authors' code, all blocks",
                guided("reference block", "block=reference", "last_blocks=none"),
                SEMI,
            ),
            Row("preserving SAM, last four blocks (ours)", GUIDED, SEMI),
        ),
    ),
    Table(
        "ESC-Net: SAM's part",
        "ESC-Net, Table 2, ViT-L/14, A-150, mIoU",
        (
            Row("without SAM blocks", NO_SAM, WHOLE, 24.2),
            Row(
                "SAM blocks with random weights",
                esc_net("random SAM", "pretrained_sam=false"),
                WHOLE,
                28.4,
            ),
            Row("SAM blocks from SAM-tiny (ours)", ESC_NET, WHOLE, 41.8),
        ),
    ),
    Table(
        "ESC-Net: pseudo prompts",
        "ESC-Net, Table 3, ViT-L/14, A-150, mIoU",
        (
            Row("points", esc_net("points", "prompts=point"), WHOLE, 37.8),
            Row("boxes", esc_net("boxes", "prompts=box"), WHOLE, 33.5),
            Row("masks", esc_net("masks", "prompts=mask"), WHOLE),
            Row("boxes and masks", esc_net("boxes and masks", "prompts=box,mask"), WHOLE, 39.9),
            Row("points and masks (ours)", ESC_NET, WHOLE, 41.8),
            Row(
                "points, boxes and masks",
                esc_net("all prompts", "prompts=point,box,mask"),
                WHOLE,
                41.9,
            ),
        ),
    ),
    Table(
        "ESC-Net: blocks",
        "ESC-Net takes 4",
        numbers_of("N", "blocks", "blocks", range(5), ours=2),
    ),
    Table(
        "ESC-Net: prompts per class",
        "ESC-Net takes 5",
        numbers_of("N_o", "clusters", "num_points", (1, 5, 8), ours=5),
    ),
)


def all_trials() -> tuple[Trial, ...]:
    """Return every trial once, in the order of the tables."""
    return tuple(dict.fromkeys(row.trial for table in TABLES for row in table.rows))
