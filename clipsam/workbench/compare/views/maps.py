"""HTML of the similarity maps: one per class, and those of every block if there are several."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import numpy as np
from PIL import Image

from .... import drawing
from ....types import BlockTrace, ConceptResult, Prediction

BLOCK_SIDE = 160
"""Long side of a block's map in SVG units, about one pixel each on the page."""


def similarity_maps(prediction: Prediction) -> str:
    """Format each class's map with SAM prompts and the method's note."""
    size = prediction.transform.image_size
    figures = "".join(
        _figure(index, text, result, size)
        for index, (text, result) in enumerate(
            zip(prediction.texts, prediction.results, strict=True)
        )
    )
    return f"<div class='maps'>{figures}</div>"


def block_by_block(prediction: Prediction) -> str:
    """Format the maps of every block, folded per class; empty for methods with a single pass."""
    size = prediction.transform.image_size
    return "".join(
        _blocks(index, text, result, size)
        for index, (text, result) in enumerate(
            zip(prediction.texts, prediction.results, strict=True)
        )
        if result.block_traces
    )


def _figure(index: int, text: str, result: ConceptResult, size: tuple[int, int]) -> str:
    """Format one class: its map with colour bar, or its note alone."""
    note = f"<p class='note'>{escape(result.note)}</p>" if result.note else ""
    if result.similarity is None:
        return f"<figure class='plain'>{_name(index, text)}{note}</figure>" if note else ""
    picture = drawing.similarity_picture(result.similarity, result.prompts, size)
    uri = drawing.data_uri(Image.fromarray(picture))
    return (
        f"<figure>{_name(index, text)}"
        f"<img class='map' src='{uri}' alt='similarity map of {escape(text)}'>"
        f"{_scale(result.similarity)}"
        f"<figcaption>Similarity map ({escape(result.similarity_unit)}), {_prompts(result)}"
        f"</figcaption>{note}"
        "</figure>"
    )


def _prompts(result: ConceptResult) -> str:
    """Describe the SAM prompts."""
    if result.block_traces and result.block_traces[-1].regions is None:
        return "no SAM prompts"
    used = result.prompts
    parts = [_counted(len(used.points), "point prompt")] if len(used.points) else []
    if len(used.boxes):
        parts.append(_counted(len(used.boxes), "box prompt"))
    if used.dense is not None:
        parts.append("a dense prompt")
    fed = " + ".join(parts) or "no prompts"
    return f"{fed} in the last block" if result.block_traces else fed


def _blocks(index: int, text: str, result: ConceptResult, size: tuple[int, int]) -> str:
    """Format one class, folded: the map that each block received."""
    figures = "".join(
        f"<figure>{block_picture(seen, size, f'map of {text} before block {number + 1}')}"
        f"{_scale(seen.similarity)}<figcaption>{_block(number, seen)}</figcaption></figure>"
        for number, seen in enumerate(result.block_traces)
    )
    return (
        f"<details class='rounds'><summary>{_name(index, text)} block by block</summary>"
        f"<p class='note'>{_explained(result.block_traces)}</p><div class='maps'>{figures}</div>"
        "</details>"
    )


def _block(number: int, seen: BlockTrace) -> str:
    prompts = "" if seen.regions is None else f", {_counted(len(seen.points), 'point prompt')}"
    return f"Block {number + 1}: map M<sup>{number}</sup>{prompts}"


def _explained(block_traces: tuple[BlockTrace, ...]) -> str:
    prompts_sam = any(seen.regions is not None for seen in block_traces)
    use = "prompts SAM with the outlined regions and a point in each, and " if prompts_sam else ""
    return (
        f"Each block receives a map, {use}refines it into the next. The masks above come from the "
        "last block."
    )


def _name(index: int, text: str) -> str:
    return f"<b style='--c:{drawing.class_colour(index)}'>{escape(text)}</b>"


def _counted(number: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("x") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def _scale(values: np.ndarray) -> str:
    """Format the raw range of a map as a colour bar with both ends."""
    low, high = float(values.min()), float(values.max())
    return f"<div class='scale'><span>{low:.3f}</span><i></i><span>{high:.3f}</span></div>"


def block_picture(seen: BlockTrace, image_size: tuple[int, int], title: str) -> str:
    """Draw a block's map with region borders and points as a small SVG.

    A square per cell; lines are sharp at any size.

    Args:
        seen: map, points and regions.
        image_size: (height, width) of the original image, which gives the proportions.
        title: alternative text of the image.
    """
    height, width = drawing.fit_size(image_size, BLOCK_SIDE)
    rows, columns = seen.similarity.shape
    marks = ""
    if seen.regions is not None:
        path = borders_path(seen.regions)
        fit = f"scale({width / columns:g} {height / rows:g})"
        marks = f"<g transform='{fit}'><path class='under' d='{path}'/><path d='{path}'/></g>"
    for x, y in seen.points * (width / image_size[1], height / image_size[0]):
        marks += f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3.5'/>"
    return (
        f"<svg class='map' viewBox='0 0 {width} {height}' role='img' aria-label='{escape(title)}'>"
        f"<image href='{drawing.cells(seen.similarity)}' width='{width}' height='{height}' "
        f"preserveAspectRatio='none'/>{marks}</svg>"
    )


def borders_path(regions: np.ndarray) -> str:
    """Return the SVG path along the borders of the regions.

    Args:
        regions: bool (K, gh, gw), disjoint.

    Returns:
        Horizontal, then vertical strokes, in cells from the top left corner.
    """
    numbers = np.arange(1, len(regions) + 1)[:, None, None]
    owner = np.pad((regions * numbers).sum(0), 1)
    across = (f"M{start} {line}h{length}" for line, start, length in _strokes(owner))
    down = (f"M{line} {start}v{length}" for line, start, length in _strokes(owner.T))
    return "".join((*across, *down))


def _strokes(owner: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Yield line, start and length of every unbroken edge between two neighbouring rows' owners.

    Args:
        owner: int (gh + 2, gw + 2), 0 for none, as at the border.
    """
    for line, differs in enumerate(owner[1:] != owner[:-1]):
        # False at both ends, as all around is nobody's: strokes begin and end in turns.
        for start, end in np.flatnonzero(differs[1:] != differs[:-1]).reshape(-1, 2):
            yield line, start, end - start
