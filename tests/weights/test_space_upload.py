"""``space``: what goes up is all that a Space needs, and runs where nothing else is."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from huggingface_hub import constants
from PIL import Image

from clipsam.cli import main
from clipsam.cli import space as space_command
from clipsam.data.synthetic import SceneData
from clipsam.registry import methods
from clipsam.weights import space_upload as space_module
from clipsam.weights.bundle import WeightsError
from clipsam.weights.space_upload import FILES, FOLDERS, ROOT, push_space, space_files
from tests.weights.conftest import point_at
from tests.weights.standin_hub import StandinHub

REPO = "someone/workbench"
THERE = f"spaces/{REPO}"
BUNDLES = ("sam", "clip", *(id for id, cls in methods().items() if cls.info.needs_training))
STARTS = 240
"""Seconds until the page must answer: PyTorch is slow to import on a busy machine."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project that git does not look after, with what does not belong on a Space."""
    root = tmp_path / "project"
    root.mkdir()
    for name in FILES:
        shutil.copy(ROOT / name, root)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, root / name, copy_function=os.symlink)
    for name in ("tests/test_it.py", "runs/log.jsonl", "clipsam/__pycache__/a.pyc", "clipsam/.b/c"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("not for the Space")
    return root


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandinHub]:
    """An empty hub that may be written to."""
    server = StandinHub({})
    point_at(server.endpoint, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache.parent / "token"))
    monkeypatch.setenv("HF_TOKEN", server.token)
    yield server
    server.close()


def refused(root: Path, *parts: str) -> None:
    """The tree cannot go up; the sentence must hold the parts."""
    with pytest.raises(WeightsError) as caught:
        space_files(BUNDLES, root)
    message = str(caught.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message


def test_what_goes_up(project: Path) -> None:
    names = set(space_files(BUNDLES, project))
    assert {*FILES, "clipsam/workbench/compare/annotator.js", "clipsam/workbench/page.css"} <= names
    assert {"baselines/__init__.py", "checkpoints/tiny/clip/tokenizer.json"} <= names
    assert {name.split("/")[0] for name in names} == {*FILES, *FOLDERS}
    assert not any("__pycache__" in name or "/." in name for name in names)


def test_one_commit_and_it_runs_where_nothing_else_is(
    project: Path, hub: StandinHub, tmp_path: Path
) -> None:
    assert push_space(REPO, BUNDLES, private=True, root=project) == f"{hub.endpoint}/{THERE}"
    assert hub.sdks == {THERE: "gradio"} and hub.private == {THERE}
    assert len(hub.asked("POST", "commit")) == 1
    assert hub.large and set(hub.files[THERE]) == set(space_files(BUNDLES, project))
    space = tmp_path / "space"
    for name, content in hub.files[THERE].items():
        (space / name).parent.mkdir(parents=True, exist_ok=True)
        (space / name).write_bytes(content)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"GRADIO_SERVER_PORT": str(port), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    with (tmp_path / "log").open("w") as log:
        page = subprocess.Popen(
            [sys.executable, "app.py"],
            cwd=space,
            env={**os.environ, **settings},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            client = _connect(port, page, tmp_path / "log")
            answer = client.predict(
                image=handle_file(_picture(tmp_path)),
                classes="circle",
                methods=["clip-guided-sam", "esc-net"],
                api_name="/segment",
            )
        finally:
            page.terminate()
            page.wait(30)
    assert [method["error"] for method in answer["methods"]] == ["", ""]


def test_a_second_push_changes_what_is_there(project: Path, hub: StandinHub) -> None:
    push_space(REPO, BUNDLES, root=project)
    assert not hub.private
    (project / "app.py").write_text("# another\n")
    push_space(REPO, BUNDLES, root=project)
    assert hub.files[THERE]["app.py"] == b"# another\n"


def test_an_installed_package_is_no_project(tmp_path: Path, hub: StandinHub) -> None:
    refused(tmp_path, "is not a clone of the project", "clone it")
    assert not hub.requests


def test_an_incomplete_project(project: Path) -> None:
    (project / "checkpoints" / "tiny" / "esc-net" / "model.safetensors").unlink()
    refused(project, "is incomplete", "checkpoints/tiny/esc-net/model.safetensors")
    (project / "README.md").unlink()
    refused(project, "README.md and 1 more")


def test_changes_that_were_not_committed(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for git says what has changed; without git nothing is known to have."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    git = programs / "git"
    git.write_text("#!/bin/sh\nprintf ' M app.py\\0?? clipsam/new.py\\0'\n")
    git.chmod(0o755)
    refused(project, "app.py and 1 more", "commit or revert")
    git.write_text("#!/bin/sh\nexit 128\n")
    assert space_files(BUNDLES, project)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert space_files(BUNDLES, project)


def test_a_folder_is_no_space(project: Path) -> None:
    with pytest.raises(WeightsError, match="is a folder"):
        push_space("./space", BUNDLES, root=project)


def test_a_refusal_is_told(project: Path, hub: StandinHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_yesterday")
    with pytest.raises(WeightsError, match="denies write access"):
        push_space(REPO, BUNDLES, root=project)
    assert not hub.files


def test_the_command(
    project: Path,
    hub: StandinHub,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture,
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(space_command, "space_files", lambda own: space_files(own, project))
    monkeypatch.setattr(space_module, "space_files", lambda own, _: space_files(own, project))
    assert main(["space", "--push", REPO, "--dry-run"]) == 0
    *files, total = capsys.readouterr().out.splitlines()
    assert len(files) == len(space_files(BUNDLES, project)) and not hub.requests
    assert any(line.endswith("MB  app.py") for line in files)
    megabytes = sum(p.stat().st_size for p in space_files(BUNDLES, project).values()) / 1e6
    assert total.split() == [f"{megabytes:.3f}", "MB", "in", str(len(files)), "files"]
    assert main(["space", "--push", REPO, "--private"]) == 0
    assert f"{hub.endpoint}/{THERE}" in caplog.text
    (project / "LICENSE").unlink()
    assert main(["space", "--push", REPO]) == 2
    assert "is incomplete" in capsys.readouterr().err


def _picture(folder: Path) -> Path:
    path = folder / "picture.png"
    Image.fromarray(SceneData(1, seed=11)[0].image).save(path)
    return path


def _connect(port: int, page: subprocess.Popen, log: Path) -> Client:
    """A client of the page as soon as that answers."""
    for _ in range(STARTS):
        assert page.poll() is None, log.read_text()
        with socket.socket() as tried:
            if not tried.connect_ex(("127.0.0.1", port)):
                return Client(f"http://127.0.0.1:{port}", verbose=False)
        threading.Event().wait(1)  # the hub's tests do not sleep
    raise AssertionError(log.read_text())
