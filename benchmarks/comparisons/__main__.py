"""``python -m benchmarks.comparisons``: the papers' comparisons on the tiny preset.

Resumable: trials that have a result are not run again.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from .report import write_report
from .run import run_all


def main() -> None:
    """Run the missing trials, then write the report of all results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.comparisons", description=__doc__)
    parser.add_argument(
        "--photographs", type=Path, required=True, help="folder with camvid/, ccp/ and coco100/"
    )
    parser.add_argument("--work", type=Path, default=Path("runs/comparisons"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="trials at a time")
    parser.add_argument("--report-only", action="store_true", help="run nothing")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if not args.report_only:
        run_all(args.photographs, args.work, args.jobs)
    write_report(args.work, args.out)


if __name__ == "__main__":
    main()
