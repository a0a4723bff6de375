"""CPU time of starting, as multiples of importing torch alone.

    python -m benchmarks.startup

Each way starts a fresh Python process; all ways take turns, and the figures are medians.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).with_suffix(".md")

TORCH = "import torch"

WAYS = {
    TORCH: ["-c", TORCH],
    "from transformers import CLIPModel": ["-c", "from transformers import CLIPModel"],
    "import clipsam": ["-c", "import clipsam"],
    "import clipsam; clipsam.load": ["-c", "import clipsam; clipsam.load"],
    "clipsam --help": ["-m", "clipsam", "--help"],
    "clipsam methods": ["-m", "clipsam", "methods"],
}
"""Python arguments of each variant, by its label."""


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(args.repeats):
        for name, arguments in WAYS.items():
            seconds[name].append(_cpu_seconds(arguments))
    text = _report({name: statistics.median(values) for name, values in seconds.items()})
    RESULTS.write_text(text)
    sys.stdout.write(text)


def _cpu_seconds(arguments: list[str]) -> float:
    """Measure the user and system time of a Python process, seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _report(seconds: dict[str, float]) -> str:
    lines = [
        "# Starting",
        "",
        "CPU time of a fresh process, as a multiple of importing torch alone, medians; written by",
        "`python -m benchmarks.startup`. Python itself is in all of them.",
        "",
        f"| | × `{TORCH}` |",
        "|---|---|",
        *(f"| `{name}` | {value / seconds[TORCH]:.2f} |" for name, value in seconds.items()),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
