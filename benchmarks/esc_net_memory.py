"""Peak memory of ESC-Net with 171 and with 847 classes, under one memory budget.

    python -m benchmarks.esc_net_memory

The network of ViT-L/14 at 336 pixels with random weights, one image, float32; each measurement in
a process of its own, so that none sees what another left in memory. On a GPU, 847 classes are also
taken as the method takes them, with a budget that comes from the card's free memory.
"""

from __future__ import annotations

import argparse
import platform
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.nn.functional as F

from clipsam.measure import PeakMemory, Stopwatch, free_memory, hardware
from clipsam.methods.esc_net import MEMORY_SHARE
from clipsam.models.clip import build_clip
from clipsam.models.esc_net import EscNet, EscNetConfig, classes_at_a_time
from clipsam.models.esc_net.chunking import MAX_MAPS, MAX_MAPS_ON_GPU, kept_bytes, working_bytes
from clipsam.models.sizes import ClipSizes
from clipsam.weights.presets import CLIP_L14

CLASSES = (171, 847)
"""Number of classes in COCO-Stuff and in A-847."""

GPU_LIMIT = 24_000
"""Limit for 847 classes on a GPU, MB in total."""

CLIP_L14_336 = replace(CLIP_L14, image_size=336)
RESULTS = Path(__file__).with_suffix(".md")


@dataclass(frozen=True)
class Case:
    """One forward pass.

    Attributes:
        clip, config: sizes of the network.
        classes: N_c.
        chunk: classes at a time.
        images: in the batch.
        device: of the network.
    """

    clip: ClipSizes
    config: EscNetConfig
    classes: int
    chunk: int
    images: int = 1
    device: str = "cpu"

    def estimate(self) -> float:
        """Estimate the peak above the weights, MB, as used to choose a chunk."""
        grid = self.config.grid(self.clip.patch_size)
        kept = self.classes * kept_bytes(self.config, grid)
        return self.images * (kept + self.chunk * working_bytes(self.config, grid)) / 1e6


@dataclass(frozen=True)
class Measured:
    """Peak memory in MB, of the GPU if it computes, otherwise of the process, and seconds.

    Attributes:
        loaded: in use once the network is there.
        peak: highest in use.
        seconds: of the image encoder and all classes.
    """

    loaded: float
    peak: float
    seconds: float


def measure(case: Case) -> Measured:
    """Run a case in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measure, case, torch.get_num_threads()).result()


@torch.inference_mode()
def _measure(case: Case, threads: int) -> Measured:
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    device = torch.device(case.device)
    network = EscNet(build_clip(case.clip), case.config).eval().to(device)
    side = case.config.image_size
    pixels = torch.randn(case.images, 3, side, side, device=device)
    text = torch.randn(case.classes, case.clip.projection_dim, device=device)
    text = F.normalize(text, dim=-1)
    memory = PeakMemory(device)
    loaded = memory.megabytes()
    watch = Stopwatch(device)
    with watch.step("all"):
        network(network.encode_image(pixels), text, case.chunk)
    return Measured(loaded, memory.megabytes(), watch.seconds["all"])


def main() -> None:
    """Measure, print and write a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=int, default=512, help="MB above the weights")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    lines = [
        f"Budget {args.budget} MB unless another is named; ESC-Net on ViT-L/14 at 336 pixels, "
        f"random weights, one image, float32; torch {torch.__version__}, {platform.machine()}. "
        "`make benchmark-memory`",
        "",
        "| | classes | at a time | peak above the weights, MB | estimated | total peak | s |",
        "|---|---|---|---|---|---|---|",
    ]
    failures, notes = [], []
    for device in map(torch.device, ("cpu", "cuda")):
        name = hardware(device) if device.type == "cpu" or torch.cuda.is_available() else ""
        if not name:
            lines.append("| GPU | | | not measured | | | |")
            notes.append(f"{CLASSES[1]} classes on a GPU within {GPU_LIMIT} MB: not measured.")
            continue
        added = []
        for classes in CLASSES:
            found, line = _row(name, device, classes, args.budget * 10**6)
            added.append(found.peak - found.loaded)
            lines.append(line)
        ratio = added[1] / added[0]
        notes.append(
            f"{name}: peak above the weights, {CLASSES[1]} / {CLASSES[0]} classes: {ratio:.2f}."
        )
        if ratio > 2:
            failures.append("more than twice the memory with more classes")
        if device.type == "cuda":
            budget = int(MEMORY_SHARE * free_memory(device))
            label = f"{name}, budget {budget / 1e6:.0f} MB"
            found, line = _row(label, device, CLASSES[1], budget, MAX_MAPS_ON_GPU)
            lines.append(line)
            notes.append(f"{CLASSES[1]} classes on a GPU: {found.peak:.0f} of {GPU_LIMIT} MB.")
            if found.peak > GPU_LIMIT:
                failures.append(f"more than {GPU_LIMIT} MB on a GPU")
    report = "\n".join([*lines, "", *notes]) + "\n"
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(report, encoding="utf-8")
    sys.stdout.write("\n" + report)
    if failures:
        raise SystemExit("; ".join(failures))


def _row(
    name: str, device: torch.device, classes: int, budget: int, most: int = MAX_MAPS
) -> tuple[Measured, str]:
    """Measure one number of classes under a budget in bytes, and format a row of the table."""
    config = EscNetConfig()
    grid = config.grid(CLIP_L14_336.patch_size)
    chunk = classes_at_a_time(config, grid, 1, classes, budget, most)
    case = Case(CLIP_L14_336, config, classes, chunk, device=str(device))
    found = measure(case)
    line = (
        f"| {name} | {classes} | {chunk} | {found.peak - found.loaded:.0f} | "
        f"{case.estimate():.0f} | {found.peak:.0f} | {found.seconds:.0f} |"
    )
    sys.stdout.write(line + "\n")
    return found, line


if __name__ == "__main__":
    main()
