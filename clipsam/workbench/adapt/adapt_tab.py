"""The Adapt tab: a few labelled pictures, a method, some minutes, and what they bring."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from html import escape
from pathlib import Path

import gradio as gr
import numpy as np

from ...data.labelled import MAX_IMAGES, from_masks, read_upload, with_more
from ...data.samples import LabelledImage
from ...data.synthetic import SceneData
from ...errors import ClipsamError
from ...evaluation.truth import read_names
from ...methods.base import TrainablePredictor
from ...registry import find_method, methods
from ...training.adapt import MIN_IMAGES, AdaptationResult, trained_parts
from ...weights.availability import method_status
from ...weights.presets import PRESETS, find_preset
from .. import zero_gpu
from ..bundles import SessionBundle, SessionBundles
from ..events import LATEST, ON_GPU, PRIVATE, Updates, note, problem
from ..model_store import ModelStore
from ..stop_button import StopButton
from . import adapt_html
from .training_run import TrainingRun, seconds_of, train

BUDGETS = {"1 minute": 60.0, "3 minutes": 180.0, "10 minutes": 600.0}
"""Seconds of training by what is shown."""

EXAMPLE_PICTURES, EXAMPLE_SEED = 8, 4
EXAMPLE_CLASS = "sticker"
"""A word that the bundled CLIP has never met, for all shapes of a scene."""

PARTS = {
    "image_encoder": "what is added to SAM's encoder",
    "prompt_encoder": "SAM's prompt encoder",
    "mask_decoder": "SAM's mask decoder",
    "vision": "the attention of CLIP's vision",
    "clip": "the attention of CLIP",
    "blocks": "its own blocks, with SAM's layers",
    "decoder": "its own decoder",
}
"""What the parts of a network are called for people; others are small."""

logger = logging.getLogger(__name__)


@dataclass
class AdaptState:
    """What one open page remembers of this tab, never shared.

    Attributes:
        pictures: labelled ones, in their order.
        training_run: the training that runs.
        sent: how many pictures came from elsewhere on the page.
        stopped: whether Stop was pressed since Adapt was.
    """

    pictures: tuple[LabelledImage, ...] = ()
    training_run: TrainingRun | None = None
    sent: int = 0
    stopped: bool = False

    def stop(self) -> None:
        """End a training after the step at hand, and what waits before it begins."""
        self.stopped = True
        if self.training_run is not None:
            self.training_run.end()


class AdaptTab:
    """Layout and events; keeps no user's data, all of which is in the :class:`AdaptState`.

    Attributes:
        state: of one page.
        shown: what shows the labelled pictures, see :meth:`show`.
        finished: the event after which there may be a new bundle.
    """

    def __init__(self, models: ModelStore, bundles: gr.State) -> None:
        """Build the tab inside the ``gr.Blocks`` that is open.

        Args:
            models: whose SAM and CLIP the trained copies stand on.
            bundles: what the session has trained.
        """
        self.models = models
        self.bundles = bundles
        self.methods = _trainable()
        self.state = gr.State(AdaptState(), delete_callback=AdaptState.stop)
        with gr.Column(elem_id="adapt"):
            gr.HTML(
                "<p class='note'>Adapt a method to your own classes with "
                f"{MIN_IMAGES} to {MAX_IMAGES} labelled images. A copy of the method is trained "
                "here and compared before and after on images that it was not trained on. The "
                "result is deleted with this page unless you download it.</p>"
            )
            with gr.Row():
                with gr.Column(scale=6, min_width=320):
                    self._build_pictures()
                with gr.Column(scale=5, min_width=320):
                    self._build_controls()
            self.results = gr.HTML(apply_default_css=False, elem_id="adapt-results")
        self.shown = [self.message, self.listing]
        self._connect()

    # ---- layout ----

    def _build_pictures(self) -> None:
        self.example = gr.Button("Load the example: 8 labelled pictures", elem_id="adapt-example")
        gr.HTML(
            "<p class='note'>Drawn shapes, all of them called “sticker”: a word that the small "
            "models have never met. Or your own: each picture with a mask of its name (dog.jpg "
            "with dog.png or dog_mask.png), or one zip with images/, masks/ and classes.json.</p>"
        )
        self.files = gr.File(
            label="Pictures and masks, or one zip",
            file_count="multiple",
            type="filepath",
            height=140,
            elem_id="adapt-files",
        )
        self.names = gr.Textbox(
            label="Classes in the masks",
            info="One name for what is white; or all ids, index = id: background, dog, cat.",
            placeholder="dog",
            elem_id="adapt-names",
        )
        self.add_files = gr.Button("Add these pictures", elem_id="adapt-add")
        self.message = gr.HTML(elem_id="adapt-message")
        self.listing = gr.HTML(
            adapt_html.listing(()),
            js_on_load="""
                element.onclick = (event) => {
                  const button = event.target.closest("button");
                  if (button) trigger("click", { key: button.dataset.key });
                };
            """,
            apply_default_css=False,
            elem_id="adapt-listing",
        )

    def _build_controls(self) -> None:
        first = next(iter(self.methods), None)
        self.method = gr.Dropdown(
            [(title, key) for key, title in self.methods.items()],
            value=first,
            label="Method",
            info="Those whose bundle is here; a copy of it is where training starts.",
            elem_id="adapt-method",
        )
        self.trained = gr.HTML(_what_is_trained(first), elem_id="adapt-trained")
        self.budget = gr.Radio(
            _budgets(),
            value=_budgets()[0],
            label="Time",
            info="Of training, by the clock; a minute suffices for the example.",
            elem_id="adapt-budget",
        )
        with gr.Row():
            self.start = gr.Button("Adapt", variant="primary", elem_id="adapt-start", scale=3)
            self.stop = StopButton("adapt-stop")
        gr.HTML("<p class='note'>Stop ends it early and keeps what has been learnt so far.</p>")
        self.status = gr.HTML(elem_id="adapt-status")
        self.curve = gr.HTML(apply_default_css=False, elem_id="adapt-curve")
        self.download = gr.DownloadButton(
            "Download the new bundle (zip)", visible=False, elem_id="adapt-download"
        )

    # ---- events ----

    def _connect(self) -> None:
        filed = {"show_progress_on": [self.message], **PRIVATE}
        listed = [self.state, *self.shown]
        self.example.click(self.take_example, self.state, listed, **filed)
        self.add_files.click(
            self.take_files,
            [self.state, self.files, self.names],
            [*listed, self.files],
            **filed,
        )
        self.listing.click(self.remove, self.state, listed, **filed)
        self.method.change(
            _what_is_trained,
            self.method,
            self.trained,
            **LATEST,
        )
        self.stop.connect(self.state, [self.start.click])
        self.finished = self.start.click(
            self.run,
            [self.state, self.bundles, self.method, self.budget],
            [
                self.state,
                self.bundles,
                self.start,
                self.status,
                self.curve,
                self.results,
                self.download,
            ],
            show_progress_on=[self.status],
            **ON_GPU,
            **PRIVATE,
        )
        self.stop.rest_after(self.finished)

    # ---- pictures ----

    def add(
        self, state: AdaptState, image: np.ndarray, masks: Mapping[str, np.ndarray]
    ) -> AdaptState:
        """Take a picture from elsewhere on the page; :meth:`show` then shows it.

        Args:
            state: of the page.
            image: uint8 (H, W, 3).
            masks: bool (H, W) by class name; empty ones are left out.

        Raises:
            DataError: it cannot be used, or is one too many.
        """
        key = f"from Compare {state.sent + 1}"
        state.pictures = with_more(state.pictures, [from_masks(key, image, masks)])
        state.sent += 1
        return state

    def show(self, state: AdaptState) -> Updates:
        """Show the labelled pictures as they are now."""
        return {self.message: "", self.listing: adapt_html.listing(state.pictures)}

    def take_example(self, state: AdaptState) -> Updates:
        """Put the example's pictures in the place of all others."""
        state.pictures = example_pictures()
        return {self.state: state, **self.show(state)}

    def take_files(self, state: AdaptState, paths: Sequence[str] | None, names: str) -> Updates:
        """Add uploaded pictures, all of them or none."""
        try:
            more = read_upload([Path(path) for path in paths or ()], read_names(names) or ())
            state.pictures = with_more(state.pictures, more)
        except ClipsamError as error:
            return {self.message: problem(str(error))}
        return {self.state: state, **self.show(state), self.files: None}

    def remove(self, state: AdaptState, chosen: gr.EventData) -> Updates:
        """Remove the picture whose button was clicked."""
        state.pictures = tuple(one for one in state.pictures if one.key != chosen.key)
        return {self.state: state, **self.show(state)}

    # ---- training ----

    def run(
        self,
        state: AdaptState,
        bundles: SessionBundles,
        key: str | None,
        budget: str,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio knows it by this default)
    ) -> Iterator[Updates]:
        """Train a copy of a method, showing its loss, then what it brought."""
        if state.stopped:
            yield {self.status: note("Stopped before it began.")}
            return
        lack = adapt_html.lacking(len(state.pictures))
        if lack or key is None:
            yield {self.status: problem(lack or "No method that can be trained has a bundle here.")}
            return
        preset, id = key.split("/")
        method = find_method(id)
        number = bundles.trained + 1
        folder = bundles.new_folder(f"{id}-{preset}-adapted-{number}")
        training_run = TrainingRun(BUDGETS[budget], folder.with_name(f"{folder.name}.wanted"))
        training_run.begin()
        state.training_run = training_run
        yield {
            self.start: gr.Button(interactive=False),
            **dict.fromkeys((self.status, self.curve, self.results), ""),
            self.download: gr.DownloadButton(visible=False),
        }
        arguments = (
            id,
            preset,
            state.pictures,
            training_run.seconds,
            folder,
            training_run.keep_going,
        )
        seconds = seconds_of(method, preset, state.pictures, training_run.seconds)
        try:
            with closing(zero_gpu.lend(self.models, train, arguments, seconds)) as updates:
                try:
                    for one in updates:
                        if isinstance(one, AdaptationResult):
                            adapted = one
                            continue
                        training_run.update(one)
                        left = (
                            training_run.seconds - training_run.elapsed
                            if training_run.is_training
                            else None
                        )
                        yield {self.curve: adapt_html.curve(training_run.losses, left)}
                        _tell(training_run, progress)  # Shown until something else is: hence last.
                finally:
                    training_run.end()  # The page may have been closed.
            archive = shutil.make_archive(str(folder), "zip", folder.parent, folder.name)
            name = f"{method.info.name}, adapted {number}"
            bundles.keep(SessionBundle(name, id, preset, folder, Path(archive)))
            came = {
                self.status: note(
                    f"Kept for this session as “{name}”; it is ticked under Compare and Evaluate."
                ),
                self.results: adapt_html.results(adapted, name),
                self.download: gr.DownloadButton(value=archive, visible=True),
            }
        except ClipsamError as error:
            came = {self.status: problem(str(error))}
        except gr.Error as error:
            came = {self.status: problem(zero_gpu.refusal_message(error))}
        except Exception:
            logger.exception("adapting %s failed", key)
            came = {self.status: problem("It failed unexpectedly; the server's log says why.")}
        finally:
            state.training_run = None
            if bundles.trained < number:
                shutil.rmtree(folder, ignore_errors=True)  # The next one is called so too.
        yield {
            self.state: state,
            self.bundles: bundles,
            self.start: gr.Button(interactive=True),
            self.curve: adapt_html.curve(training_run.losses, None),
            **came,
        }


def _budgets() -> list[str]:
    """Those that there is time for: a lent GPU must be given back."""
    most = zero_gpu.MAX_SECONDS - zero_gpu.START_SECONDS
    offered = {name for name, seconds in BUDGETS.items() if seconds <= most}
    return [name for name in BUDGETS if name in offered or not zero_gpu.ON_ZERO_GPU]


def _tell(training_run: TrainingRun, progress: Callable[..., None]) -> None:
    """Show how far a training is."""
    if not training_run.losses:
        progress(0, desc="Asking for the masks before")
    elif training_run.is_training:
        seconds = f"{training_run.elapsed:.0f} of {training_run.seconds:.0f} s"
        progress(training_run.elapsed / training_run.seconds, desc=f"Training, {seconds}")
    else:
        progress(1, desc="Asking for the masks after")


def example_pictures() -> tuple[LabelledImage, ...]:
    """Scenes of pairs that the bundle has never seen, every shape in them of one class."""
    scenes = SceneData(EXAMPLE_PICTURES, EXAMPLE_SEED, pairs="unseen")
    return tuple(
        from_masks(f"{EXAMPLE_CLASS} {index + 1}", scene.image, {EXAMPLE_CLASS: scene.classes >= 0})
        for index, scene in enumerate(scenes)
    )


def _trainable() -> dict[str, str]:
    """Titles by ``preset/method`` of all whose weights can be trained on from a bundle."""
    return {
        f"{preset.name}/{id}": f"{method.info.name} ({preset.name})"
        for preset in PRESETS.values()
        for id, method in methods().items()
        if issubclass(method, TrainablePredictor) and method_status(method, preset) == "ready"
    }


def _what_is_trained(key: str | None) -> str:
    """How many parameters change, and in which parts."""
    if key is None:
        return ""
    preset, method = key.split("/")
    parts = trained_parts(find_method(method), find_preset(preset))
    named = [
        f"{PARTS[part]} ({_millions(number)})" for part, number in parts.items() if part in PARTS
    ]
    return (
        f"<p class='note'>{escape(find_method(method).info.summary)} Trained: "
        f"{_millions(sum(parts.values()))} parameters: {escape(', '.join(named))}. All else is "
        "frozen.</p>"
    )


def _millions(number: int) -> str:
    return f"{number / 1e6:.2f} M"
