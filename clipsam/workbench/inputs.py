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
        """Prepare the inputs of an event as Gradio does.

        Raises:
            gr.Error: they are too few, or one of them cannot be read.
        """
        if len(inputs) < len(block_fn.inputs):
            raise gr.Error(_too_few(block_fn, len(inputs)), print_exception=False)
        try:
            return await super().preprocess_data(block_fn, inputs, *rest, **named)
        except gr.Error:
            raise
        except InvalidPathError:
            raise gr.Error(FOREIGN_FILE, print_exception=False) from None
        except Exception as error:
            logger.info("an input of %s was refused: %r", block_fn.name, error)
            raise gr.Error(UNREADABLE, print_exception=False) from None


def _too_few(block_fn: Any, number: int) -> str:
    wanted = ", ".join(list(inspect.signature(block_fn.fn).parameters)[: len(block_fn.inputs)])
    return (
        f"{block_fn.name} takes {len(block_fn.inputs)} values in this order: {wanted}; there were "
        f"{number}."
    )
