"""Errors whose message is one sentence for the user."""

from __future__ import annotations


class ClipsamError(ValueError):
    """Something that its user can set right; the message says what is wrong and what to do."""


class PromptError(ClipsamError):
    """A prompt, a method's or a preset's name, or a setting that cannot be used."""
