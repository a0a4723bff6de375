"""SAM's three candidates for one class, to look at and to choose from."""

from __future__ import annotations

from .... import drawing
from ....types import Prediction


def candidate_figures(prediction: Prediction, index: int, threshold: float) -> str:
    """HTML: each candidate over the picture with the IoU that SAM predicts; nothing without any.

    A button each, with the class's ``data-index`` and the ``data-candidate``'s number.

    Layers lie over the picture that the page has (CSS ``--picture``), as those of the cards do.

    Args:
        prediction: what a method answered.
        index: of the class.
        threshold: logits above it are mask.
    """
    result = prediction.results[index]
    image_size = prediction.transform.image_size
    size = drawing.fitted(image_size, drawing.MAP_SIDE)
    colour = drawing.class_colour(index)
    figures = []
    for number, mask in enumerate(prediction.candidate_masks(index, threshold, size)):
        fill, edge = drawing.layer(mask, colour), drawing.layer(drawing.outline(mask), colour)
        taken = ", taken" if result.candidate == number else ""
        figures.append(
            f"<button type='button' data-index='{index}' data-candidate='{number}' "
            "title='Take this mask as the answer'>"
            f"<figure><div class='overlay' style='aspect-ratio:{size[1]}/{size[0]}'>"
            f"<img class='fill' src='{fill}' alt=''>"
            f"<img src='{edge}' alt='candidate {number + 1}'></div>"
            f"<figcaption>candidate {number + 1}: predicted IoU "
            f"{result.candidate_scores[number]:.3f}{taken}</figcaption></figure></button>"
        )
    return f"<div class='maps'>{''.join(figures)}</div>" if figures else ""
