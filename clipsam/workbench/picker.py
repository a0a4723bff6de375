"""Selection of preset and methods, and downloads of weights."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ..errors import ClipsamError
from ..types import Prompt
from ..weights.presets import PRESETS, find_preset
from .bundles import SessionBundles
from .choices import CLICK_KEYS, DEFAULT_KEYS, MethodChoice, all_choices
from .downloads import Downloads, download_selected
from .events import LATEST, PRIVATE, Updates, Values, note, problem
from .fold import fold_button
from .method_cards import all_cards

DEFAULT_PRESET = "tiny"

GROUPS = {False: "Prompted by class names", True: "Prompted by points or boxes (in every class)"}
"""Titles of the groups of methods by whether they need marks."""

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Selection:
    """The selected methods.

    Attributes:
        keys: of the choices.
        by_hand: whether the user selected them; if not, they are the default ones, which
            :meth:`follow` the points and boxes.
    """

    keys: tuple[str, ...] = DEFAULT_KEYS
    by_hand: bool = False

    @classmethod
    def read(cls, value: object) -> Selection:
        """Read the value of the list of methods; what is invalid selects nothing."""
        fields = value if isinstance(value, dict) else {}
        keys = fields.get("keys")
        keys = keys if isinstance(keys, list) else []
        return cls(
            tuple(key for key in keys if isinstance(key, str)), bool(fields.get("by_hand", True))
        )

    @property
    def value(self) -> dict[str, object]:
        """Value of the list of methods."""
        return {"keys": list(self.keys), "by_hand": self.by_hand}

    def follow(self, prompt: Prompt | None) -> Selection:
        """Return the selection for a prompt: methods that need marks join the default ones.

        Args:
            prompt: ``None`` if there is none yet.
        """
        if self.by_hand:
            return self
        marked = prompt is not None and all(one.has_user_prompt for one in prompt.concepts)
        return Selection((*DEFAULT_KEYS, *CLICK_KEYS) if marked else DEFAULT_KEYS)


class MethodPicker:
    """Preset, downloads, methods to select, and a description of each method.

    The methods are folded to one line, which opens as a list with a search field.

    Attributes:
        preset: the preset's name.
        methods: the list; its value is that of a :class:`Selection`.
    """

    def __init__(self, bundles: gr.State) -> None:
        """Build the panel inside the open ``gr.Blocks``.

        Args:
            bundles: bundles trained in the session.
        """
        self._bundles = bundles
        with gr.Column(elem_id="methods", scale=5, min_width=220):
            fold_button((_HERE / "method_fold.html").read_text(), "methods-fold")
            with gr.Column(elem_id="methods-panel", elem_classes="popover"):
                self.methods = gr.HTML(
                    value=Selection().value,
                    html_template=(_HERE / "method_list.html").read_text(),
                    js_on_load=(_HERE / "method_list.js").read_text(),
                    apply_default_css=False,
                    elem_id="methods-list",
                    groups=_groups(SessionBundles(), DEFAULT_PRESET),
                    defaults=list(DEFAULT_KEYS),
                )
                self._downloads = Downloads(DEFAULT_PRESET)
                self._note = gr.HTML(all_cards(find_preset(DEFAULT_PRESET)), elem_id="methods-note")
        self.preset = preset_dropdown(None, "preset", scale=3, min_width=150)
        self._connect()

    @property
    def inputs(self) -> set[gr.blocks.Block]:
        """The components whose values the methods here take."""
        return {self._bundles, self.preset, self.methods}

    @property
    def offered(self) -> list[gr.blocks.Block]:
        """The components that depend on the preset."""
        downloads = self._downloads
        return [self.methods, self._note, downloads.message, downloads.fold, downloads.repos]

    def _connect(self) -> None:
        downloads, shown = self._downloads, self.offered
        self.preset.change(
            self.take_preset,
            self.inputs,
            shown,
            **LATEST,
        )
        downloads.start.click(
            self.download,
            {*self.inputs, downloads.repos},
            shown,
            concurrency_id="download",
            concurrency_limit=1,
            show_progress_on=[downloads.message],
            **PRIVATE,
        )

    def chosen(self, values: Values, prompt: Prompt | None) -> tuple[MethodChoice, ...]:
        """Return the selected methods in the order of the list.

        Args:
            values: of :attr:`inputs`.
            prompt: which default methods may join for, if it can be read.
        """
        keys = Selection.read(values[self.methods]).follow(prompt).keys
        some = ready(values[self._bundles], values[self.preset])
        return tuple(choice for choice in some if choice.key in keys)

    def follow(self, values: Values, prompt: Prompt | None) -> object:
        """Return an update of the list for another prompt; none if nothing changes."""
        before = Selection.read(values[self.methods])
        keys = tuple(choice.key for choice in self.chosen(values, prompt))
        if before.by_hand or {*before.keys} == {*keys}:
            return gr.skip()
        return gr.HTML(value=Selection(keys).value)

    def take_preset(self, values: Values) -> Updates:
        """Update everything that depends on the preset."""
        selection = Selection.read(values[self.methods])
        return self._offer(values[self._bundles], values[self.preset], selection)

    def take_bundle(self, values: Values) -> Updates:
        """Offer the most recently trained bundle and select it in addition."""
        bundles: SessionBundles = values[self._bundles]
        new = {choice.key for choice in bundles.kept[-1].choices} if bundles.kept else set()
        keys = Selection.read(values[self.methods]).keys
        return self.offer(bundles, values[self.preset], {*keys, *new})

    def offer(self, bundles: SessionBundles, preset: str, selected: Collection[str]) -> Updates:
        """Update methods and downloads for a preset, selecting some where possible."""
        defaults = {*DEFAULT_KEYS}, {*DEFAULT_KEYS, *CLICK_KEYS}
        by_hand = {*selected} not in defaults
        return self._offer(bundles, preset, Selection(tuple(selected), by_hand))

    def _offer(self, bundles: SessionBundles, preset: str, selection: Selection) -> Updates:
        return {
            self._downloads.message: "",
            **self._downloads.offer(preset),
            **self._offer_methods(bundles, preset, selection),
        }

    def download(
        self,
        values: Values,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio knows it by this default)
    ) -> Updates:
        """Download the selected weights and update the methods that can run now."""
        preset, repos = values[self.preset], values[self._downloads.repos]
        try:
            said = note(download_selected(preset, repos, progress))
        except ClipsamError as error:
            said = problem(str(error))
        selection = Selection.read(values[self.methods])
        return {
            self._downloads.message: said,
            **self._downloads.offer(preset, repos),
            **self._offer_methods(values[self._bundles], preset, selection),
        }

    def _offer_methods(self, bundles: SessionBundles, preset: str, selection: Selection) -> Updates:
        """Update the methods, selecting the default ones if none of the selected can run."""
        can_run = {choice.key for choice in ready(bundles, preset)}
        if can_run.isdisjoint(selection.keys):
            selection = Selection()
        kept = tuple(key for key in selection.keys if key in can_run)
        selection = Selection(kept, selection.by_hand)
        return {
            self.methods: gr.HTML(value=selection.value, groups=_groups(bundles, preset)),
            self._note: all_cards(find_preset(preset)),
        }


def _groups(bundles: SessionBundles, preset: str) -> list[dict[str, Any]]:
    """Describe the methods for the list, grouped by what prompts them."""
    chosen, every = find_preset(preset), all_offered(bundles, preset)
    groups = []
    for needs_marks, title in GROUPS.items():
        lines = [
            {
                "key": choice.key,
                "title": choice.title,
                "summary": choice.summary,
                "problem": choice.problem(chosen),
            }
            for choice in every
            if choice.needs_marks == needs_marks
        ]
        groups.append({"title": title, "methods": lines})
    return groups


def all_offered(bundles: SessionBundles, preset: str) -> tuple[MethodChoice, ...]:
    """Return all choices for a preset, those trained in the session last."""
    return (*all_choices(), *bundles.choices(preset))


def ready(bundles: SessionBundles, preset: str) -> list[MethodChoice]:
    """Return the choices that can run with a preset."""
    chosen = find_preset(preset)
    return [choice for choice in all_offered(bundles, preset) if not choice.problem(chosen)]


def preset_dropdown(info: str | None, elem_id: str, **settings: Any) -> gr.Dropdown:
    """Build the dropdown of all presets.

    Args:
        info: below its label.
        elem_id: of the component.
        settings: others of ``gr.Dropdown``.
    """
    return gr.Dropdown(
        [(f"{preset.name}: {preset.title}", preset.name) for preset in PRESETS.values()],
        value=DEFAULT_PRESET,
        label="Preset",
        info=info,
        elem_id=elem_id,
        **settings,
    )
