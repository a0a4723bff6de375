"""The workbench page as a program: ``clipsam-app``, or ``python app.py`` in a checkout."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from .model_store import ModelStore
from .page import build_page, launch


def main() -> None:
    """Build the workbench and serve it until interrupted."""
    parser = argparse.ArgumentParser(description="Serve the workbench page.")
    parser.add_argument("--host", default=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=os.environ.get("GRADIO_SERVER_PORT", "7860"))
    parser.add_argument(
        "--weights-gb",
        type=float,
        default=4.0,
        help="memory limit for weights in GB; above it, the least recently used method is unloaded",
    )
    parser.add_argument(
        "--data-folder",
        type=Path,
        action="append",
        default=[],
        help=(
            "repeatable: folder whose sub-folders with labelled images every visitor may "
            "evaluate on"
        ),
    )
    args = parser.parse_args()
    models = ModelStore(max_bytes=int(args.weights_gb * 2**30))
    try:
        launch(build_page(models, args.data_folder), server_name=args.host, server_port=args.port)
    except OSError:
        sys.exit(
            f"Cannot listen on {args.host}:{args.port}; the port may be in use. Choose another "
            "--port."
        )
