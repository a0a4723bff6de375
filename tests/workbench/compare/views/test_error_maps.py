"""Error maps against pixels counted by hand."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from clipsam.evaluation.truth import Truth
from clipsam.geometry import SquareTransform
from clipsam.types import ConceptResult, Prediction, SamPrompts, prompt_from_classes
from clipsam.workbench.compare.views import error_maps
from clipsam.workbench.compare.views.painting import Painting, Part, counted, greyed, percent

ALL = np.ones((4, 4), bool)


def prediction(*logits: np.ndarray) -> Prediction:
    """Of classes a, b, … with given logits, in an image as large as the network's input."""
    side = logits[0].shape[0]
    return Prediction(
        method="m",
        preset="tiny",
        mode="x",
        prompt=prompt_from_classes([[chr(ord("a") + index)] for index in range(len(logits))]),
        transform=SquareTransform((side, side), side),
        results=tuple(ConceptResult(one.astype(np.float32), SamPrompts()) for one in logits),
        seconds={},
        peak_memory_mb=0.0,
    )


def named(painting: Painting) -> np.ndarray:
    """What each pixel is called, (h, w)."""
    return np.array([part.name for part in painting.parts])[painting.places]


def shares(painting: Painting) -> dict[str, float]:
    return {part.name: part.share for part in painting.parts}


def halves() -> tuple[np.ndarray, np.ndarray]:
    """Logits high in the left half; a truth that is the upper half."""
    left = np.full((4, 4), -2.0)
    left[:, :2] = 2
    upper = np.zeros((4, 4), bool)
    upper[:2] = True
    return left, upper


def test_the_four_quarters_of_two_crossing_halves() -> None:
    left, upper = halves()
    painting = error_maps.class_errors(prediction(left), 0, Truth({"a": upper}, ALL), (4, 4))
    expected = np.empty((4, 4), object)
    expected[:2, :2], expected[:2, 2:] = "True positive", "False negative"
    expected[2:, :2], expected[2:, 2:] = "False positive", "True negative"
    assert (named(painting) == expected).all()
    assert set(shares(painting).values()) == {0.25}


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (3.0, {"False negative": 0.5, "True negative": 0.5}),
        (-3.0, {"True positive": 0.5, "False positive": 0.5}),
    ],
)
def test_the_threshold_moves_it(threshold: float, expected: dict[str, float]) -> None:
    left, upper = halves()
    truth = Truth({"a": upper}, ALL)
    painting = error_maps.class_errors(prediction(left), 0, truth, (4, 4), threshold)
    assert {name: share for name, share in shares(painting).items() if share} == expected


def test_what_is_not_scored_is_striped_and_counted_apart() -> None:
    valid = np.ones((24, 24), bool)
    valid[:12, :12] = False
    truth = Truth({"a": np.zeros((24, 24), bool)}, valid)
    painting = error_maps.class_errors(prediction(np.full((24, 24), 1.0)), 0, truth, (24, 24))
    assert shares(painting) == {
        "True positive": 0,
        "False positive": 0.75,
        "False negative": 0,
        "True negative": 0,
        "Not scored": 0.25,
    }
    drawn = named(painting)
    assert (drawn[valid] == "False positive").all()
    assert set(drawn[~valid]) == {"Not scored", "True negative"}


def test_a_pixel_lost_to_another_class_is_missed() -> None:
    truth = Truth({"a": ALL, "b": np.zeros((4, 4), bool)}, ALL)
    stronger = np.full((4, 4), 1.0)
    stronger[0] = 3
    answer = prediction(np.full((4, 4), 2.0), stronger)
    alone = error_maps.class_errors(answer, 0, truth, (4, 4))
    assert shares(alone)["True positive"] == 1
    beside = error_maps.class_errors(answer, 0, truth, (4, 4), overlap="argmax")
    assert shares(beside)["False negative"] == 0.25
    assert (named(beside)[0] == "False negative").all()


def test_a_smaller_picture_takes_the_pixel_at_the_centre() -> None:
    truth = np.zeros((6, 6), bool)
    truth[1, 4] = True  # The centre of the second of two by two blocks of three.
    painting = error_maps.class_errors(
        prediction(np.full((6, 6), -1.0)), 0, Truth({"a": truth}, np.ones((6, 6), bool)), (2, 2)
    )
    expected = [["True negative", "False negative"], ["True negative"] * 2]
    assert named(painting).tolist() == expected


def test_label_maps_tell_a_wrong_class_from_too_much() -> None:
    a, b = np.full((2, 4, 4), -1.0)
    a[:, :2], b[:, 2:3] = 1, 1  # The last column is nobody's.
    true_a, true_b = np.zeros((2, 4, 4), bool)
    true_a[0], true_b[1] = True, True
    painting = error_maps.label_errors(
        prediction(a, b), Truth({"a": true_a, "b": true_b}, ALL), (4, 4)
    )
    assert named(painting).tolist() == [
        ["True positive", "True positive", "Wrong class", "False negative"],
        ["Wrong class", "Wrong class", "True positive", "False negative"],
        *[["False positive"] * 3 + ["True negative"]] * 2,
    ]


def test_a_class_that_the_truth_does_not_know_is_scored_where_it_names_another() -> None:
    a, b = np.full((2, 4, 4), -1.0)
    b[:, :2] = 1
    true_a = np.zeros((4, 4), bool)
    true_a[0] = True
    painting = error_maps.label_errors(prediction(a, b), Truth({"a": true_a}, ALL), (4, 4))
    assert shares(painting) == {
        "True positive": 0,
        "False positive": 0,
        "False negative": 2 / 16,
        "True negative": 6 / 16,
        "Wrong class": 2 / 16,
        "Not scored": 6 / 16,
    }


def test_colours_lie_over_grey_and_nothing_leaves_it() -> None:
    grey = np.array([[155, 255]], np.uint8)
    parts = Part("red", "#ff0000", 0.5), Part("none", None, 0.5)
    painting = Painting(np.array([[0, 0]], np.uint8), parts)
    # Three quarters of red and one of grey; 0.75 · 255 = 191.25.
    assert painting.over(grey).tolist() == [[[230, 39, 39], [255, 64, 64]]]
    clear = replace(painting, places=np.array([[1, 1]], np.uint8))
    assert clear.over(grey).tolist() == [[[155] * 3, [255] * 3]]


def test_a_layer_is_clear_where_the_image_stays() -> None:
    places = np.array([[0, 1], [2, 0]], np.uint8)
    parts = Part("none", None, 0.5), Part("x", "#102030", 0.25), Part("y", "#405060", 0.25)
    data = Painting(places, parts).mask_layer().partition(";base64,")[2]
    pixels = np.array(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))
    assert pixels[0, 1].tolist() == [0x10, 0x20, 0x30, 191]
    assert pixels[1, 0].tolist() == [0x40, 0x50, 0x60, 191]
    assert pixels[0, 0, 3] == pixels[1, 1, 3] == 0


def test_greyed_keeps_the_order_of_brightness_and_is_pale() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    grey = greyed(ramp)[0].astype(int)
    assert (grey[0], grey[-1]) == (155, 255)
    assert (np.diff(grey) >= 0).all()


def test_legends_show_names_as_typed_and_shares_as_read() -> None:
    places = np.zeros((50, 50), np.uint8)
    places[0, 0] = 1
    html = counted(places, [("<b>", "#123456"), ("few", None), ("none", None)]).legend()
    assert "<li style='--c:#123456'><i></i><b>&lt;b&gt;</b> <span>area 100.0 %<" in html
    assert "<b>few</b> <span>area < 0.1 %" in html
    assert "<b>none</b> <span>area 0 %" in html
    assert percent(0.25) == "25.0 %"
