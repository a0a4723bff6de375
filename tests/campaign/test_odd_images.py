"""Hundreds of odd image files: the right pixels, or one sentence; never a crash or a hang."""

from __future__ import annotations

import re
import resource
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from clipsam.data.images import ImageError, open_image, open_mask
from tests.campaign.odd_images import OddImage, odd_images

pytestmark = pytest.mark.campaign

SEED = 18
FEWEST = 500

SECONDS = 2.0
"""CPU time of one file."""

MEGABYTES = 400
"""Growth of the process over all files: 60,000 × 60,000 pixels would take 10,800."""

INNARDS = re.compile(r"Traceback|\w+Error\b|\w+Exception\b|0x[0-9a-f]{6,}|<[A-Za-z_.]+ object")
"""What only programmers understand."""


def is_sentence(text: str, name: str) -> bool:
    """Return whether an error names the file in one line without a program's innards."""
    return name in text and len(text.splitlines()) == 1 and not INNARDS.search(text)


def check(folder: Path, odd: OddImage) -> str:
    """Read a file as image and as mask; returns what came of it."""
    path = folder / odd.name
    path.write_bytes(odd.content)
    began = time.process_time()
    try:
        try:
            found = open_image(path)
        except ImageError as error:
            assert is_sentence(str(error), odd.name), f"{odd.name}: {error}"
            assert odd.pixels is None, f"{odd.name} was refused: {error}"
            kind = "refused"
        else:
            assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3
            if odd.pixels is not None:
                assert found.shape == odd.pixels.shape, odd.name
                off = np.abs(found.astype(int) - odd.pixels).max()
                assert off <= odd.tolerance, f"{odd.name} is off by {off}"
            kind = "read"
        try:
            ids = open_mask(path)
        except ImageError as error:
            assert is_sentence(str(error), odd.name), f"{odd.name}: {error}"
        else:
            assert ids.ndim == 2 and ids.min() >= 0
    finally:
        path.unlink()
    assert time.process_time() - began < SECONDS, odd.name
    return kind


def test_odd_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    came = Counter(check(tmp_path, odd) for odd in odd_images(SEED))
    assert sum(came.values()) >= FEWEST
    assert min(came["read"], came["refused"]) > 100  # Both kinds are among them.
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000
    assert grown < MEGABYTES
    assert not INNARDS.search(caplog.text)
