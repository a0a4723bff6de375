"""A button that opens a panel over the page: a column elsewhere in the layout."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

_SCRIPT = Path(__file__).with_suffix(".js")


def fold_button(html: str, elem_id: str) -> gr.HTML:
    """Build the button.

    Args:
        html: with a ``<button aria-expanded="false" aria-controls="…">`` that names the id of the
            panel, a column of the class ``popover``.
        elem_id: of the component.
    """
    return gr.HTML(html, js_on_load=_SCRIPT.read_text(), apply_default_css=False, elem_id=elem_id)
