"""The wheel, in a virtual environment of its own, with no checkout in reach."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import sysconfig
import threading
import urllib.request
import venv
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

import clipsam
from clipsam.data.synthetic import SceneData
from clipsam.encoded_image import EncodedImage
from clipsam.marks import prompt_with_marks
from clipsam.registry import load_predictor
from clipsam.weights.backbones import Backbones

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = {"train": "requirements-train.txt", "dev": "requirements-dev.txt"}
MEGABYTES = 100
"""Of the wheel, at most: what the package index takes."""
SECONDS = 600
"""For a program to answer, on a busy machine."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*build, "--directory", str(folder)], cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("clipsam-*.whl"))


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the programs of an environment that has the wheel.

    Its other packages are those that run the tests: only the wheel is new. What these have as
    editable installs, such as this checkout, is not seen from there.
    """
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False)
    programs = home / "bin"
    paths = sysconfig.get_paths(vars={"base": str(home), "platbase": str(home)})
    installed = Path(paths["purelib"])
    here = sysconfig.get_paths()
    lines = dict.fromkeys((here["purelib"], here["platlib"]))
    (installed / "the-tests-own.pth").write_text("\n".join(lines) + "\n")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python"]
    install = ["install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([*pip, str(programs / "python"), *install], check=True)
    return programs


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which is no checkout; the user has no weights and the hub is not asked.

    It holds ``photo.png``.
    """
    for name in ("PYTHONPATH", "CLIPSAM_CHECKPOINTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    Image.fromarray(SceneData(12, 7)[3].image).save(tmp_path / "photo.png")
    return tmp_path


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_the_wheel_says(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        text = archive.read(f"clipsam-{clipsam.__version__}.dist-info/METADATA").decode()
    assert wheel.stat().st_size < MEGABYTES * 2**20
    tops = {name.split("/")[0] for name in names}
    assert tops == {"clipsam", "baselines", f"clipsam-{clipsam.__version__}.dist-info"}
    assert {"clipsam/py.typed", "baselines/py.typed", "clipsam/workbench/page.css"} <= set(names)
    presets = {name.split("/")[2] for name in names if name.startswith("clipsam/checkpoints/")}
    assert presets == {"tiny"}
    metadata = HeaderParser().parsestr(text)
    assert metadata["Requires-Python"] == ">=3.10"
    required = [Requirement(line) for line in metadata.get_all("Requires-Dist")]
    plain = [one for one in required if one.marker is None]
    assert sorted(map(_canonical, plain)) == _listed("requirements.txt")
    for extra, file in EXTRAS.items():
        own = [one for one in required if one.marker is not None and f"'{extra}'" in _marker(one)]
        assert sorted(map(_canonical, own)) == _listed(file)
    assert all(one.specifier for one in required)


def test_the_command(programs: Path, elsewhere: Path, tiny: Backbones) -> None:
    command = [programs / "clipsam", "segment", "photo.png", "--text", "red heart, red cross"]
    run(*command, "--method", "clip-guided-sam", "--out", "out")
    expected = _masks(tiny, elsewhere)
    for name, mask in zip(("red heart", "red cross"), expected, strict=True):
        written = np.asarray(Image.open(elsewhere / "out" / "clip-guided-sam" / f"{name}.png"))
        assert np.array_equal(written > 0, mask)


def test_three_lines_of_python(programs: Path, elsewhere: Path, tiny: Backbones) -> None:
    lines = """
import clipsam
model = clipsam.load("clip-guided-sam", device="cpu")
result = model("photo.png", ["red heart", "red cross"])
import json, sys, baselines
areas = result.masks.sum(axis=(1, 2)).tolist()
heavy = sorted({"gradio", "matplotlib"} & set(sys.modules))
print(json.dumps([areas, heavy, clipsam.__version__, clipsam.__file__, baselines.__file__]))
"""
    areas, heavy, version, *files = json.loads(run(programs / "python", "-c", lines))
    assert areas == [int(mask.sum()) for mask in _masks(tiny, elsewhere)]
    assert heavy == []
    assert version == clipsam.__version__
    assert all(Path(file).is_relative_to(programs.parent) for file in files)


def test_the_page(programs: Path, elsewhere: Path) -> None:
    """It is served with its own styles and canvas."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    started = elsewhere / "log"
    with started.open("w") as log:
        page = subprocess.Popen(
            [programs / "clipsam-app", "--port", port], stdout=log, stderr=subprocess.STDOUT
        )
        try:
            config = json.loads(_answer(f"http://127.0.0.1:{port}/config", page, started))
        finally:
            page.terminate()
            page.wait(30)
    assert (ROOT / "clipsam" / "workbench" / "page.css").read_text()[:200] in config["css"]
    assert config["title"] == "CLIP-guided SAM workbench"


def _masks(tiny: Backbones, folder: Path) -> np.ndarray:
    prompt = prompt_with_marks([["red heart"], ["red cross"]], [])
    predictor = load_predictor("clip-guided-sam", tiny)
    return predictor.predict(EncodedImage(folder / "photo.png"), prompt).masks()


def _listed(file: str) -> list[tuple[str, str, str]]:
    lines = [line.partition("#")[0].strip() for line in (ROOT / file).read_text().splitlines()]
    return sorted(_canonical(Requirement(line)) for line in lines if line)


def _canonical(one: Requirement) -> tuple[str, str, str]:
    return re.sub("[-_.]+", "-", one.name), ",".join(sorted(one.extras)), str(one.specifier)


def _marker(one: Requirement) -> str:
    return str(one.marker).replace('"', "'")


def _answer(address: str, page: subprocess.Popen, log: Path) -> bytes:
    """Return what the page answers, as soon as it does."""
    for _ in range(SECONDS):
        assert page.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                return answer.read()
        except OSError:  # refused, or too busy to answer in time
            threading.Event().wait(1)
    raise AssertionError(log.read_text())
