"""Downloads of published weights, started only by the user."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import gradio as gr

from ..errors import PromptError
from ..registry import METHODS
from ..weights.download import Download
from ..weights.local_files import locate
from ..weights.presets import Preset, find_preset
from ..weights.published import PublishedWeights

POLL = 0.3
"""Interval between progress updates of a download, seconds."""


def needed_weights(preset: Preset) -> dict[PublishedWeights, list[str]]:
    """List the networks that a preset lacks on this machine, each with the methods that use it.

    The networks of the preset itself come first; all methods use them, so none is named.
    """
    wanted: dict[PublishedWeights, list[str]] = {
        source: [] for source in preset.sources if locate(source) is None
    }
    for method in METHODS.values():
        for published in method.extra_networks(preset):
            if locate(published) is None:
                wanted.setdefault(published, []).append(method.name)
    return wanted


def download_selected(preset: str, repos: Sequence[str], progress: Callable[..., None]) -> str:
    """Download the selected weights and report the result.

    Args:
        preset: the preset of the networks, or of the SAM and CLIP that they are used with.
        repos: the selected repositories.
        progress: ``gr.Progress``, or a callable like it.

    Raises:
        PromptError: nothing is selected.
        WeightsError: the download failed; its finished part is kept for the next attempt.
    """
    chosen = find_preset(preset)
    networks = [one for one in needed_weights(chosen) if one.repo in repos]
    if not networks:
        raise PromptError("Select what to download.")
    progress(0, desc="Contacting the hub")
    download = Download(chosen, networks)
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(download.run)
        while not job.done():
            wait([job], POLL)
            done = download.size - download.missing_bytes
            progress((done // 10**6, download.size // 10**6), desc="Downloading", unit="MB")
        job.result()
    return f"Downloaded and verified: {', '.join(one.repo for one in networks)}."


class Downloads:
    """List of the weights that can be downloaded for a preset, with a button."""

    def __init__(self, preset: str) -> None:
        """Build the panel inside the open ``gr.Blocks``.

        Args:
            preset: the initial preset.
        """
        shown, repos = _offer(preset)
        self.fold = gr.Accordion("Weights available for download", **shown, elem_id="downloads")
        with self.fold:
            self.repos = gr.CheckboxGroup(
                **repos,
                label="From the Hugging Face hub",
                info="Nothing is downloaded without your request. An interrupted download resumes.",
                elem_id="download-repos",
            )
            self.start = gr.Button("Download", size="sm", elem_id="download")
        self.message = gr.HTML(elem_id="download-message")

    def offer(
        self, preset: str, selected: Sequence[str] | None = None
    ) -> dict[gr.blocks.Block, object]:
        """Update the list for a preset.

        Args:
            preset: its name.
            selected: repositories that stay selected, in an accordion that stays as it is; ``None``
                resets both, for another preset.
        """
        fold, repos = _offer(preset)
        if selected is not None:
            del fold["open"]
            repos["value"] = [repo for _, repo in repos["choices"] if repo in selected]
        return {self.fold: gr.Accordion(**fold), self.repos: gr.CheckboxGroup(**repos)}


def _offer(preset: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the accordion, open if no method can run without a download, and the list."""
    wanted = needed_weights(find_preset(preset))
    own = [one.repo for one, names in wanted.items() if not names]
    choices = [(_title(one, names), one.repo) for one, names in wanted.items()]
    return {"open": bool(own), "visible": bool(choices)}, {"choices": choices, "value": own}


def _title(published: PublishedWeights, names: Sequence[str]) -> str:
    """Describe a network in one line: name, size, licence, and methods that use it."""
    terms = f"{published.licence}, terms must be accepted" if published.gated else published.licence
    return f"{published.repo} · {published.megabytes:,} MB · {terms} · " + (
        f"for {', '.join(names)}" if names else "for every method"
    )
