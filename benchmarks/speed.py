"""Speed as ratios: every optimised path against the plain one, in one run, with the same results.

python -m benchmarks.speed                  # everything: an hour or two on two cores
    python -m benchmarks.speed --only encoder   # one section; the others keep their last figures
    python -m benchmarks.speed --device cuda    # on a GPU alone: minutes

Networks of the published sizes with random weights. Ways to one result are timed in turns after a
warm-up, in which they must agree within 1e-4, or nothing is reported.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from segment_anything import SamPredictor
from segment_anything.modeling import Sam
from torch import Tensor, nn
from transformers import SamConfig as TransformersSamConfig
from transformers import SamModel

from clipsam.data.readers import open_data
from clipsam.data.splits import some_images
from clipsam.data.synthetic import SceneData
from clipsam.encoded_image import EncodedImage
from clipsam.evaluation.metrics import class_wise_miou
from clipsam.evaluation.runner import MethodRun, evaluate
from clipsam.measure import hardware
from clipsam.methods.clip_guided_sam import ClipGuidedSamPredictor
from clipsam.methods.tuned_sam import TunedSamPredictor
from clipsam.models.clip import build_clip
from clipsam.models.image_encoder import encode_images
from clipsam.models.sam_model import build_sam
from clipsam.predictor import PredictOptions
from clipsam.registry import find_method, load_predictor
from clipsam.types import Concept, Prediction, Prompt
from clipsam.weights.backbones import (
    Backbones,
    assemble,
    load_backbones,
    made_for_bfloat16,
    read_tokenizer,
)
from clipsam.weights.checkpoints import find_checkpoint
from clipsam.weights.convert import sam_to_transformers
from clipsam.weights.presets import PRESETS, TINY, Preset

from .naive import NaiveClipGuidedSam, unread
from .timing import TOLERANCE, Measured, compare, timed

REPORT = Path(__file__).with_suffix(".md")
SIZE = (683, 1024)
"""(height, width) of the image."""
CLASSES = (1, 5, 20)
METHODS = (
    ("sam", "manual"),
    ("clip-surgery-sam", "vanilla"),
    ("clip-surgery-sam", "dense-prompt"),
    ("clip-surgery-sam-decoder", "semi-automatic"),
    ("sam-ptx", "manual"),
    ("clip-guided-sam", "semi-automatic"),
)
"""Methods in order; M methods are the first M of them."""
BATCH = 8
"""Images at a time on a GPU."""
LOOSE = ("ours, bfloat16", "ours, bfloat16, compiled")
"""Variants of lower precision."""


@dataclass(frozen=True)
class Conditions:
    """Conditions common to all sections.

    Attributes:
        preset: sizes of the networks.
        repeats: of each way; long rows get fewer.
        device: where the networks compute.
        photographs: folder with ``camvid/``, ``ccp/`` and ``coco100/``, or none.
        images: of each data set where accuracy is measured.
    """

    preset: Preset
    repeats: int
    device: torch.device
    photographs: Path
    images: int

    @property
    def on_gpu(self) -> bool:
        """Whether the networks compute on a GPU."""
        return self.device.type == "cuda"

    def fewer(self, share: int) -> int:
        """Return the repeats of a row that takes ``share`` times as long; all on a GPU."""
        return self.repeats if self.on_gpu else max(1, self.repeats // share)


def encoder(conditions: Conditions) -> list[str]:
    """Time plain SAM from one image to its embedding."""
    backbones = random_backbones(conditions.preset, conditions.device)
    image = picture(side=conditions.preset.sam.image_size)
    theirs = SamPredictor(backbones.sam)
    theirs.set_image(image)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].to(conditions.device)
    pixels = theirs.model.preprocess(pixels)

    def predictor() -> Tensor:
        theirs.set_image(image)
        return theirs.features

    ways: dict[str, Callable[[], Tensor]] = {"segment_anything, `SamPredictor`": predictor}
    for attention in ("eager", "sdpa"):
        other = transformers_sam(backbones.sam, conditions.preset, attention).to(conditions.device)
        ways[f"transformers, `SamModel` {attention}"] = lambda other=other: (
            other.get_image_embeddings(pixels)
        )
    ways["ours"] = lambda: EncodedImage(image).sam_embedding(backbones)
    halves = replace(backbones, bfloat16=True)
    ways["ours, bfloat16"] = lambda: EncodedImage(image).sam_embedding(halves)
    if conditions.on_gpu:
        compiled = replace(halves, compiled=True)
        ways["ours, bfloat16, compiled"] = lambda: EncodedImage(image).sam_embedding(compiled)
    found = compare(ways, conditions.repeats, conditions.device, LOOSE)
    return table(found, against=("ours",))


def guided(conditions: Conditions, last_blocks: int | None, classes: int) -> list[str]:
    """Time CLIP-Guided SAM with class names alone, against recomputing everything per class."""
    backbones = random_backbones(conditions.preset, conditions.device)
    design = ClipGuidedSamPredictor.design(conditions.preset)
    design = replace(design, adapters=replace(design.adapters, last_blocks=last_blocks))
    ours = ClipGuidedSamPredictor(backbones, design)
    disturb(ours.model)
    naive = NaiveClipGuidedSam(backbones, design)
    naive.model = ours.model
    prompt, image = names(classes), picture()

    def run(predictor: TunedSamPredictor) -> Tensor:
        return logits(
            predictor.predict(EncodedImage(image), prompt, PredictOptions(mode="semi-automatic"))
        )

    def cold(bfloat16: bool) -> Tensor:  # as if just loaded
        ours.backbones = replace(unread(backbones), bfloat16=bfloat16)
        return run(ours)

    ways = {"naive": lambda: run(naive), "ours": lambda: cold(bfloat16=False)}
    if made_for_bfloat16(conditions.device):
        ways["ours, bfloat16"] = lambda: cold(bfloat16=True)
    repeats = conditions.fewer(classes)
    found = compare(ways, repeats, conditions.device, LOOSE)
    return table(found, against=tuple(ways)[1:])


def click(conditions: Conditions) -> list[str]:
    """Time new points after the first result, against a full run; five classes."""
    backbones = random_backbones(conditions.preset, conditions.device)
    predictor = ClipGuidedSamPredictor.untrained(backbones)
    disturb(predictor.model)
    image, options = picture(), PredictOptions(mode="manual")

    def asked(first: float, others: float) -> Prompt:
        """Return five classes, each with a point in its column."""
        pairs = zip(names(5).concepts, [first] + 4 * [others], strict=True)
        return Prompt(tuple(replace(one, points=[[x, 300.0]], labels=[1]) for one, x in pairs))

    known, new = EncodedImage(image), asked(200.0, 200.0)

    def after(earlier: Prompt) -> Callable[[], Tensor]:
        answer = predictor.predict(known, earlier, options)
        return lambda: logits(predictor.predict(known, new, options, earlier=answer))

    ways = {
        "full run": lambda: logits(predictor.predict(EncodedImage(image), new, options)),
        "new click": after(asked(500.0, 200.0)),
        "new click on every class": after(asked(500.0, 500.0)),
    }
    full, *clicks = compare(ways, conditions.fewer(2), conditions.device)
    shares = "; ".join(f"{one.name} {one.median / full.median:.2%}" for one in clicks)
    lines = table([full, *clicks], against=("new click",))
    return [*lines, "", f"Share of a full run: {shares}."]


def methods(conditions: Conditions) -> list[str]:
    """Time six methods on one new image and class, against each on its own."""
    backbones = random_backbones(conditions.preset, conditions.device)
    predictors = {}
    for method, _ in METHODS:
        if method not in predictors:
            predictors[method] = find_method(method).untrained(backbones)
            if isinstance(predictors[method], TunedSamPredictor):
                disturb(predictors[method].model)
    concept = Concept(("a red disc",), points=[[500.0, 300.0]], labels=[1])
    image, prompt = picture(), Prompt((concept,))

    def new() -> tuple[
        EncodedImage, Backbones
    ]:  # as if neither picture nor class had been seen before
        return EncodedImage(image), unread(backbones)

    def run(method: str, mode: str, encoded: EncodedImage, known: Backbones) -> Tensor:
        predictors[method].backbones = known
        return logits(predictors[method].predict(encoded, prompt, PredictOptions(mode=mode)))

    times: dict[str, list[list[float]]] = {"shared": [], "separate": []}
    answers: dict[str, Tensor] = {}
    for _ in range(1 + conditions.fewer(2)):  # once to warm up
        for way, seconds in times.items():
            shared, steps, found = new(), [], []
            for method, mode in METHODS:
                own = shared if way == "shared" else new()
                start = time.perf_counter()
                found.append(run(method, mode, *own))
                steps.append(time.perf_counter() - start)
            seconds.append(steps)
            answers[way] = torch.cat(found)
    difference = (answers["shared"] - answers["separate"]).abs().max().item()
    if not difference <= TOLERANCE:
        raise SystemExit(f"shared and separate results differ by {difference:.2g}")
    sums = {way: np.cumsum(times[way][1:], axis=1) for way in times}
    lines = [
        "| M | and | shared, s | separate, s | shared / separate | min–max of the ratio |",
        "|---|---|---|---|---|---|",
    ]
    for index, (method, mode) in enumerate(METHODS):
        shared, separate = (np.median(sums[way][:, index]) for way in times)
        ratios = sums["shared"][:, index] / sums["separate"][:, index]
        lines.append(
            f"| {index + 1} | {method}, {mode} | {shared:.2f} | {separate:.2f} | "
            f"{shared / separate:.2f} | {ratios.min():.2f}–{ratios.max():.2f} |"
        )
    repeats = counted(len(times["shared"]) - 1, "repeat")
    return [*lines, "", f"{repeats}. Largest difference of logits: {difference:.1g}."]


def accuracy(conditions: Conditions) -> list[str]:
    """Measure the effect of bfloat16 encoders on the tiny preset's class-wise mIoU."""
    runs = (
        MethodRun("sam", "manual", 5),
        MethodRun("clip-surgery-sam", "dense-prompt"),
        MethodRun("clip-guided-sam", "semi-automatic"),
        MethodRun("clip-guided-sam", "manual", 5),
    )
    data = {"scenes": f"scenes:{conditions.images}"}
    for name in ("camvid", "ccp"):
        if (conditions.photographs / name).is_dir():
            data[name] = f"folder:{conditions.photographs / name}"
    backbones = {
        name: load_backbones(TINY, conditions.device, precision=name)
        for name in ("float32", "bfloat16")
    }
    lines = ["| data | run | float32 | bfloat16 | change, points |", "|---|---|---|---|---|"]
    changes = []
    for name, spec in data.items():
        opened = open_data(spec, "val")
        opened = some_images(opened, min(conditions.images, len(opened)))
        found = [
            evaluate(
                opened,
                {run.method: load_predictor(run.method, own) for run in runs},
                runs,
                seeds=range(3),
            )
            for own in backbones.values()
        ]
        for run in runs:
            exact, halves = (
                100 * statistics.mean(class_wise_miou(scores[run, seed]) for seed in range(3))
                for scores in found
            )
            changes.append(halves - exact)
            lines.append(
                f"| {name}, {len(opened)} images | {run.method}, {run.mode} | {exact:.2f} | "
                f"{halves:.2f} | {halves - exact:+.2f} |"
            )
    mean, largest = statistics.mean(changes), max(changes, key=abs)
    return [*lines, "", f"Mean change {mean:+.2f} points, largest {largest:+.2f}; 3 seeds."]


def batch(conditions: Conditions) -> list[str]:
    """Measure images per second on a GPU, and the share of its peak in matrix products."""
    device = conditions.device
    backbones = random_backbones(conditions.preset, device)
    side = conditions.preset.sam.image_size
    images = torch.randn(BATCH, 3, side, side, device=device)
    own = backbones.sam.image_encoder

    @torch.inference_mode()
    def ours(bfloat16: bool, compiled: bool = False) -> Tensor:
        with replace(backbones, bfloat16=bfloat16).encoding():
            return encode_images(own, images, compiled).float()

    ways = {
        "segment_anything, eager float32": torch.inference_mode()(lambda: own(images)),
        "ours, float32": lambda: ours(bfloat16=False),
        "ours, bfloat16": lambda: ours(bfloat16=True),
        "ours, bfloat16, compiled": lambda: ours(bfloat16=True, compiled=True),
    }
    found = compare(ways, conditions.repeats, device, LOOSE)
    ceiling, products = matmul_rate(device), BATCH * encoder_products(conditions.preset)
    reached = f"Matrix products of 8192 in bfloat16 reach {ceiling / 1e12:.0f} Tflop/s."
    lines = [*table(found, against=LOOSE), "", reached]
    for one in found:
        share = f" ({products / one.median / ceiling:.0%} of that)" if one.name in LOOSE else ""
        rate = f"{products / one.median / 1e12:.0f} Tflop/s{share}"
        lines.append(f"- {one.name}: {BATCH / one.median:.1f} images/s, {rate}")
    return lines


def matmul_rate(device: torch.device) -> float:
    """Measure the operations per second of the best of ten large bfloat16 products."""
    a = torch.randn(8192, 8192, device=device, dtype=torch.bfloat16)
    seconds = min(timed(lambda: a @ a, device) for _ in range(10))
    return 2 * 8192**3 / seconds


def encoder_products(preset: Preset) -> float:
    """Count the operations of one image's matrix products in SAM's encoder, without padding."""
    sam = preset.sam
    tokens, dim = (sam.image_size // sam.patch_size) ** 2, sam.embed_dim
    attended = len(sam.global_blocks) * tokens
    attended += (sam.depth - len(sam.global_blocks)) * sam.window_size**2
    return 2 * tokens * dim * (12 * sam.depth * dim + 2 * attended + 3 * sam.patch_size**2)


@dataclass(frozen=True)
class Section:
    """A table of the report.

    Attributes:
        title: what is timed.
        measure: gives its lines.
        devices: where it is measured.
    """

    title: str
    measure: Callable[[Conditions], list[str]]
    devices: tuple[str, ...] = ("cpu", "cuda")


SECTIONS: dict[str, Section] = {
    "encoder": Section("SAM's encoder, one image", encoder),
    "batch": Section(f"SAM's encoder, {BATCH} images at a time", batch, ("cuda",)),
    **{
        f"guided-{label}-{count}": Section(
            f"CLIP-Guided SAM, {label}, {count} class{'' if count == 1 else 'es'}",
            lambda conditions, blocks=blocks, count=count: guided(conditions, blocks, count),
        )
        for label, blocks in (("all-blocks", None), ("last-4-blocks", 4))
        for count in CLASSES
    },
    "click": Section("A new click, CLIP-Guided SAM, five classes", click),
    "methods": Section("Several methods on one image, one class", methods),
    "accuracy": Section("What bfloat16 costs: mIoU in %, preset tiny", accuracy, ("cpu",)),
}


def main() -> None:
    """Run the requested sections, and write all results so far."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=SECTIONS, help="repeatable")
    parser.add_argument("--missing", action="store_true", help="only what has no figures yet")
    parser.add_argument("--preset", default="base", help="for example huge-sam: SAM ViT-H")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="not both")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--images", type=int, default=50, help="where accuracy is measured")
    parser.add_argument("--photographs", type=Path, default=Path("../shared/data"))
    parser.add_argument(
        "--out", type=Path, default=REPORT, help="its figures lie beside it as JSON"
    )
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no GPU here")
    # What is called float32 here is float32, in convolutions too.
    torch.backends.cudnn.allow_tf32 = False
    kept = args.out.with_suffix(".json")
    results = json.loads(kept.read_text()) if kept.exists() else {}
    devices = [args.device] if args.device else ["cpu"] + ["cuda"] * torch.cuda.is_available()
    for name in args.only or ():
        if not set(devices) & set(SECTIONS[name].devices):
            parser.error(f"{name} is measured on {SECTIONS[name].devices[0]} alone")
    for device, name in product(devices, args.only or SECTIONS):
        key = f"{args.preset}/{name}/{device}"
        if device not in SECTIONS[name].devices or (args.missing and key in results):
            continue
        sys.stderr.write(f"{key}\n")
        conditions = Conditions(
            PRESETS[args.preset],
            args.repeats,
            torch.device(device),
            args.photographs,
            args.images,
        )
        lines = SECTIONS[name].measure(conditions)
        where = f"{hardware(conditions.device)}, torch {torch.__version__}"
        results[key] = {"measured": where, "lines": lines}
        args.out.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
        args.out.write_text(report(results))
        sys.stdout.write("\n".join(lines) + "\n")


def report(results: Mapping[str, dict]) -> str:
    """Format all measured sections in order."""
    lines = [
        "# Speed",
        "",
        "Written by `python -m benchmarks.speed`. Random weights, float32 unless said, a picture",
        f"of {SIZE[1]} × {SIZE[0]}. Each table was measured in one run, in turns after a warm-up;",
        "*difference* is the largest absolute one from the first row's result, *memory* what was",
        "in use at the peak beyond what was before.",
    ]
    for device, heading in (("cpu", "On a CPU"), ("cuda", "On a GPU")):
        lines += ["", f"## {heading}"]
        found = {
            (preset, name): results.get(f"{preset}/{name}/{device}")
            for preset, name in product(PRESETS, SECTIONS)
        }
        found = {key: section for key, section in found.items() if section is not None}
        if not found:
            lines += ["", "Not measured."]
        for (preset, name), section in found.items():
            lines += ["", f"### {SECTIONS[name].title} (`{preset}`)", ""]
            lines += [f"{section['measured']}.", "", *section["lines"]]
        for preset in dict.fromkeys(preset for preset, _ in found):
            missing = [
                f"`{name}`"
                for name, section in SECTIONS.items()
                if device in section.devices and (preset, name) not in found
            ]
            if missing:
                lines += ["", f"Not measured there with `{preset}`: {', '.join(missing)}."]
    return "\n".join(lines) + "\n"


def table(found: list[Measured], against: tuple[str, ...]) -> list[str]:
    """Format the rows of one comparison, with each one's time relative to ``against``."""
    ours = {one.name: one.median for one in found if one.name in against}
    repeats = counted(len(found[0].seconds), "repeat")
    columns = "".join(f" {name} is × faster |" for name in ours)
    lines = [
        f"| {repeats} | median, s | min–max, s |{columns} memory, MB | difference |",
        "|---" * (5 + len(ours)) + "|",
    ]
    for one in found:
        ratios = "".join(f" {one.median / median:.2f} |" for median in ours.values())
        lines.append(
            f"| {one.name} | {one.median:.3f} | {min(one.seconds):.3f}–{max(one.seconds):.3f} |"
            f"{ratios} {one.peak_mb:,.0f} | {one.difference:.1g} |"
        )
    return lines


def counted(count: int, noun: str) -> str:
    """Format a number with its noun."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def random_backbones(preset: Preset, device: torch.device | str = "cpu") -> Backbones:
    """Build a preset's networks with non-zero random weights, and tiny's tokenizer."""
    torch.manual_seed(0)
    sam, clip = build_sam(preset.sam), build_clip(preset.clip)
    with torch.no_grad():
        for parameter in sam.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    tokenizer = read_tokenizer(find_checkpoint("tiny", "clip") / "tokenizer.json")
    return assemble(preset, sam, clip, tokenizer, device=device, precision="float32")


def disturb(model: nn.Module) -> None:
    """Add noise to a method's own weights, so that an initial zero hides nothing."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.image_encoder.parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data += 0.01 * noise.to(parameter.device)


def transformers_sam(sam: Sam, preset: Preset, attention: str) -> SamModel:
    """Compute the same SAM with transformers."""
    sizes = preset.sam
    square = dict(image_size=sizes.image_size, patch_size=sizes.patch_size)
    vision = dict(
        hidden_size=sizes.embed_dim,
        num_hidden_layers=sizes.depth,
        num_attention_heads=sizes.num_heads,
        global_attn_indexes=list(sizes.global_blocks),
        window_size=sizes.window_size,
        **square,
    )
    config = TransformersSamConfig(
        vision_config=vision, prompt_encoder_config=square, attn_implementation=attention
    )
    other = SamModel(config).eval().requires_grad_(False)
    other.load_state_dict(sam_to_transformers(sam.state_dict()), strict=False)
    other.tie_weights()
    return other


def picture(side: int | None = None) -> np.ndarray:
    """Draw a synthetic scene, enlarged; a square one with ``side``."""
    image = SceneData(1, seed=7)[0].image
    height, width = (side, side) if side else SIZE
    rows, columns = (np.arange(n) * image.shape[i] // n for i, n in enumerate((height, width)))
    return np.ascontiguousarray(image[rows][:, columns])


def names(count: int) -> Prompt:
    """Return a number of class names."""
    return Prompt(tuple(Concept((f"class number {index}",)) for index in range(count)))


def logits(prediction: Prediction) -> Tensor:
    """Return logits (C, 4h, 4w), at SAM's own resolution."""
    return torch.from_numpy(np.stack([result.logits for result in prediction.results]))


if __name__ == "__main__":
    main()
