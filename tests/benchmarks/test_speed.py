"""The speed benchmark's own parts: the naive way, the comparison, the report. No times."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks.naive import NaiveClipGuidedSam
from benchmarks.speed import SECTIONS, disturb, encoder_products, logits, names, picture, report
from benchmarks.timing import compare
from clipsam.encoded_image import EncodedImage
from clipsam.methods.clip_guided_sam import ClipGuidedSamPredictor
from clipsam.models import image_encoder as encoder_module
from clipsam.models.clip import ClassTextEncoder
from clipsam.predictor import PredictOptions
from clipsam.weights.presets import TINY, VIT_B

CPU = torch.device("cpu")


@pytest.mark.parametrize("last_blocks", [None, 4])
def test_the_naive_way_repeats_everything_and_agrees(tiny, monkeypatch, last_blocks):
    design = ClipGuidedSamPredictor.design(TINY)
    design = replace(design, adapters=replace(design.adapters, last_blocks=last_blocks))
    ours = ClipGuidedSamPredictor(tiny, design)
    disturb(ours.model)
    naive = NaiveClipGuidedSam(tiny, design)
    naive.model = ours.model
    encoded, prompt = EncodedImage(picture()), names(3)
    fast = logits(ours.predict(encoded, prompt, PredictOptions(mode="semi-automatic")))
    texts = []
    encode = ClassTextEncoder.__call__
    monkeypatch.setattr(
        ClassTextEncoder, "__call__", lambda own, asked: texts.append(own) or encode(own, asked)
    )
    monkeypatch.setattr(encoder_module, "attend", None)  # the fast way must not be taken
    slow = logits(naive.predict(encoded, prompt, PredictOptions(mode="semi-automatic")))
    torch.testing.assert_close(slow, fast, atol=1e-4, rtol=1e-4)
    assert len(set(map(id, texts))) == 3
    assert naive.backbones is tiny


def test_different_results_are_not_timed():
    ways = {"plain": lambda: torch.zeros(2), "fast": lambda: torch.tensor([0.0, 2e-4])}
    with pytest.raises(SystemExit, match=r"fast: differs by 0\.0002"):
        compare(ways, 1, CPU)
    found = compare(ways, 2, CPU, loose=["fast"])
    assert [len(one.seconds) for one in found] == [2, 2]
    nothing = {"plain": lambda: torch.zeros(1), "fast": lambda: torch.tensor([torch.nan])}
    with pytest.raises(SystemExit):
        compare(nothing, 1, CPU)


def test_products_of_vit_b():
    """86 million weights at 4096 tokens, and attention: 4 blocks of all, 8 of windows of 196."""
    weights = 12 * 12 * 768**2 + 3 * 256 * 768
    attention = 2 * 768 * (4 * 4096 + 8 * 196)
    assert encoder_products(replace(TINY, sam=VIT_B)) == 2 * 4096 * (weights + attention)


def test_report_goes_by_device_preset_and_section():
    results = {
        f"{preset}/{name}/{device}": {"measured": preset, "lines": [name]}
        for device in ("cuda", "cpu")
        for preset in ("huge-sam", "base")
        for name in reversed(SECTIONS)
        if device in SECTIONS[name].devices
    }
    headings = [line for line in report(results).splitlines() if line.startswith("##")]
    assert headings == [
        line
        for device, heading in (("cpu", "## On a CPU"), ("cuda", "## On a GPU"))
        for line in [
            heading,
            *(
                f"### {section.title} (`{preset}`)"
                for preset in ("base", "huge-sam")
                for section in SECTIONS.values()
                if device in section.devices
            ),
        ]
    ]


def test_what_no_gpu_has_measured_is_said():
    text = report({"base/click/cpu": {"measured": "here", "lines": ["figures"]}})
    assert "figures" in text.partition("## On a GPU")[0]
    assert text.partition("## On a GPU")[2].strip() == "Not measured."
