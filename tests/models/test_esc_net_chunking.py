"""How many classes fit a budget, and whether what is estimated is what a run takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.esc_net_memory import Case, measure
from clipsam.models.esc_net import EscNetConfig, classes_at_a_time
from clipsam.models.esc_net.chunking import MAX_MAPS, kept_bytes, working_bytes
from clipsam.weights.presets import TINY

MB = 10**6
PAPERS = EscNetConfig()


def test_kept_is_what_the_design_says():
    """E takes 295 kB, each map 2.3 kB; logits, once in chunks and once whole, 74 kB."""
    kept = kept_bytes(replace(PAPERS, blocks=0, use_sam=False), 24)
    assert kept == 294_912 + 3 * 2_304 + 2 * 36_864
    assert kept < kept_bytes(PAPERS, 24) < 1.1 * kept


@pytest.mark.parametrize("images", [1, 4])
@pytest.mark.parametrize("classes", [1, 5, 171, 847])
def test_the_chunk_fills_the_budget_up_to_a_fixed_number(images, classes):
    kept, working = (images * f(PAPERS, 24) for f in (kept_bytes, working_bytes))
    most = min(classes, MAX_MAPS // images)
    chunks = []
    for megabytes in (0, 50, 100, 200, 400, 800, 1600, 10**6):
        budget = megabytes * MB
        chunk = classes_at_a_time(PAPERS, 24, images, classes, budget)
        assert 1 <= chunk <= most
        assert chunk == 1 or classes * kept + chunk * working <= budget
        assert chunk == most or classes * kept + (chunk + 1) * working > budget
        chunks.append(chunk)
    assert chunks == sorted(chunks)
    assert (chunks[0], chunks[-1]) == (1, most)


def test_more_images_than_maps_at_a_time():
    assert classes_at_a_time(PAPERS, 24, 2 * MAX_MAPS, 3, 10**12) == 1


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="only Linux tells a process's peak"
)
@pytest.mark.parametrize(
    ("fields", "classes", "chunk", "images"),
    [
        (dict(image_size=256, window=8, hidden=64), 32, 16, 1),
        (dict(image_size=256, window=8, hidden=64), 12, 4, 4),
        (dict(image_size=384, use_sam=False), 40, 12, 1),
    ],
    ids=["tiny", "tiny, windows", "24 cells, no SAM"],
)
def test_estimates_are_within_a_factor_of_two(monkeypatch, fields, classes, chunk, images):
    # The C library then gives freed memory back at once: what is measured is what was in use.
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")
    config = EscNetConfig(blocks=1, skip_layers=(2, 4), **fields)
    case = Case(TINY.clip, config, classes, chunk, images)
    found = measure(case)
    assert 0.5 < (found.peak - found.loaded) / case.estimate() < 2
