"""Errors that the user can correct."""

from __future__ import annotations


class ClipsamError(ValueError):
    """An error that the user can correct; the message is one sentence with cause and remedy."""


class PromptError(ClipsamError):
    """An invalid prompt, method, preset or setting."""
