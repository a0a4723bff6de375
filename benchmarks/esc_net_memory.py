"""Peak memory of ESC-Net with 171 and with 847 classes, under one memory budget.

    python -m benchmarks.esc_net_memory

The network of ViT-L/14 at 336 pixels with random weights, one image, float32; each measurement in
a process of its own, so that none sees what another left in memory.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.nn.functional as F

from clipsam.measure import PeakMemory, hardware
from clipsam.models.clip import ClipSizes, build_clip
from clipsam.models.esc_net import EscNet, EscNetConfig, classes_at_a_time
from clipsam.models.esc_net.chunking import kept_bytes, working_bytes
from clipsam.weights.presets import CLIP_L14

CLASSES = (171, 847)
"""Of COCO-Stuff and of A-847."""

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
        """Peak beside the weights, MB, as the choice of a chunk sees it."""
        grid = self.config.grid(self.clip.patch_size)
        kept = self.classes * kept_bytes(self.config, grid)
        return self.images * (kept + self.chunk * working_bytes(self.config, grid)) / 1e6


@dataclass(frozen=True)
class Measured:
    """Megabytes of the process (of the GPU, if it computes) and seconds.

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
    start = time.perf_counter()
    network(network.encode_image(pixels), text, case.chunk)
    peak = memory.megabytes()  # on a GPU, also waits for it
    return Measured(loaded, peak, time.perf_counter() - start)


def main() -> None:
    """Measure, print and write a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=int, default=512, help="MB beside the weights")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    config = EscNetConfig()
    grid = config.grid(CLIP_L14_336.patch_size)
    lines = [
        f"Budget {args.budget} MB; ESC-Net on ViT-L/14 at 336 pixels, random weights, one image, "
        f"float32; torch {torch.__version__}, {platform.machine()}. `make benchmark-memory`",
        "",
        "| | classes | at a time | peak beside the weights, MB | estimated | peak in all | s |",
        "|---|---|---|---|---|---|---|",
    ]
    ratios = []
    for device in ("cpu", "cuda"):
        if device == "cuda" and not torch.cuda.is_available():
            lines.append("| GPU | | | not measured | | | |")
            continue
        added = []
        for classes in CLASSES:
            chunk = classes_at_a_time(config, grid, 1, classes, args.budget * 10**6)
            case = Case(CLIP_L14_336, config, classes, chunk, device=device)
            found = measure(case)
            added.append(found.peak - found.loaded)
            lines.append(
                f"| {hardware(torch.device(device))} | {classes} | {chunk} | {added[-1]:.0f} | "
                f"{case.estimate():.0f} | {found.peak:.0f} | {found.seconds:.0f} |"
            )
            sys.stdout.write(lines[-1] + "\n")
        ratios.append(added[1] / added[0])
    text = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    lines += ["", f"Peak beside the weights, {CLASSES[1]} / {CLASSES[0]} classes: {text}."]
    report = "\n".join(lines) + "\n"
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(report, encoding="utf-8")
    sys.stdout.write("\n" + report)
    if max(ratios) > 2:
        raise SystemExit("more than twice the memory with more classes")


if __name__ == "__main__":
    main()
