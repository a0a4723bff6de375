"""HTML of the Adapt tab: labelled images, loss curve, results before and after."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image, ImageColor, ImageOps

from ... import drawing
from ...data.labelled import MAX_IMAGES, LabelledImages
from ...data.samples import LabelledImage
from ...training.adapt import MIN_IMAGES, AdaptationResult, held_out
from ...types import Prediction

THUMBNAIL_SIDE = 112
"""Side of a labelled image in the list, pixels."""

DISPLAY_SIDE = 384
"""Long side of a held-out image before and after, pixels."""

MAX_POINTS = 200
"""Points of the drawn curve."""


def lacking(count: int) -> str:
    """Explain how many labelled images are missing; empty if there are enough."""
    if count >= MIN_IMAGES:
        return ""
    more = MIN_IMAGES - count
    there = "no labelled image" if not count else _pictures(count, "labelled image")
    verb = "is" if count <= 1 else "are"
    return (
        f"There {verb} {there} yet; {MIN_IMAGES} to {MAX_IMAGES} are needed. Add at least {more}."
    )


def listing(pictures: Sequence[LabelledImage]) -> str:
    """Format every labelled image with its classes and a remove button, and the split."""
    data = LabelledImages(pictures)
    enough = not lacking(len(data))
    first_out = len(data) - held_out(len(data)) if enough else len(data)
    figures = "".join(_labelled(data[index], index >= first_out) for index in range(len(data)))
    return f"<p class='note'>{escape(_split(data, first_out))}</p><div class='row'>{figures}</div>"


def _split(data: LabelledImages, first_out: int) -> str:
    if first_out == len(data):
        return lacking(len(data))
    out = data.keys[first_out:]
    sentence = (
        f"{len(data)} images: {first_out} for training; {_listed(out)} "
        f"{'is' if len(out) == 1 else 'are'} held out for the comparison before and after."
    )
    learnt = {name for index in range(first_out) for name in _names(data[index])}
    unlearnt = [name for name in data.names if name not in learnt]
    if unlearnt:
        sentence += f" Only held-out images show {_listed(unlearnt)}, so it cannot be learnt."
    return sentence


def _labelled(picture: LabelledImage, is_out: bool) -> str:
    key = escape(picture.key, quote=True)
    return (
        f"<figure{' class=out' if is_out else ''}><img src='{_thumbnail(picture)}' alt=''>"
        f"<button type='button' data-key=\"{key}\" title='Remove this image' "
        f'aria-label="Remove {key}">×</button><figcaption>{key}'
        f"<span>{escape(', '.join(_names(picture)))}{' · held out' if is_out else ''}</span>"
        "</figcaption></figure>"
    )


def _thumbnail(picture: LabelledImage) -> str:
    """Draw the classes of an image over it."""
    size = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    image = np.asarray(ImageOps.fit(Image.fromarray(picture.image), size)).astype(np.float32)
    classes = Image.fromarray(picture.classes.astype(np.int32))
    places = np.asarray(ImageOps.fit(classes, size, Image.Resampling.NEAREST))
    for value in picture.present():
        colour = np.array(ImageColor.getrgb(drawing.class_colour(value)), np.float32)
        image[places == value] = 0.45 * image[places == value] + 0.55 * colour
    return drawing.data_uri(Image.fromarray(image.astype(np.uint8)), "JPEG", quality=85)


def curve(losses: Sequence[float], seconds_left: float | None) -> str:
    """Draw the loss of every step so far, and its running mean.

    Args:
        losses: by step.
        seconds_left: until the time is up; ``None`` once training has ended.
    """
    if not losses:
        return ""
    window = max(1, len(losses) // 20)
    mean = running_mean(losses, window)
    top = max(losses)
    left = "" if seconds_left is None else f" · {max(0, round(seconds_left))} s left"
    return (
        "<figure class='curve'><svg viewBox='0 0 100 100' preserveAspectRatio='none' role='img' "
        f"aria-label='Loss by step'>{_line(losses, top, 'each')}{_line(mean, top, 'mean')}</svg>"
        f"<span class='top'>{top:.2f}</span><span class='bottom'>0</span>"
        f"<figcaption>Loss: step {len(losses)} · {mean[0]:.3f} → {mean[-1]:.3f} (mean of the "
        f"latest {window}){left}</figcaption></figure>"
    )


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """Average the ``window`` latest values; the first values over fewer."""
    sums = np.cumsum([0.0, *values])
    ends = np.maximum(np.arange(1, len(values) + 1), min(window, len(values)))
    starts = np.maximum(0, ends - window)
    return ((sums[ends] - sums[starts]) / (ends - starts)).tolist()


def _line(values: Sequence[float], top: float, name: str) -> str:
    if len(values) == 1:
        values = [*values, *values]  # A line, because a point alone would not be seen.
    steps = np.unique(np.linspace(0, len(values) - 1, MAX_POINTS).round().astype(int))
    points = " ".join(
        f"{100 * step / (len(values) - 1):.1f},{100 - 96 * values[step] / (top or 1):.1f}"
        for step in steps
    )
    return f"<polyline class='{name}' points='{points}'/>"


def results(adapted: AdaptationResult, title: str) -> str:
    """Format held-out images before and after side by side, a table, and a summary."""
    pictures = "".join(
        _compared(picture, before, after)
        for picture, before, after in zip(
            adapted.pictures, adapted.before, adapted.after, strict=True
        )
    )
    return (
        f"<h3>{escape(title)} <small>{escape(adapted.mode)}</small></h3>"
        f"<p class='verdict'>{escape(verdict(adapted))}</p>{pictures}{_table(adapted)}"
    )


def verdict(adapted: AdaptationResult) -> str:
    """Summarise whether the method is better, unchanged or worse, and how reliable that is."""
    before, after = adapted.mean_before, adapted.mean_after
    change = round(after, 3) - round(before, 3)
    word = "Better" if change > 0 else "Worse" if change < 0 else "Unchanged"
    number = len(adapted.pictures)
    clicks = " Points were sampled from your masks." if adapted.mode == "manual" else ""
    return (
        f"{word}: mean IoU {before:.3f} → {after:.3f} ({change:+.3f}) on "
        f"{_pictures(number, 'image')} not used for training. With so few images, the figure says "
        f"little about others.{clicks}"
    )


def _compared(picture: LabelledImage, before: Prediction, after: Prediction) -> str:
    """Format one held-out image: its labels, the result before, the result after."""
    size = drawing.fit_size(picture.image.shape[:2], DISPLAY_SIDE)
    small = Image.fromarray(picture.image).resize(size[::-1], Image.Resampling.BILINEAR)
    classes = Image.fromarray(picture.classes.astype(np.int32))
    labels = np.asarray(classes.resize(size[::-1], Image.Resampling.NEAREST))
    values = picture.present()
    views = {
        "labels": [labels == value for value in values],
        "before": list(before.masks(size=size)),
        "after": list(after.masks(size=size)),
    }
    figures = "".join(
        f"<figure><div class='overlay' style='aspect-ratio:{size[1]}/{size[0]}'>"
        f"{''.join(_layers(mask, value) for mask, value in zip(masks, values, strict=True))}</div>"
        f"<figcaption>{escape(picture.key)}, {name}</figcaption></figure>"
        for name, masks in views.items()
    )
    shown = drawing.data_uri(small, "JPEG", quality=90)
    return f"<div class='compared' style='--picture:url({shown})'>{figures}</div>"


def _layers(mask: np.ndarray, value: int) -> str:
    if not mask.any():
        return ""
    colour = drawing.class_colour(value)
    fill, edge = drawing.mask_layer(mask, colour), drawing.mask_layer(drawing.outline(mask), colour)
    return f"<img class='fill' src='{fill}' alt=''><img src='{edge}' alt=''>"


def _table(adapted: AdaptationResult) -> str:
    names = adapted.pictures[0].names
    rows = [
        (row.picture, row.name, drawing.class_colour(names.index(row.name)), row.before, row.after)
        for row in adapted.rows
    ]
    body = "".join(
        f"<tr><td>{escape(picture)}</td><td><i style='background:{colour}'></i>{escape(name)}</td>"
        f"{_numbers(before, after)}</tr>"
        for picture, name, colour, before, after in rows
    )
    mean = _numbers(adapted.mean_before, adapted.mean_after)
    return (
        "<table><caption>IoU of each class in each held-out image</caption><thead><tr>"
        "<th scope='col'>Image</th><th scope='col'>Class</th><th scope='col'>Before</th>"
        f"<th scope='col'>After</th><th scope='col'>Change</th></tr></thead><tbody>{body}"
        f"<tr class='mean'><td>mean</td><td></td>{mean}</tr></tbody></table>"
    )


def _numbers(before: float, after: float) -> str:
    cells = (f"{before:.3f}", f"{after:.3f}", f"{round(after, 3) - round(before, 3):+.3f}")
    return "".join(f"<td class='number'>{cell}</td>" for cell in cells)


def _names(picture: LabelledImage) -> list[str]:
    return [picture.names[value] for value in picture.present()]


def _pictures(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
