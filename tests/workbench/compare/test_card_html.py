"""Result cards show what was found, and nothing that a class name smuggles in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clipsam import drawing
from clipsam.geometry import SquareTransform
from clipsam.types import BlockTrace, ConceptResult, Prediction, SamPrompts, prompt_from_classes
from clipsam.workbench.choices import MethodChoice
from clipsam.workbench.compare import card_html
from clipsam.workbench.compare.views import overlays
from clipsam.workbench.compare.views.display_settings import DisplaySettings

METHOD_ARG = MethodChoice("m", "x", "Method · mode", "It does.")
JOINT = MethodChoice("m", "x", "Method · mode", "It does.", joint=True)
IMAGE = np.zeros((8, 8, 3), np.uint8)
FOUND = np.full((8, 8), 3.0, np.float32)


def prediction(names: list[str], **result: object) -> Prediction:
    used = SamPrompts()
    return Prediction(
        method="m",
        preset="tiny",
        mode="x",
        prompt=prompt_from_classes([[name] for name in names]),
        transform=SquareTransform((8, 8), 8),
        results=tuple(ConceptResult(FOUND, used, **result) for _ in names),
        seconds={"step": 0.25, "other": 0.5},
        peak_memory_mb=123.0,
    )


def joint_prediction(presence: tuple[float, float] = (0.9, 0.2)) -> Prediction:
    """Two classes: the left half is the first's, the right the second's but for its last column."""
    left, right = np.full((2, 8, 8), -1.0, np.float32)
    left[:, :4], right[:, 2:7] = 3.0, 1.0
    found = prediction(["dog", "cat"])
    results = [
        replace(found.results[0], logits=logits, presence=likely)
        for logits, likely in zip((left, right), presence, strict=True)
    ]
    return replace(found, results=tuple(results))


def looked_twice(asks: bool = True) -> dict[str, object]:
    """What a method of two blocks says besides its logits."""
    maps = np.arange(8, dtype=np.float32).reshape(2, 4) / 8, np.full((2, 4), 0.5, np.float32)
    points, regions = np.zeros((0, 2), np.float32), None
    if asks:
        points = np.array([[1, 2], [7, 2]], np.float32)
        regions = np.zeros((2, 2, 4), bool)
        regions[0, :, 0] = regions[1, :, 3] = True
    block_traces = tuple(BlockTrace(seen, points, regions) for seen in maps)
    return {"similarity": maps[0], "block_traces": block_traces}


def test_each_class_has_a_layer_and_a_line() -> None:
    html = card_html.overlay(
        METHOD_ARG, prediction(["dog", "cat"]), DisplaySettings(0.0, 0.0), IMAGE
    )
    assert html.count("class='fill") == 2
    assert "area 100.0 %" in html
    assert "presence not calibrated" in html


def test_nothing_above_the_threshold_is_said_and_not_drawn() -> None:
    html = card_html.overlay(METHOD_ARG, prediction(["dog"]), DisplaySettings(5.0, 0.0), IMAGE)
    assert "<img" not in html
    assert "empty mask" in html


def test_a_class_that_is_unlikely_present_is_hidden_and_said_so() -> None:
    found = prediction(["dog"], presence=0.2)
    assert "<img" in card_html.overlay(METHOD_ARG, found, DisplaySettings(0.0, 0.2), IMAGE)
    html = card_html.overlay(METHOD_ARG, found, DisplaySettings(0.0, 0.21), IMAGE)
    assert "<img" not in html
    assert "hidden" in html
    assert "presence 0.20" in html


def test_unknown_presence_hides_nothing() -> None:
    assert "<img" in card_html.overlay(
        METHOD_ARG, prediction(["dog"]), DisplaySettings(0.0, 1.0), IMAGE
    )


def test_details_tell_the_raw_range_the_seconds_and_the_memory() -> None:
    similarity = np.array([[-0.125, 0.0], [0.25, 0.5]], np.float32)
    found = prediction(["dog"], similarity=similarity, note="A note.")
    html = card_html.details(replace(found, note="How it was got."), 0.0)
    said = ("A note.", "How it was got.", "no prompts")
    for text in ("-0.125", "0.500", "0.75 s", "123 MB", "0.250 s", *said):
        assert text in html


def test_competing_classes_share_a_label_map_with_a_legend() -> None:
    html = card_html.overlay(JOINT, joint_prediction(), DisplaySettings(0.0, 0.0), IMAGE)
    # The masks overlap, the labels do not.
    assert html.count("class='fill layer-") == 2
    assert "area 50.0 % · presence 0.90" in html
    assert "area 62.5 % · presence 0.20" in html
    assert html.count("alt='label map'") == 1
    assert "area 37.5 % · presence 0.20" in html
    assert "no class above the threshold <span>area 12.5 %" in html
    for index in range(2):
        assert f"<li style='--c:{drawing.class_colour(index)}'><i></i>" in html


def test_classes_that_do_not_compete_have_no_label_map() -> None:
    html = card_html.overlay(METHOD_ARG, joint_prediction(), DisplaySettings(0.0, 0.0), IMAGE)
    assert "label map" not in html
    assert "radio" not in html


def test_a_label_map_follows_the_threshold() -> None:
    found = joint_prediction()
    layers, legend = overlays.labels(found, DisplaySettings(-5.0, 0.0), (8, 8))
    assert "no class above" not in legend
    layers, legend = overlays.labels(found, DisplaySettings(2.0, 0.0), (8, 8))
    assert "area 50.0 % · presence 0.90" in legend
    assert "no pixel · presence 0.20" in legend
    assert "no class above the threshold <span>area 50.0 %" in legend
    layers, legend = overlays.labels(found, DisplaySettings(5.0, 0.0), (8, 8))
    assert layers == ""
    assert "no class above the threshold <span>area 100.0 %" in legend


def test_a_hidden_class_leaves_what_it_wins_clear() -> None:
    shown, _ = overlays.labels(joint_prediction(), DisplaySettings(0.0, 0.0), (8, 8))
    layers, legend = overlays.labels(joint_prediction(), DisplaySettings(0.0, 0.5), (8, 8))
    assert layers != shown
    winners = np.full((8, 8), -1)
    winners[:, :4] = 0
    assert f"src='{drawing.label_map_layer(winners)}'" in layers
    assert "hidden" in legend
    assert "no class above the threshold <span>area 12.5 %" in legend


def test_each_block_s_map_is_shown_with_its_range_and_points() -> None:
    html = card_html.details(prediction(["dog", "cat"], **looked_twice()), 0.0)
    assert html.count("<details class='rounds'>") == 2
    for text in (
        "Block 1: map M<sup>0</sup>, 2 point prompts",
        "Block 2: map M<sup>1</sup>, 2 point prompts",
    ):
        assert html.count(text) == 2
    assert html.count("<svg") == 4
    assert html.count("<circle") == 8
    assert html.count("<span>0.500</span>") == 4
    assert html.count("<span>0.875</span>") == 4
    assert html.count("in the last block") == 2


def test_blocks_that_do_not_ask_sam_show_their_maps_alone() -> None:
    html = card_html.details(prediction(["dog"], **looked_twice(asks=False)), 0.0)
    assert html.count("<svg") == 2
    assert "<circle" not in html
    assert "<path" not in html
    assert "point" not in html
    assert "Similarity map (cosine), no SAM prompts" in html


def test_methods_that_look_once_have_no_blocks() -> None:
    html = card_html.details(prediction(["dog"], similarity=np.zeros((2, 2), np.float32)), 0.0)
    assert "rounds" not in html
    assert "block" not in html


def test_names_are_shown_as_typed_and_never_run() -> None:
    evil = "<img src=x onerror='alert(1)'>"
    found = replace(prediction([evil], note=evil, **looked_twice()), note=evil)
    for html in (
        card_html.overlay(METHOD_ARG, found, DisplaySettings(0.0, 0.0), IMAGE),
        card_html.overlay(JOINT, found, DisplaySettings(0.0, 0.0), IMAGE),
        card_html.details(found, 0.0),
        card_html.failed(METHOD_ARG, evil),
    ):
        assert "<img src=x" not in html
        assert "&lt;img src=x onerror=&#x27;" in html


def test_the_heat_legend_tells_the_raw_range_and_symmetric_ends() -> None:
    html = overlays.heat_legend(np.array([[-3.0, 1.25]], np.float32), 0.5)
    assert "<span>-3.00</span>" in html
    assert "<span>4.00</span>" in html
    assert "from -3.00 to 1.25" in html
    assert "#053061" in html and "#67001f" in html
