"""Published weights that are not on this machine: offered, and fetched only when asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import gradio as gr

from ..errors import PromptError
from ..registry import methods
from ..weights.local_files import Download, locate
from ..weights.presets import Preset, find_preset
from ..weights.published import PublishedWeights

POLL = 0.3
"""Seconds between two looks at how far a download has come."""


def needed_weights(preset: Preset) -> dict[PublishedWeights, list[str]]:
    """The networks that a preset lacks on this machine, each with the methods that want it.

    Those of the preset itself, which every method wants, come first, with no names.
    """
    wanted: dict[PublishedWeights, list[str]] = {
        source: [] for source in preset.sources if locate(source) is None
    }
    for method in methods().values():
        for published in method.extra_networks(preset):
            if locate(published) is None:
                wanted.setdefault(published, []).append(method.info.name)
    return wanted


def get_ticked(preset: str, repos: Sequence[str], progress: Callable[..., None]) -> str:
    """Fetch what is ticked, and say what came of it.

    Args:
        preset: whose networks they are, or are to run beside.
        repos: the repositories ticked.
        progress: ``gr.Progress``, or what is called like it.

    Raises:
        PromptError: nothing is ticked.
        WeightsError: what went wrong; what has come so far is kept for the next attempt.
    """
    chosen = find_preset(preset)
    networks = [one for one in needed_weights(chosen) if one.repo in repos]
    if not networks:
        raise PromptError("Tick what you want to download.")
    progress(0, desc="Asking the hub")
    download = Download(chosen, networks)
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(download.run)
        while not job.done():
            wait([job], POLL)
            done = download.size - download.missing_bytes
            progress((done // 10**6, download.size // 10**6), desc="Downloading", unit="MB")
        job.result()
    return f"{', '.join(one.repo for one in networks)}: here, whole and as expected."


class Downloads:
    """What can be downloaded for a preset, as a list to tick and a button."""

    def __init__(self, preset: str) -> None:
        """Build it inside the ``gr.Blocks`` that is open.

        Args:
            preset: whose networks are offered at first.
        """
        fold, repos = _offer(preset)
        with gr.Accordion("Weights that can be downloaded", **fold, elem_id="downloads") as fold:
            self.fold = fold
            self.repos = gr.CheckboxGroup(
                **repos,
                label="From the Hugging Face hub",
                info="Nothing is ever downloaded unasked. A broken download goes on where it "
                "stopped.",
                elem_id="download-repos",
            )
            self.start = gr.Button("Download", size="sm", elem_id="download")
        self.message = gr.HTML(elem_id="download-message")

    def offer(
        self, preset: str, ticked: Sequence[str] | None = None
    ) -> dict[gr.blocks.Block, object]:
        """What the list shows for a preset.

        Args:
            preset: its name.
            ticked: repositories that stay ticked, in a fold that stays as it is; ``None`` begins
                anew, for another preset.
        """
        fold, repos = _offer(preset)
        if ticked is not None:
            del fold["open"]
            repos["value"] = [repo for _, repo in repos["choices"] if repo in ticked]
        return {self.fold: gr.Accordion(**fold), self.repos: gr.CheckboxGroup(**repos)}


def _offer(preset: str) -> tuple[dict[str, object], dict[str, object]]:
    """The fold, open where nothing can run without a download, and the list, ticked likewise."""
    wanted = needed_weights(find_preset(preset))
    own = [one.repo for one, names in wanted.items() if not names]
    choices = [(_title(one, names), one.repo) for one, names in wanted.items()]
    return {"open": bool(own), "visible": bool(choices)}, {"choices": choices, "value": own}


def _title(published: PublishedWeights, names: Sequence[str]) -> str:
    """One line: what it is, how large, under which terms, who wants it."""
    terms = f"{published.licence}, terms to be accepted" if published.gated else published.licence
    return f"{published.repo} · {published.megabytes:,} MB · {terms} · " + (
        f"for {', '.join(names)}" if names else "for every method"
    )
