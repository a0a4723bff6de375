"""The whole page: theme, header and tabs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from .compare import CompareTab
from .models import ModelStore

TITLE = "CLIP-guided SAM workbench"

HOUR = 3600

HEADER = f"""
<h1>{TITLE}</h1>
<p>Type what you look for; see side by side where each method finds it, and why. The bundled
<b>tiny</b> models are a demonstration, trained on drawn shapes and a few photographs: good enough
to try everything offline, not to judge a method by.</p>
"""


def build_page(models: ModelStore) -> gr.Blocks:
    """The page, ready for :func:`launch`.

    Args:
        models: what runs; may still be empty, they load when needed.
    """
    with gr.Blocks(
        title=TITLE,
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(HOUR, HOUR),  # Uploaded files are read once: none is kept for longer.
    ) as page:
        gr.HTML(HEADER, elem_id="header")
        compare = CompareTab(models)
        page.load(compare.warm_up, show_progress="hidden", api_visibility="private")
    return page


def launch(page: gr.Blocks, **where: Any) -> tuple[Any, str, str]:
    """Serve a page in the workbench's looks, with nothing fetched from elsewhere.

    Args:
        page: see :func:`build_page`.
        where: ``server_name``, ``server_port`` and other settings of ``gr.Blocks.launch``.
    """
    return page.launch(
        theme=_theme(),
        css_paths=Path(__file__).parent / "page.css",
        footer_links=["gradio", "settings"],
        max_file_size="200mb",
        **where,
    )


def _theme() -> gr.themes.Base:
    """Fonts of the reader's system: none is fetched."""
    return gr.themes.Default(
        primary_hue="teal",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
