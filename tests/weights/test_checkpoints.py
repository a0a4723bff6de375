"""Where checkpoints are looked for, and where new ones go."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipsam.weights import checkpoints
from clipsam.weights.checkpoints import ENVIRONMENT, checkpoint_folders, find_checkpoint

CHECKOUT = Path(__file__).resolve().parents[2] / "checkpoints"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package without a checkout around it; returns the user's folder."""
    package = tmp_path / "site-packages" / "clipsam"
    (package / "checkpoints" / "tiny" / "sam").mkdir(parents=True)
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(checkpoints, "_PACKAGE", package)
    return tmp_path / "home" / "clipsam" / "checkpoints"


def test_a_checkout_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    assert checkpoint_folders() == (CHECKOUT,)
    assert find_checkpoint("base", "sam-ptx") == CHECKOUT / "base" / "sam-ptx"


def test_the_environment_comes_first_but_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    (tmp_path / "tiny" / "clip").mkdir(parents=True)
    assert find_checkpoint("tiny", "clip") == tmp_path / "tiny" / "clip"
    assert find_checkpoint("tiny", "sam") == CHECKOUT / "tiny" / "sam"
    assert find_checkpoint("base", "sam-ptx") == tmp_path / "base" / "sam-ptx"


def test_an_installed_package_writes_to_its_users_folder(installed: Path) -> None:
    own = checkpoints._PACKAGE / "checkpoints" / "tiny" / "sam"
    assert find_checkpoint("tiny", "sam") == own
    place = find_checkpoint("base", "sam-ptx")
    assert place == installed / "base" / "sam-ptx"
    place.mkdir(parents=True)
    assert find_checkpoint("base", "sam-ptx") == place
