"""Sentences that the page says to its user, and what events give back."""

from __future__ import annotations

from html import escape

import gradio as gr

Updates = dict[gr.blocks.Block, object]
"""What an event changes: new values by component."""


def problem(sentence: str) -> str:
    """What went wrong and what would be right; read out by screen readers at once."""
    return f"<p class='problem' role='alert'>{escape(sentence)}</p>"


def note(sentence: str) -> str:
    """What is now so."""
    return f"<p class='note' role='status'>{escape(sentence)}</p>"
