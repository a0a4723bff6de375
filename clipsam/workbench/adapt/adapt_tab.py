"""The Adapt tab: fine-tuning of a method on a few labelled images within minutes."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from ...data.labelled import MAX_IMAGES, from_masks, read_upload, with_more
from ...data.samples import LabelledImage
from ...data.synthetic import SceneData
from ...errors import ClipsamError
from ...evaluation.truth import read_names
from ...methods.base import find_trainable
from ...registry import METHODS, find_info
from ...training.adapt import MIN_IMAGES, AdaptationResult, trained_parts
from ...weights.availability import method_status
from ...weights.presets import PRESETS, find_preset
from .. import zero_gpu
from ..bundles import SessionBundle, SessionBundles
from ..events import LATEST, PRIVATE, TRAINING, Updates, note, problem
from ..image_store import ImageStore
from ..model_store import ModelStore
from ..stop_button import StopButton
from . import adapt_html
from .training_run import TrainingRun, seconds_of, train

BUDGETS = {"1 minute": 60.0, "3 minutes": 180.0, "10 minutes": 600.0}
"""Training time in seconds, by label."""

EXAMPLE_PICTURES, EXAMPLE_SEED = 8, 4
EXAMPLE_CLASS = "sticker"
"""A class name that the bundled CLIP was not trained with, used for all shapes of a scene."""

PARTS = {
    "image_encoder": "parameters added to SAM's encoder",
    "prompt_encoder": "SAM's prompt encoder",
    "mask_decoder": "SAM's mask decoder",
    "vision": "attention of CLIP's image encoder",
    "clip": "attention of CLIP",
    "blocks": "its own blocks, including SAM's layers",
    "decoder": "its own decoder",
}
"""Descriptions of a network's parts; those not listed are small."""

logger = logging.getLogger(__name__)


@dataclass
class AdaptState:
    """State of this tab in one open page, never shared.

    Attributes:
        pictures: the labelled images, in order.
        training_run: the running training.
        sent: number of images sent from elsewhere on the page.
        stopped: whether Stop was pressed since Adapt was.
    """

    pictures: tuple[LabelledImage, ...] = ()
    training_run: TrainingRun | None = None
    sent: int = 0
    stopped: bool = False

    def stop(self) -> None:
        """End the training after the current step, and queued training before it starts."""
        self.stopped = True
        if self.training_run is not None:
            self.training_run.end()


class AdaptTab:
    """Layout and events of the tab; user data lives in the :class:`AdaptState` only.

    Attributes:
        state: of one page.
        shown: components that show the labelled images, see :meth:`show`.
        finished: event after a training, which may have made a new bundle.
    """

    def __init__(
        self, models: ModelStore, bundles: gr.State, images: ImageStore | None = None
    ) -> None:
        """Build the tab inside the open ``gr.Blocks``.

        Args:
            models: models with the SAM and CLIP of the trained copies.
            bundles: bundles trained in the session.
            images: of all sessions; ``None`` for a store of its own.
        """
        self.models = models
        self.images = images or ImageStore()
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
        self.example = gr.Button("Load the example: 8 labelled images", elem_id="adapt-example")
        gr.HTML(
            "<p class='note'>Synthetic shapes, all labelled “sticker”, a word that the small "
            "models were not trained with. Or your own images: each with a mask of the same name "
            "(dog.jpg with dog.png or dog_mask.png), or one zip with images/, masks/ and "
            "classes.json.</p>"
        )
        self.files = gr.File(
            label="Images and masks, or one zip",
            file_count="multiple",
            type="filepath",
            height=140,
            elem_id="adapt-files",
        )
        self.names = gr.Textbox(
            label="Class names in the masks",
            info="One name for binary masks, or all names in the order of the ids: background, "
            "dog, cat.",
            placeholder="dog",
            elem_id="adapt-names",
        )
        self.add_files = gr.Button("Add these images", elem_id="adapt-add")
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
            info="Methods with trained weights; training starts from a copy of them.",
            elem_id="adapt-method",
        )
        self.trained = gr.HTML(_what_is_trained(first), elem_id="adapt-trained")
        self.budget = gr.Radio(
            _budgets(),
            value=_budgets()[0],
            label="Training time",
            info="One minute is enough for the example.",
            elem_id="adapt-budget",
        )
        with gr.Row():
            self.start = gr.Button("Adapt", variant="primary", elem_id="adapt-start", scale=3)
            self.stop = StopButton("adapt-stop")
        gr.HTML("<p class='note'>Stop ends the training early and keeps the result so far.</p>")
        self.status = gr.HTML(elem_id="adapt-status")
        self.curve = gr.HTML(apply_default_css=False, elem_id="adapt-curve")
        self.download = gr.DownloadButton(
            "Download the new bundle (zip)", visible=False, elem_id="adapt-download"
        )

    # ---- events ----

    def _connect(self) -> None:
        filed: dict[str, Any] = {"show_progress_on": [self.message], **PRIVATE}
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
            **TRAINING,
            **PRIVATE,
        )
        self.stop.rest_after(self.finished)

    # ---- pictures ----

    def add(
        self, state: AdaptState, image: np.ndarray, masks: Mapping[str, np.ndarray]
    ) -> AdaptState:
        """Add an image from elsewhere on the page; :meth:`show` then shows it.

        Args:
            state: of the page.
            image: uint8 (H, W, 3).
            masks: bool (H, W) by class name; empty ones are left out.

        Raises:
            DataError: it cannot be used, or exceeds the limit.
        """
        key = f"from Compare {state.sent + 1}"
        state.pictures = self._with_more(state.pictures, [from_masks(key, image, masks)])
        state.sent += 1
        return state

    def _with_more(
        self, pictures: Sequence[LabelledImage], more: Sequence[LabelledImage]
    ) -> tuple[LabelledImage, ...]:
        """Add labelled images, whose pixels and labels then lie on disk.

        Raises:
            ClipsamError: see :func:`with_more`; or there is no space.
        """
        joined = with_more(pictures, more)
        stored = (
            replace(
                one,
                image=self.images.hold(one.image),
                classes=self.images.hold(one.classes),
                segments=self.images.hold(one.segments),
            )
            for one in joined[len(pictures) :]
        )
        return (*joined[: len(pictures)], *stored)

    def show(self, state: AdaptState) -> Updates:
        """Show the current labelled images."""
        return {self.message: "", self.listing: adapt_html.listing(state.pictures)}

    def take_example(self, state: AdaptState) -> Updates:
        """Replace all images by the example's."""
        state.pictures = example_pictures()
        return {self.state: state, **self.show(state)}

    def take_files(self, state: AdaptState, paths: Sequence[str] | None, names: str) -> Updates:
        """Add uploaded images, all of them or none."""
        try:
            more = read_upload([Path(path) for path in paths or ()], read_names(names) or ())
            state.pictures = self._with_more(state.pictures, more)
        except ClipsamError as error:
            return {self.message: problem(str(error))}
        said = " ".join(picture.note for picture in more if picture.note)
        shown = {**self.show(state), self.message: note(said) if said else ""}
        return {self.state: state, **shown, self.files: None}

    def remove(self, state: AdaptState, chosen: gr.EventData) -> Updates:
        """Remove the image whose button was clicked."""
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
        """Train a copy of a method, showing its loss and finally the comparison."""
        if state.stopped:
            yield {self.status: note("Stopped before it started.")}
            return
        lack = adapt_html.lacking(len(state.pictures))
        if lack or key is None:
            yield {
                self.status: problem(
                    lack or "No method has trained weights to start from. Train one first."
                )
            }
            return
        preset, id = key.split("/")
        method = find_trainable(id)
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
            came: Updates = {
                self.status: note(
                    f"Saved for this session as “{name}” and selected in Compare and Evaluate."
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
            came = {
                self.status: problem(
                    "Training failed with an unexpected error; see the server log."
                )
            }
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
    """Return the training times that fit into the time limit of a borrowed GPU."""
    most = zero_gpu.MAX_SECONDS - zero_gpu.START_SECONDS
    offered = {name for name, seconds in BUDGETS.items() if seconds <= most}
    return [name for name in BUDGETS if name in offered or not zero_gpu.ON_ZERO_GPU]


def _tell(training_run: TrainingRun, progress: Callable[..., None]) -> None:
    """Show the progress of the training."""
    if not training_run.losses:
        progress(0, desc="Predicting before training")
    elif training_run.is_training:
        seconds = f"{training_run.elapsed:.0f} of {training_run.seconds:.0f} s"
        progress(training_run.elapsed / training_run.seconds, desc=f"Training, {seconds}")
    else:
        progress(1, desc="Predicting after training")


def example_pictures() -> tuple[LabelledImage, ...]:
    """Return scenes with class combinations unseen by the bundle, all shapes in one class."""
    scenes = SceneData(EXAMPLE_PICTURES, EXAMPLE_SEED, pairs="unseen")
    return tuple(
        from_masks(f"{EXAMPLE_CLASS} {index + 1}", scene.image, {EXAMPLE_CLASS: scene.classes >= 0})
        for index, scene in enumerate(map(scenes.__getitem__, range(len(scenes))))
    )


def _trainable() -> dict[str, str]:
    """Return titles by ``preset/method`` of all methods that can be trained from a bundle."""
    return {
        f"{preset.name}/{id}": f"{info.name} ({preset.name})"
        for preset in PRESETS.values()
        for id, info in METHODS.items()
        if info.needs_training and method_status(info, preset) == "ready"
    }


def _what_is_trained(key: str | None) -> str:
    """Describe how many parameters are trained, and in which parts."""
    if key is None:
        return ""
    preset, method = key.split("/")
    parts = trained_parts(find_trainable(method), find_preset(preset))
    named = [
        f"{PARTS[part]} ({_millions(number)})" for part, number in parts.items() if part in PARTS
    ]
    return (
        f"<p class='note'>{escape(find_info(method).summary)} Trained parameters: "
        f"{_millions(sum(parts.values()))}, of which {escape(', '.join(named))}. All others are "
        "frozen.</p>"
    )


def _millions(number: int) -> str:
    return f"{number / 1e6:.2f} M"
