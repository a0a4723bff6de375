"""Selection of preset and methods, and downloads of weights."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import gradio as gr

from ..errors import ClipsamError
from ..weights.presets import PRESETS, find_preset
from .bundles import SessionBundles
from .choices import DEFAULT_KEYS, MethodChoice, all_choices
from .downloads import Downloads, download_selected
from .events import LATEST, PRIVATE, Updates, Values, note, problem
from .method_cards import all_cards

DEFAULT_PRESET = "tiny"


class MethodPicker:
    """Preset, downloads, methods to select, and a description of each method.

    Attributes:
        preset: the preset's name.
        by_text, by_marks: keys of the selected choices that need names only, or marks too.
    """

    def __init__(self, bundles: gr.State) -> None:
        """Build the panel inside the open ``gr.Blocks``.

        Args:
            bundles: bundles trained in the session.
        """
        self._bundles = bundles
        self.preset = preset_dropdown(
            "SAM and CLIP weights. The tiny preset is a demonstration.", "preset"
        )
        self._downloads = Downloads(DEFAULT_PRESET)
        text, marks = self._offers(DEFAULT_PRESET, DEFAULT_KEYS, SessionBundles())
        with gr.Group(elem_id="methods"):
            self.by_text = gr.CheckboxGroup(
                **text,
                label="Methods prompted by class names",
                show_select_all=True,
                elem_id="by-text",
            )
            self.by_marks = gr.CheckboxGroup(
                **marks,
                label="Methods prompted by points or boxes (one for every class)",
                show_select_all=True,
                elem_id="by-marks",
            )
        self._note = gr.HTML(all_cards(find_preset(DEFAULT_PRESET)), elem_id="methods-note")
        self._connect()

    @property
    def inputs(self) -> set[gr.blocks.Block]:
        """The components whose values the methods here take."""
        return {self._bundles, self.preset, self.by_text, self.by_marks}

    @property
    def offered(self) -> list[gr.blocks.Block]:
        """The components that depend on the preset."""
        downloads = self._downloads
        fold = [downloads.message, downloads.fold, downloads.repos]
        return [self.by_text, self.by_marks, self._note, *fold]

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

    def chosen(self, values: Values) -> tuple[MethodChoice, ...]:
        """Return the selected methods in the order of the list."""
        every = all_offered(values[self._bundles], values[self.preset])
        selected = self._selected_keys(values)
        return tuple(choice for choice in every if choice.key in selected)

    def take_preset(self, values: Values) -> Updates:
        """Update everything that depends on the preset."""
        return self.offer(values[self._bundles], values[self.preset], self._selected_keys(values))

    def take_bundle(self, values: Values) -> Updates:
        """Offer the most recently trained bundle and select it in addition."""
        bundles: SessionBundles = values[self._bundles]
        new = {choice.key for choice in bundles.kept[-1].choices} if bundles.kept else set()
        return self.offer(bundles, values[self.preset], self._selected_keys(values) | new)

    def _selected_keys(self, values: Values) -> set[str]:
        """Return the keys of the selected choices."""
        return {*values[self.by_text], *values[self.by_marks]}

    def offer(self, bundles: SessionBundles, preset: str, selected: Collection[str]) -> Updates:
        """Update methods and downloads for a preset, keeping the selection where possible."""
        return {
            self._downloads.message: "",
            **self._downloads.offer(preset),
            **self._offer_methods(bundles, preset, selected),
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
        return {
            self._downloads.message: said,
            **self._downloads.offer(preset, repos),
            **self._offer_methods(values[self._bundles], preset, self._selected_keys(values)),
        }

    def _offer_methods(
        self, bundles: SessionBundles, preset: str, selected: Collection[str]
    ) -> Updates:
        """Update the methods, selecting the default ones if none of the selected can run."""
        if not any(choice.key in selected for choice in ready(bundles, preset)):
            selected = DEFAULT_KEYS
        text, marks = self._offers(preset, selected, bundles)
        return {
            self.by_text: gr.CheckboxGroup(**text),
            self.by_marks: gr.CheckboxGroup(**marks),
            self._note: all_cards(find_preset(preset)),
        }

    def _offers(
        self, preset: str, keys: Collection[str], bundles: SessionBundles
    ) -> list[dict[str, Any]]:
        """Return the ready and the selected choices, by class names and by points or boxes."""
        offers = []
        for needs_marks in (False, True):
            some = [one for one in ready(bundles, preset) if one.needs_marks == needs_marks]
            offers.append(
                {
                    "choices": [(choice.title, choice.key) for choice in some],
                    "value": [choice.key for choice in some if choice.key in keys],
                    "visible": bool(some),
                }
            )
        return offers


def all_offered(bundles: SessionBundles, preset: str) -> tuple[MethodChoice, ...]:
    """Return all choices for a preset, those trained in the session last."""
    return (*all_choices(), *bundles.choices(preset))


def ready(bundles: SessionBundles, preset: str) -> list[MethodChoice]:
    """Return the choices that can run with a preset."""
    chosen = find_preset(preset)
    return [choice for choice in all_offered(bundles, preset) if not choice.problem(chosen)]


def preset_dropdown(info: str, elem_id: str) -> gr.Dropdown:
    """Build the dropdown of all presets."""
    return gr.Dropdown(
        [(f"{preset.name}: {preset.title}", preset.name) for preset in PRESETS.values()],
        value=DEFAULT_PRESET,
        label="Preset",
        info=info,
        elem_id=elem_id,
    )
