"""A refused input is answered with a sentence; Gradio itself says nothing but that it failed."""

from __future__ import annotations

import inspect
import logging
from typing import Any

import gradio as gr
from gradio.exceptions import InvalidPathError

logger = logging.getLogger(__name__)

FOREIGN_FILE = (
    "A file must be uploaded here first (gradio_client's handle_file does it), or sent as a data "
    "URL; other files of this machine are not read."
)
UNREADABLE = (
    "An input cannot be read. Upload files, or send them as data URLs: addresses are fetched only "
    "where this machine reaches them."
)


class Page(gr.Blocks):
    """``gr.Blocks`` that tells a caller why an input was refused."""

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], *rest: Any, **named: Any
    ) -> list[Any]:
        """Prepare the inputs of an event as Gradio does; those left out at the end have defaults.

        Raises:
            gr.Error: one without a default is missing, or one cannot be read.
        """
        if len(inputs) < len(block_fn.inputs):
            inputs = _completed(block_fn, inputs)
        try:
            return await super().preprocess_data(block_fn, inputs, *rest, **named)
        except gr.Error:
            raise
        except InvalidPathError:
            raise gr.Error(FOREIGN_FILE, print_exception=False) from None
        except Exception as error:
            logger.info("an input of %s was refused: %r", block_fn.name, error)
            raise gr.Error(UNREADABLE, print_exception=False) from None


def _completed(block_fn: Any, inputs: list[Any]) -> list[Any]:
    """Add the defaults of what is missing, so that calls stay valid when arguments are added."""
    parameters = list(inspect.signature(block_fn.fn).parameters.values())[: len(block_fn.inputs)]
    missing = [one.default for one in parameters[len(inputs) :]]
    if inspect.Parameter.empty in missing:
        wanted = ", ".join(one.name for one in parameters)
        raise gr.Error(
            f"{block_fn.name} takes up to {len(parameters)} values in this order: {wanted}; there "
            f"were {len(inputs)}.",
            print_exception=False,
        )
    return [*inputs, *missing]
