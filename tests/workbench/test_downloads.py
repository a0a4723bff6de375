"""Weights come to the page only when asked for, and then their methods can run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from clipsam.errors import PromptError
from clipsam.weights import hub as hub_module
from clipsam.weights.bundle import WeightsError
from clipsam.weights.presets import PRESETS, TINY
from clipsam.weights.published import CLIPSEG, SAM2_TINY, SAM3
from clipsam.workbench import downloads
from clipsam.workbench.downloads import download_selected, needed_weights
from tests.standins import SAVE, save_all
from tests.weights.conftest import point_at
from tests.weights.standin_hub import StandinHub

HERE = "Downloaded and verified: "


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandinHub]:
    """A hub that has a small CLIPSeg, and an empty cache on this machine."""
    SAVE[CLIPSEG](tmp_path / "there")
    content = {path.name: path.read_bytes() for path in (tmp_path / "there").iterdir()}
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_module, "PAUSE", 0)
    server = StandinHub({CLIPSEG.repo: content})
    point_at(server.endpoint, monkeypatch)
    yield server
    server.close()


def test_what_is_wanted(hub: StandinHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = needed_weights(TINY)
    assert wanted[CLIPSEG] == ["CLIPSeg + SAM"]
    assert wanted[SAM3] == ["SAM 3"]
    assert {*wanted[SAM2_TINY]} == {"CLIP Surgery + SAM 2.1", "Grounded SAM 2", "SAM 2.1"}
    base = PRESETS["base"]
    assert list(needed_weights(base))[:2] == [base.sam_source, base.clip_source]
    assert needed_weights(base)[base.sam_source] == []
    save_all(tmp_path / "elsewhere")
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "elsewhere"))
    assert needed_weights(TINY) == {}


def test_progress_counts_bytes(hub: StandinHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "POLL", 0.001)
    seen: list[object] = []
    said = download_selected("tiny", [CLIPSEG.repo], lambda done, **_: seen.append(done))
    assert said == f"{HERE}{CLIPSEG.repo}."
    assert seen[0] == 0
    total = sum(map(len, hub.files[CLIPSEG.repo].values())) // 10**6
    assert all(0 <= done <= of <= total for done, of in seen[1:])
    assert CLIPSEG not in needed_weights(TINY)


def test_nothing_ticked(hub: StandinHub) -> None:
    for repos in ([], ["someone/else"]):
        with pytest.raises(PromptError, match="Select what to download"):
            download_selected("tiny", repos, lambda *_, **__: None)
    assert not hub.requests


def test_a_refusal_is_told(hub: StandinHub) -> None:
    with pytest.raises(WeightsError, match=f"has no {SAM2_TINY.repo}"):
        download_selected("tiny", [SAM2_TINY.repo], lambda *_, **__: None)


@pytest.mark.browser
def test_in_the_browser(hub: StandinHub, address: str, chromium: object) -> None:
    """Tick, download, tick the method that can run now, run it; no other request leaves."""
    page = chromium.new_page()
    page.set_default_timeout(30_000)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(address)
    page.locator("#methods-fold button").click()
    page.locator("#downloads button", has_text="Weights available for download").click()
    hub.fail = lambda _: (418, {})
    page.locator("#downloads").get_by_label(CLIPSEG.repo).check()
    page.locator("#download").click()
    page.locator("#download-message [role=alert]", has_text="HTTP 418").wait_for()
    hub.fail = lambda _: None
    assert page.locator("#downloads").get_by_label(CLIPSEG.repo).is_checked()
    page.locator("#download").click()
    page.locator("#download-message", has_text=HERE.strip()).wait_for()
    assert page.locator("#downloads").get_by_label(CLIPSEG.repo).count() == 0
    page.keyboard.press("Escape")
    page.locator("#examples button", has_text="Shapes").first.click()
    page.wait_for_selector("#annotator .filled")
    page.locator("#methods-fold button").click()
    page.get_by_label("CLIPSeg + SAM · dense-prompt").check()
    page.keyboard.press("Escape")
    page.locator("#run").click()
    page.locator(".card", has_text="CLIPSeg + SAM").locator(".overlay").first.wait_for()
    assert not problems
    page.close()
