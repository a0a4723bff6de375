"""Method cards: paper, training data, figures of the paper, and figures measured here."""

from __future__ import annotations

import re
from functools import cache
from html import escape
from pathlib import Path

from ..registry import METHODS, MethodInfo, find_info
from ..training.card import read_figures
from ..training.card_figures import RUNS
from ..weights.bundle import read_config
from ..weights.checkpoints import find_checkpoint
from ..weights.presets import Preset
from .choices import why_not

SHOWN_SETS = ("scenes, unseen pairs", "CamVid val", "COCO-100 val")
"""Data sets shown from the model card of a preset's bundles."""


def all_cards(preset: Preset) -> str:
    """Format the cards of all methods; open if none can run."""
    lines: dict[str, list[str]] = {"method": [], "baseline": []}
    missing = 0
    for info in METHODS.values():
        reason = why_not(info.id, preset)
        missing += bool(reason)
        style = " class='off'" if reason else ""
        why = f" <em>Not available: {escape(reason)}.</em>" if reason else ""
        lines[info.kind].append(
            f"<li{style}><b>{escape(info.name)}</b> ({escape(', '.join(info.modes))}): "
            f"{escape(info.summary)}{why}{_facts(info, preset)}</li>"
        )
    about = "About the methods: papers, training, figures"
    title = f"{about}; {missing} not available with {preset.name}" if missing else about
    opened = " open" if missing == len(METHODS) else ""
    return (
        f"<details{opened}><summary>{title}</summary>"
        f"<h4>The papers' methods</h4><ul>{''.join(lines['method'])}</ul>"
        f"<h4>Baselines</h4><ul>{''.join(lines['baseline'])}</ul></details>"
    )


def one_card(method: str, preset: Preset, bundle: Path | None = None) -> str:
    """Format the folded card of one method below a result.

    Args:
        method: its id.
        preset: preset of the run.
        bundle: weights trained in the session, if the run used them.
    """
    info = find_info(method)
    return (
        f"<details class='about'><summary>About {escape(info.name)}</summary>"
        f"<p>{escape(info.summary)}</p>{_facts(info, preset, bundle)}</details>"
    )


def _facts(info: MethodInfo, preset: Preset, bundle: Path | None = None) -> str:
    facts = {"Paper": _link(info.paper), "Training": escape(trained(info.id, preset, bundle))}
    if info.quoted:
        facts["Reported in the paper"] = f"{escape(info.quoted)}. With the published networks."
    if info.remark:
        facts["This implementation"] = escape(info.remark)
    figures = [] if bundle else measured(info.id, preset)
    if figures:
        facts[f"Measured here, {preset.name}"] = escape(
            f"class-wise mIoU in %: {'; '.join(figures)}."
        )
    return (
        "<dl>"
        + "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in facts.items())
        + ("</dl>")
    )


def trained(method: str, preset: Preset, bundle: Path | None = None) -> str:
    """Describe in one sentence what the method's own weights were trained on."""
    if not find_info(method).needs_training:
        extra_networks = " and ".join(one.repo for one in find_info(method).extra_networks(preset))
        return (
            f"No weights of its own; runs {extra_networks}."
            if extra_networks
            else "No weights of its own."
        )
    folder = bundle or find_checkpoint(preset.name, method)
    if not folder.is_dir():
        return "These weights were deleted." if bundle else f"Not trained for {preset.name}."
    training = read_config(folder)["training"]
    return f"{training['steps']} steps on {training['images']} images: {training['split']}."


def measured(method: str, preset: Preset) -> list[str]:
    """Return a method's figures from the card of the preset's bundles, by mode."""
    found = []
    for label, figures in _figures(find_checkpoint(preset.name, "README.md")).items():
        run = RUNS.get(label)
        if run is not None and run.method == method:
            clicks = f", {run.clicks} click{'s' if run.clicks > 1 else ''}" if run.clicks else ""
            values = ", ".join(f"{name} {figures[name]}" for name in SHOWN_SETS if name in figures)
            found.append(f"{run.mode}{clicks}: {values}")
    return found


@cache
def _figures(card: Path) -> dict[str, dict[str, str]]:
    return read_figures(card.read_text()) if card.is_file() else {}


def _link(paper: str) -> str:
    number = re.fullmatch(r"arXiv ([0-9.]+)", paper)
    if number is None:
        return escape(paper)
    address = f"https://arxiv.org/abs/{number[1]}"
    return f"<a href='{address}' target='_blank' rel='noopener'>{escape(paper)}</a>"
