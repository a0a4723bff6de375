"""The whole page: theme, header and tabs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from .adapt.adapt_tab import AdaptTab
from .api import add_api
from .bundles import SessionBundles
from .compare.compare_tab import CompareTab
from .evaluate.evaluate_tab import EvaluateTab
from .events import FILED, MAX_RUNNING
from .image_store import ImageStore
from .inputs import Page
from .model_store import ModelStore
from .presence import OpenPages
from .zero_gpu import ON_ZERO_GPU

TITLE = "CLIP-guided SAM workbench"

COMPARE = "compare"
"""Id of the first tab."""

HOUR = 3600

MAX_QUEUE = 40
"""Requests in the queue; further ones are refused with a message."""

HEADER = f"""
<div class="title"><h1>{TITLE}</h1>
<p>See side by side which pixels each method assigns to your classes. The bundled <b>tiny</b> models
are a demonstration: their accuracy says nothing about a method.</p></div>
"""


def build_page(models: ModelStore, folders: Sequence[Path] = ()) -> gr.Blocks:
    """Build the page, ready for :func:`launch`.

    Args:
        models: the model cache; models are loaded when needed.
        folders: folders of labelled images on this machine that every user may evaluate on.
    """
    with Page(
        title=TITLE,
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(HOUR, HOUR),  # Uploaded files are read once: none is kept for longer.
    ) as page:
        gr.HTML(HEADER, elem_id="header")
        images = ImageStore()
        bundles = gr.State(SessionBundles(), delete_callback=SessionBundles.close)
        with gr.Tabs() as tabs:
            with gr.Tab("Compare", id=COMPARE):
                compare = CompareTab(models, bundles, images)
            with gr.Tab("Evaluate"):
                evaluate = EvaluateTab(models, bundles, folders)
            with gr.Tab("Adapt"):
                adapt = AdaptTab(models, bundles, images)
        compare.join(adapt)
        compare.open_links(page)
        evaluate.join(adapt)
        compare.open_cases_of(evaluate, tabs, COMPARE)
        add_api(models)
        if not ON_ZERO_GPU:  # there, nothing may load in this process
            page.load(compare.warm_up, **FILED)
    return page


def launch(page: gr.Blocks, **where: Any) -> tuple[Any, str, str]:
    """Serve a page with the workbench's theme, without external resources.

    Args:
        page: see :func:`build_page`.
        where: ``server_name``, ``server_port`` and other settings of ``gr.Blocks.launch``.
    """
    page.queue(max_size=MAX_QUEUE)
    pages = OpenPages()
    pages.sweep(page)
    return page.launch(
        theme=_theme(),
        css_paths=Path(__file__).parent / "page.css",
        footer_links=["api", "gradio", "settings"],
        max_file_size="200mb",
        mcp_server=True,
        max_threads=2 * MAX_RUNNING + 40,  # Requests that wait for their turn hold a thread.
        app_kwargs={"middleware": [Middleware(pages.around)]},
        **where,
    )


def _theme() -> gr.themes.Base:
    """Return the theme; it uses system fonts and downloads none.

    Texts contrast with what is behind them as WCAG 2.2 AA asks; Gradio's own hint texts and primary
    buttons do not.
    """
    return gr.themes.Default(
        primary_hue="teal",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ).set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_800",
    )
