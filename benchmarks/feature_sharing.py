"""What feature sharing saves: five methods on one image, against the same five one by one.

    python -m benchmarks.feature_sharing

Both are timed alternately in one run after a warm-up; the report gives medians, their spread and
the ratio. The predictions of both ways must be equal, or nothing is reported.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time

import numpy as np
import torch

import baselines  # noqa: F401 (registers)
import clipsam.methods  # noqa: F401 (registers)
from clipsam.data.scenes import SceneData
from clipsam.evaluation.runner import prompt_of
from clipsam.predictor import Options, load_predictor
from clipsam.scene import Scene
from clipsam.weights.backbones import load_backbones
from clipsam.weights.presets import TINY

RUNS = (
    ("sam", "manual"),
    ("clip-surgery-sam", "vanilla"),
    ("clip-surgery-sam", "dense-prompt"),
    ("clip-guided-sam", "semi-automatic"),
    ("clip-guided-sam", "manual"),
)


def main() -> None:
    """Time, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    backbones = load_backbones(TINY)
    predictors = {method: load_predictor(method, backbones) for method, _ in RUNS}
    sample = SceneData(1, seed=7)[0]
    prompt = prompt_of(sample, clicks=1, seed=0)

    def run(method: str, mode: str, scene: Scene) -> np.ndarray:
        prediction = predictors[method].predict(scene, prompt, Options(mode=mode))
        return np.stack([result.logits for result in prediction.results])

    def shared() -> list[np.ndarray]:
        scene = Scene(sample.image)
        return [run(method, mode, scene) for method, mode in RUNS]

    def separate() -> list[np.ndarray]:
        return [run(method, mode, Scene(sample.image)) for method, mode in RUNS]

    difference = max(abs(a - b).max() for a, b in zip(shared(), separate(), strict=True))
    if difference > 1e-4:
        raise SystemExit(f"shared and separate results differ by {difference:.2g}")
    times: dict[str, list[float]] = {"shared": [], "separate": []}
    for _ in range(args.repeats):
        for name, way in (("shared", shared), ("separate", separate)):
            start = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - start)
    ratio = statistics.median(times["shared"]) / statistics.median(times["separate"])
    threads = torch.get_num_threads()
    lines = [
        f"Preset tiny, {len(prompt.concepts)} classes, {threads} CPU threads, "
        f"{platform.machine()}, torch {torch.__version__}; {args.repeats} alternating repeats.",
        "",
        "| | median, s | min–max, s |",
        "|---|---|---|",
        *(
            f"| five methods, {name} | {statistics.median(values):.3f} | "
            f"{min(values):.3f}–{max(values):.3f} |"
            for name, values in times.items()
        ),
        "",
        f"Ratio shared / separate: {ratio:.2f}. Largest difference of logits: {difference:.1g}.",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
