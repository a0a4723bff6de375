"""The papers' tables as data: what each row trains, on what, what is measured, and what is quoted.

Quoted values are those of the papers, never measured here. A value that is not at hand is ``None``.
Networks, prompts and images are as the papers' authors have them, not this project's defaults.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ..data.readers.registry import SCENES
from ..errors import PromptError
from ..evaluation.runner import MANUAL
from ..registry import DENSE, SLIDING, VANILLA

SEMI = "semi-automatic"

Metric = Literal["miou", "mae", "label-map-miou"]
"""``miou`` and ``mae`` of the classes present, see :mod:`clipsam.evaluation.metric_table`;
``label-map-miou`` of all classes at once, see :mod:`clipsam.open_vocabulary`."""


@dataclass(frozen=True)
class DataPart:
    """A part of a data set.

    Attributes:
        kind: of the reader.
        path: of the data set, relative to the folder of all data sets.
        part: ``train`` or ``val``.
    """

    kind: str
    path: str
    part: str

    def spec(self, root: Path) -> str:
        """Return ``KIND:PATH``; an absolute path and the number of scenes stay as they are."""
        return f"{self.kind}:{self.path if self.kind == SCENES else root / self.path}"


@dataclass(frozen=True)
class Training:
    """A training that one or more rows measure.

    Attributes:
        method: id of the method.
        preset: SAM and CLIP.
        data: the data sets, concatenated.
        split: of their images, as ``train --split`` takes it.
        mode: the only kind of prompts to train with; ``None`` trains for all of the method's.
        settings: ``NAME=VALUE`` of recipe and network, as ``train --set`` takes them.
    """

    method: str
    preset: str
    data: tuple[DataPart, ...]
    split: str
    mode: str | None
    settings: tuple[str, ...]


@dataclass(frozen=True)
class Measurement:
    """What a row measures.

    Attributes:
        method: id of the method.
        mode: in which it is run.
        preset: SAM and CLIP.
        data: what it is measured on.
        metric: which figure.
        training: makes the method's weights; ``None`` for a method without any.
        benchmark: open-vocabulary benchmark, for ``label-map-miou``.
        protocol: whose images and prompts a method without training follows; a trained one predicts
            as it was trained.
        limit: images measured, drawn at random; ``None`` for all.
    """

    method: str
    mode: str
    preset: str
    data: DataPart
    metric: Metric = "miou"
    training: Training | None = None
    benchmark: str | None = None
    protocol: str | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        label: the paper's name of what is compared.
        on: data set and split, for people.
        measurement: what is measured.
        quoted: the paper's value, mIoU in percent, MAE as a fraction; ``None`` if not at hand.
    """

    label: str
    on: str
    measurement: Measurement
    quoted: float | None


@dataclass(frozen=True)
class Table:
    """A table of a paper, or the part of it that is at hand.

    Attributes:
        name: on the command line.
        title: what is compared.
        source: the paper, and where in it.
        rows: its rows.
        remark: what a reader should know before comparing.
    """

    name: str
    title: str
    source: str
    rows: tuple[Row, ...]
    remark: str = ""


GUIDED_PAPER, PTX_PAPER, ESC_PAPER = "arXiv 2605.24807", "arXiv 2508.00213", "arXiv 2411.14723"

BASE, BASE_L = "base-reference", "base-clip-l"
"""CLIP-Guided SAM's networks with its authors' preparation of images; ESC-Net's larger CLIP."""

VOC, COCO, ADE20K = (
    ("voc", "VOC2012"),
    ("coco-instances", "coco"),
    ("ade20k", "ADEChallengeData2016"),
)
COD10K, CAMO, CHAMELEON = (("camouflage", name) for name in ("COD10K-v3", "CAMO", "CHAMELEON"))
COCO_STUFF = DataPart("coco-stuff", "coco-stuff", "train")

BLOCKS = ("block=reference", "last_blocks=none")
"""The authors' block, in all of SAM's encoder."""

PROMPTS = ("num_points=5", "sampling=reference", "point_threshold=0.8", "dense_logit=255")
"""The authors' prompts from CLIP's map, those of the protocol ``clip-guided-sam``."""

ADAPTED = {
    "clip-guided-sam": (*BLOCKS, *PROMPTS),
    "clip-surgery-sam-decoder": PROMPTS,
    "clip-surgery-sam-adapters": (*BLOCKS, *PROMPTS),
    "sam-ptx": BLOCKS,
    "sam-parallel": BLOCKS,
    "sam-series": BLOCKS,
    "sam-mix": BLOCKS,
    "sam-lora": BLOCKS,
}
"""Settings of each tuned SAM that are its authors' and not the defaults here."""

GUIDED_REMARK = (
    "Only classes that an image shows are asked. The checkpoint is chosen on training images "
    "outside the split, where the authors chose it on the test images."
)


def tuned(
    method: str,
    data: tuple[str, str],
    split: str,
    *settings: str,
    mode: str = SEMI,
    trained_for: str | None = None,
    preset: str = BASE,
) -> Measurement:
    """Define a tuned SAM, trained on a split of a data set and measured on its validation part.

    Args:
        method: id of the method.
        data: kind and path of the data set.
        split: of its training part.
        settings: changes besides those of :data:`ADAPTED`.
        mode: in which it is measured.
        trained_for: in which it is trained; ``None`` for the same.
        preset: SAM and CLIP.
    """
    training = Training(
        method,
        preset,
        (DataPart(*data, "train"),),
        split,
        trained_for or mode,
        (*ADAPTED[method], *settings),
    )
    return Measurement(method, mode, preset, DataPart(*data, "val"), training=training)


def untuned(method: str, mode: str, data: tuple[str, str]) -> Measurement:
    """Define a method without training, measured on a validation part."""
    return Measurement(method, mode, BASE, DataPart(*data, "val"), protocol="clip-guided-sam")


def _main_rows(
    data: tuple[str, str], split: str, on: str, quoted: Sequence[float]
) -> tuple[Row, ...]:
    """Define the rows of the main table that prompt SAM from a class name, on one data set."""
    measured = (
        ("Grounded SAM", untuned("grounded-sam", "text", data)),
        ("CLIP Surgery + SAM", untuned("clip-surgery-sam", VANILLA, data)),
        ("– with dense prompt", untuned("clip-surgery-sam", DENSE, data)),
        ("– decoder tuned", tuned("clip-surgery-sam-decoder", data, split)),
        ("– adapters and decoder tuned", tuned("clip-surgery-sam-adapters", data, split)),
        ("CLIP-Guided SAM", tuned("clip-guided-sam", data, split)),
    )
    return tuple(
        Row(label, on, measurement, value)
        for (label, measurement), value in zip(measured, quoted, strict=True)
    )


def _camouflaged(measurement: Measurement, data: tuple[str, str]) -> Measurement:
    """Measure MAE on a camouflage set after training on COD10K and CAMO, without augmentation."""
    training = measurement.training
    if training is not None:
        both = DataPart(*COD10K, "train"), DataPart(*CAMO, "train")
        settings = (*training.settings, "augmentation=none")
        training = replace(training, data=both, settings=settings)
    return replace(measurement, data=DataPart(*data, "val"), metric="mae", training=training)


def _camouflage_rows(
    rows: Sequence[tuple[str, Measurement, tuple[float, float, float]]],
) -> tuple[Row, ...]:
    """Define the three rows of each method: COD10K, CAMO, CHAMELEON."""
    sets = (("COD10K", COD10K), ("CAMO", CAMO), ("CHAMELEON", CHAMELEON))
    return tuple(
        Row(label, name, _camouflaged(measurement, data), value)
        for label, measurement, quoted in rows
        for (name, data), value in zip(sets, quoted, strict=True)
    )


def _voc(label: str, quoted: float | None, *settings: str, trained_for: str = SEMI) -> Row:
    """Define CLIP-Guided SAM with changes on VOC 1/16, the data of its ablations."""
    measurement = tuned("clip-guided-sam", VOC, "1/16", *settings, trained_for=trained_for)
    return Row(label, "VOC 1/16", measurement, quoted)


def _seeing(label: str, quoted: float, *modalities: str) -> Row:
    """Define the row whose adapters use a subset of text, vision and similarity."""
    every = ("text", "vision", "similarity")
    return _voc(label, quoted, *(f"{name}=false" for name in every if name not in modalities))


BENCHMARKS = {
    "A-847": ("a-847", "ADE20K_2021_17_01"),
    "PC-459": ("pc-459", "VOC2010"),
    "A-150": ("a-150", "ADEChallengeData2016"),
    "PC-59": ("pc-59", "VOC2010"),
    "PAS-20": ("pas-20", "VOC2012"),
    "PAS-20b": ("pas-20b", "VOC2012"),
}
"""Kind and path of each open-vocabulary benchmark, in the order of ESC-Net's tables."""


def _open_vocabulary_rows(
    label: str, method: str, preset: str, quoted: Sequence[float], *settings: str
) -> tuple[Row, ...]:
    """Define the six rows of a network that is trained on COCO-Stuff."""
    training = Training(method, preset, (COCO_STUFF,), "full", None, settings)
    return tuple(
        Row(
            label,
            benchmark,
            Measurement(
                method,
                SLIDING,
                preset,
                DataPart(kind, path, "val"),
                "label-map-miou",
                training,
                benchmark,
            ),
            value,
        )
        for (benchmark, (kind, path)), value in zip(BENCHMARKS.items(), quoted, strict=True)
    )


ESC_NET_L = (18.1, 27.0, 41.8, 65.6, 98.3, 86.3)
"""ESC-Net on CLIP ViT-L/14, by the benchmarks."""

ESC_REMARK = (
    "No code of ESC-Net was published: the foreground threshold, the fusion, the state passed "
    "between blocks and the class token given to SAM are this project's decisions; the schedule is "
    "CAT-Seg's."
)

_TABLES = (
    Table(
        "clip-guided-sam-voc",
        "Class name only, PASCAL VOC",
        f"{GUIDED_PAPER}, main table, VOC 1/16",
        _main_rows(VOC, "1/16", "VOC 1/16", (72.0, 41.2, 48.6, 58.8, 61.4, 78.3)),
        f"{GUIDED_REMARK} For CLIP-Guided SAM the paper has 78.3 in one place and 78.5 in "
        "another. Its authors train and test with lists of synonyms, which are not at hand: here "
        "trained rows ask by the bare name, untrained ones by this project's lists.",
    ),
    Table(
        "clip-guided-sam-coco",
        "Class name only, COCO",
        f"{GUIDED_PAPER}, main table, COCO 1/512",
        (
            *_main_rows(COCO, "1/512", "COCO 1/512", (61.3, 23.9, 28.0, 34.6, 36.2, 60.5)),
            Row("SAM 3, not tuned", "COCO", untuned("sam3", "text", COCO), 63.7),
        ),
        GUIDED_REMARK,
    ),
    Table(
        "clip-guided-sam-ade20k",
        "Class name only, ADE20K",
        f"{GUIDED_PAPER}, main table, ADE20K 1/64",
        _main_rows(ADE20K, "1/64", "ADE20K 1/64", (42.4, 20.0, 23.4, 23.1, 24.8, 47.9)),
        GUIDED_REMARK,
    ),
    Table(
        "clip-guided-sam-labels",
        "Number of labelled images, COCO",
        f"{GUIDED_PAPER}, COCO 1/512 to 1/32",
        tuple(
            Row("CLIP-Guided SAM", f"COCO {split}", tuned("clip-guided-sam", COCO, split), quoted)
            for split, quoted in (
                ("1/512", 60.5),
                ("1/256", 63.2),
                ("1/128", 65.8),
                ("1/64", 67.7),
                ("1/32", 69.2),
            )
        ),
        GUIDED_REMARK,
    ),
    Table(
        "clip-guided-sam-backbones",
        "Size of CLIP and SAM, COCO",
        f"{GUIDED_PAPER}, COCO 1/512",
        tuple(
            Row(
                label,
                "COCO 1/512",
                tuned("clip-guided-sam", COCO, "1/512", preset=preset),
                quoted,
            )
            for label, preset, quoted in (
                ("SAM ViT-B, CLIP ViT-B/16", BASE, 60.5),
                ("SAM ViT-B, CLIP ViT-L/14", BASE_L, 65.0),
                ("SAM ViT-H, CLIP ViT-B/16", "huge-sam", 61.2),
            )
        ),
        f"{GUIDED_REMARK} The larger networks see images padded and with CLIP's statistics, not as "
        "in the authors' code.",
    ),
    Table(
        "clip-guided-sam-camouflage",
        "Class name only, camouflage",
        f"{GUIDED_PAPER}, main table, MAE",
        _camouflage_rows(
            (
                ("Grounded SAM", untuned("grounded-sam", "text", COD10K), (0.500, 0.146, 0.249)),
                (
                    "CLIP Surgery + SAM",
                    untuned("clip-surgery-sam", VANILLA, COD10K),
                    (0.533, 0.478, 0.253),
                ),
                (
                    "– with dense prompt",
                    untuned("clip-surgery-sam", DENSE, COD10K),
                    (0.287, 0.527, 0.501),
                ),
                (
                    "– decoder tuned",
                    tuned("clip-surgery-sam-decoder", COD10K, "full"),
                    (0.045, 0.100, 0.046),
                ),
                (
                    "– adapters and decoder tuned",
                    tuned("clip-surgery-sam-adapters", COD10K, "full"),
                    (0.026, 0.063, 0.020),
                ),
                (
                    "CLIP-Guided SAM",
                    tuned("clip-guided-sam", COD10K, "full"),
                    (0.018, 0.044, 0.018),
                ),
            )
        ),
    ),
    Table(
        "clip-guided-sam-camouflage-clicks",
        "Five clicks, camouflage",
        f"{GUIDED_PAPER}, main table, MAE",
        _camouflage_rows(
            tuple(
                (label, tuned(method, COD10K, "full", mode=MANUAL), quoted)
                for label, method, quoted in (
                    ("SU-SAM, LoRA", "sam-lora", (0.097, 0.168, 0.130)),
                    ("SU-SAM, series", "sam-series", (0.073, 0.139, 0.083)),
                    ("SU-SAM, mix", "sam-mix", (0.029, 0.065, 0.029)),
                    ("SU-SAM, parallel", "sam-parallel", (0.020, 0.053, 0.024)),
                    ("SAM-PTx", "sam-ptx", (0.020, 0.053, 0.024)),
                    ("CLIP-Guided SAM", "clip-guided-sam", (0.015, 0.035, 0.017)),
                )
            )
        ),
    ),
    Table(
        "clip-guided-sam-modalities",
        "What the adapters see",
        f"{GUIDED_PAPER}, Table 6, VOC 1/16",
        (
            _seeing("nothing (plain adapters)", 67.1),
            _seeing("text", 67.2, "text"),
            _seeing("vision", 68.8, "vision"),
            _seeing("similarity", 77.5, "similarity"),
            _seeing("text and vision", 69.5, "text", "vision"),
            _seeing("text and similarity", 78.1, "text", "similarity"),
            _seeing("vision and similarity", 77.5, "vision", "similarity"),
            _seeing("text, vision and similarity", 78.3, "text", "vision", "similarity"),
        ),
        GUIDED_REMARK,
    ),
    Table(
        "clip-guided-sam-losses",
        "Losses",
        f"{GUIDED_PAPER}, ablation, VOC 1/16",
        (
            _voc("BCE", 76.1, "dice=0", "iou=0"),
            _voc("BCE + Dice", 77.7, "iou=0"),
            _voc("BCE + IoU", 78.1, "dice=0"),
            _voc("BCE + Dice + IoU", 78.3),
        ),
        GUIDED_REMARK,
    ),
    Table(
        "clip-guided-sam-alignment",
        "Points in training; in use, points come from CLIP's map",
        f"{GUIDED_PAPER}, section 3.4, VOC 1/16",
        (
            _voc("trained on points of the truth", 69.8, trained_for=MANUAL),
            _voc("trained on points from CLIP's map", 78.3),
        ),
        GUIDED_REMARK,
    ),
    Table(
        "clip-guided-sam-clip",
        "How CLIP is read and tuned",
        f"{GUIDED_PAPER}, ablation, VOC 1/16",
        (
            _voc("plain CLIP, tuned along", 72.8, "clip=plain"),
            _voc("CLIP Surgery, frozen", 73.7, "clip_blocks=0"),
            _voc("CLIP Surgery, tuned along", 78.3),
        ),
        GUIDED_REMARK,
    ),
    Table(
        "clip-guided-sam-dense-prompt",
        "The dense prompt",
        f"{GUIDED_PAPER}, VOC 1/16",
        (
            _voc("points alone", 77.6, "dense_prompt=false"),
            _voc("points and dense prompt", 78.3),
        ),
        GUIDED_REMARK,
    ),
    Table(
        "sam-ptx",
        "SAM-PTx",
        PTX_PAPER,
        tuple(
            Row("SAM-PTx", on, tuned("sam-ptx", data, "full", mode=MANUAL), quoted)
            for on, data, quoted in (("COCO", COCO, 67.35), ("ADE20K", ADE20K, 71.38))
        ),
        "The paper has its own protocol, of which training images and clicks are not at hand: here "
        "the whole training part and five clicks, so a difference says little.",
    ),
    Table(
        "esc-net",
        "Open-vocabulary benchmarks",
        f"{ESC_PAPER}, main table",
        (
            *_open_vocabulary_rows(
                "CAT-Seg, ViT-B/16", "cat-seg", "base", (12.0, 19.0, 31.8, 57.5, 94.6, 77.3)
            ),
            *_open_vocabulary_rows(
                "ESC-Net, ViT-B/16", "esc-net", "base", (13.3, 21.1, 35.6, 59.0, 97.3, 80.1)
            ),
            *_open_vocabulary_rows(
                "CAT-Seg, ViT-L/14", "cat-seg", BASE_L, (16.0, 23.8, 37.9, 63.3, 97.0, 82.5)
            ),
            *_open_vocabulary_rows("ESC-Net, ViT-L/14", "esc-net", BASE_L, ESC_NET_L),
        ),
        f"{ESC_REMARK} CAT-Seg here is ESC-Net without SAM, not the published network.",
    ),
    Table(
        "esc-net-sam",
        "ESC-Net: SAM's part",
        f"{ESC_PAPER}, Table 2, CLIP ViT-L/14",
        (
            *_open_vocabulary_rows(
                "without SAM",
                "esc-net",
                BASE_L,
                (4.8, 11.7, 24.2, 50.4, 89.4, 74.8),
                "use_sam=false",
            ),
            *_open_vocabulary_rows(
                "SAM's blocks with random weights",
                "esc-net",
                BASE_L,
                (5.9, 15.8, 28.4, 55.9, 91.5, 77.2),
                "pretrained_sam=false",
            ),
            *_open_vocabulary_rows("SAM's blocks from SAM", "esc-net", BASE_L, ESC_NET_L),
        ),
        ESC_REMARK,
    ),
    Table(
        "esc-net-prompts",
        "ESC-Net: pseudo prompts",
        f"{ESC_PAPER}, Table 3, CLIP ViT-L/14",
        tuple(
            row
            for label, prompts, quoted in (
                ("points", "point", (15.2, 23.6, 37.8, 59.4, 96.7, 81.3)),
                ("boxes", "box", (14.3, 20.5, 33.5, 59.4, 96.5, 81.4)),
                ("boxes and masks", "box,mask", (17.0, 26.1, 39.9, 62.0, 97.1, 84.2)),
                ("points and masks", "point,mask", ESC_NET_L),
                ("points, boxes and masks", "point,box,mask", (17.6, 26.5, 41.9, 65.8, 98.0, 86.1)),
            )
            for row in _open_vocabulary_rows(label, "esc-net", BASE_L, quoted, f"prompts={prompts}")
        ),
        ESC_REMARK,
    ),
)

TABLES: dict[str, Table] = {table.name: table for table in _TABLES}
"""Every table by its name."""


def find_table(name: str) -> Table:
    """Return the table with a name.

    Raises:
        PromptError: there is none with that name.
    """
    if name not in TABLES:
        raise PromptError(f"There is no table “{name}”: choose from {', '.join(TABLES)}.")
    return TABLES[name]
