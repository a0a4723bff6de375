"""Files are written whole or not at all, and a place that cannot be written is told early."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from clipsam import writing
from clipsam.export import file_names, safe_name
from clipsam.writing import (
    OutputError,
    check_file,
    check_folder,
    printable,
    replacing,
    shorten,
    unwritable,
    write_text,
)


def test_old_or_new_but_nothing_between(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    write_text(path, "old")
    for error in (KeyboardInterrupt, ZeroDivisionError):
        with pytest.raises(error), replacing(path) as partial:
            partial.write_text("half of the n")
            assert partial.suffix == ".json" and path.read_text() == "old"
            raise error
    assert [p.name for p in tmp_path.iterdir()] == ["figures.json"] and path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "The disk is full, so .* cannot be written. Free some space."),
        (errno.ENAMETOOLONG, "is too long for a name. Choose a shorter one."),
        (errno.EROFS, r"cannot be written \(Read-only file system\)."),
    ],
)
def test_why_it_cannot_be_written(tmp_path: Path, number: int, says: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OutputError, match=says), replacing(path):
        raise OSError(number, os.strerror(number))
    assert path.read_text() == "old"
    assert len(str(unwritable(path, OSError(number, os.strerror(number)))).splitlines()) == 1


def test_a_full_device_is_told() -> None:
    """A device that is always full, written to for real."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no device that is always full")
    with pytest.raises(OSError) as caught, Path("/dev/full").open("wb", buffering=0) as file:
        file.write(b"x")
    assert "The disk is full" in str(unwritable(Path("/dev/full"), caught.value))


def test_places_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(OutputError):
            check_folder(place)
    with pytest.raises(OutputError, match="file is a file, expected a folder"):
        check_folder(tmp_path / "file")
    with pytest.raises(OutputError, match="is too long for a name"):
        check_folder(tmp_path / ("é" * 200))
    with pytest.raises(OutputError, match="is a folder, expected the name of a file"):
        check_file(tmp_path)
    check_file(tmp_path / "new" / "bundle.pth")
    usage = shutil.disk_usage(tmp_path)._replace(free=3_000_000)
    monkeypatch.setattr(writing.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OutputError, match="has only 3 MB free, expected at least 50 MB"):
        check_folder(tmp_path)


def test_names_fit_into_file_systems() -> None:
    """255 bytes are the limit of most, of which endings and numbers need some."""
    for text in ("é" * 300, "犬" * 100, "🐕" * 99, "a" * 300):
        assert 0 < len(safe_name(text).encode()) <= 120
        assert text.startswith(safe_name(text))
    assert len(set(file_names(["犬" * 100 + "a", "犬" * 100 + "b"]))) == 2
    assert shorten("dog") == "dog" and safe_name("dog") == "dog"


def test_names_that_cannot_be_decoded(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    assert printable(name) == "caf\\udce9.png"
    write_text(tmp_path / "a.txt", f"see {name}")
    assert (tmp_path / "a.txt").read_text() == "see caf\\udce9.png"
