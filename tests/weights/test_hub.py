"""Downloading, against a stand-in hub: what goes wrong ends in one sentence and no half file."""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load

from clipsam.cli import main
from clipsam.registry import find_info
from clipsam.weights import hub as hub_module
from clipsam.weights.availability import has_weights, method_status
from clipsam.weights.backbones import load_backbones
from clipsam.weights.bundle import WeightsError
from clipsam.weights.download import copy_from_folder, download
from clipsam.weights.files import file_hash
from clipsam.weights.local_files import LocalFiles, locate
from clipsam.weights.presets import PRESETS
from clipsam.weights.pretrained import read_sam
from tests.weights.conftest import SMALL
from tests.weights.standin_hub import checksum

WEIGHTS = "model.safetensors"
SAM, CLIP = SMALL.sam_source.repo, SMALL.clip_source.repo


def fails(preset, *parts: str) -> str:
    """Download in vain; the sentence must hold the parts, and the preset not be ready."""
    with pytest.raises(WeightsError) as caught:
        download(preset)
    message = str(caught.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message
    assert not has_weights(preset)
    return message


def unfinished(cache: Path) -> list[Path]:
    return list(cache.glob("**/*.incomplete"))


def test_first_download(small, hub, cache):
    assert not has_weights(small)
    with pytest.raises(WeightsError, match="`python -m clipsam download small`"):
        load_backbones(small)
    assert not hub.requests
    download(small)
    assert has_weights(small)
    assert not unfinished(cache)
    for repo, name in ((SAM, WEIGHTS), (CLIP, WEIGHTS), (CLIP, "vocab.json")):
        blob = cache / f"models--{repo.replace('/', '--')}" / "blobs"
        content = hub.files[repo][name]
        assert (blob / checksum(name, content)).read_bytes() == content
    assert sum(len(hub.asked("GET", name)) for name in hub.files[CLIP]) == 5
    asked = len(hub.requests)
    backbones = load_backbones(small)
    assert backbones.text([("cat",)]).shape == (1, small.clip.projection_dim)
    assert method_status(find_info("sam"), small) == "ready"
    assert method_status(find_info("clip-guided-sam"), small) == "untrained"
    download(small)
    assert len(hub.requests) == asked, "what is here is not asked for again"


def test_the_other_format_where_a_repository_has_only_that(small, hub, repositories, cache):
    content = io.BytesIO()
    torch.save(load(hub.files[CLIP].pop(WEIGHTS)), content)
    hub.files[CLIP]["pytorch_model.bin"] = content.getvalue()
    download(small)
    assert has_weights(small)
    load_backbones(small)


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("part", [0, 1, 100_000, 0.3, 0.999])
def test_goes_on_after_the_connection_was_cut(small, hub, cache, part, reset):
    size = len(hub.files[SAM][WEIGHTS])
    cut = int(part * size) if isinstance(part, float) else part
    hub.reset = reset
    hub.cut = lambda request: cut if request.repo == SAM and len(sam_gets(hub)) == 1 else None
    download(small)
    assert has_weights(small)
    first, second = sam_gets(hub)
    assert first.start == 0
    whole_chunks = cut - cut % constants.DOWNLOAD_CHUNK_SIZE
    # What a reset connection had already delivered may be lost with it.
    assert second.start == whole_chunks or (reset and second.start < whole_chunks)


def sam_gets(hub) -> list:
    return [request for request in hub.asked("GET", WEIGHTS) if request.repo == SAM]


def test_a_later_command_goes_on_where_the_network_broke_down(small, hub, cache):
    half = 100 * constants.DOWNLOAD_CHUNK_SIZE
    hub.cut = lambda request: half if request.repo == SAM and request.start == 0 else 0
    fails(small, "cannot be reached", "what was downloaded is kept")
    (partial,) = unfinished(cache)
    assert partial.stat().st_size == half
    hub.cut = lambda _: None
    hub.requests.clear()
    download(small)
    assert [request.start for request in sam_gets(hub)] == [half]
    assert has_weights(small) and not unfinished(cache)


def test_a_server_without_ranges_starts_over(small, hub, cache):
    hub.ranges = False
    hub.cut = lambda request: 1000 if request.repo == SAM and len(sam_gets(hub)) == 1 else None
    download(small)
    assert has_weights(small)


def test_an_unfinished_file_that_is_too_long_is_thrown_away(small, hub, cache):
    content = hub.files[SAM][WEIGHTS]
    blobs = cache / f"models--{SAM.replace('/', '--')}" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{checksum(WEIGHTS, content)}.incomplete").write_bytes(content + b"more")
    download(small)
    assert has_weights(small)


@pytest.mark.parametrize("kind", ["changed", "shorter", "longer", "web page", "pointer"])
@pytest.mark.parametrize("name", [WEIGHTS, "vocab.json"])
def test_wrong_content_is_thrown_away(small, hub, cache, kind, name):
    content = hub.files[CLIP][name]
    hub.sent[name] = {
        "changed": b"\xff" + content[1:],
        "shorter": content[:-1],
        "longer": content + b" ",
        "web page": b"<!DOCTYPE html><html>Please log in</html>",
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
    }[kind]
    fails(small, name, "checksum", "were deleted")
    assert not unfinished(cache)
    hub.sent.clear()
    download(small)
    assert has_weights(small)


def test_a_damaged_file_in_the_cache_is_replaced(small, hub, cache):
    download(small)
    blob = next(cache.glob("**/model.safetensors")).resolve()
    content = blob.read_bytes()
    blob.write_bytes(content[:-5])
    with pytest.raises(WeightsError, match=r"is a damaged or incomplete safetensors file"):
        load_backbones(small)
    download(small)
    assert blob.read_bytes() == content


def test_another_network_under_the_right_name(small, hub, cache):
    hub.files[SAM][WEIGHTS] = hub.files[CLIP][WEIGHTS]
    with pytest.raises(WeightsError, match=r"contains logit_scale .* which does not fit"):
        download(small)
    wider = dataclasses.replace(small, sam=dataclasses.replace(small.sam, window_size=4))
    with pytest.raises(WeightsError, match="does not fit"):
        load_backbones(wider)


@pytest.mark.parametrize(
    ("status", "headers", "parts"),
    [
        (401, {"X-Error-Code": "GatedRepo"}, ("accept its terms", "HF_TOKEN")),
        (403, {"X-Error-Code": "GatedRepo"}, ("accept its terms", "HF_TOKEN")),
        (403, {}, ("accept its terms", "HF_TOKEN")),
        (401, {}, (f"has no {SAM}", "HF_TOKEN")),
        (404, {"X-Error-Code": "RepoNotFound"}, (f"has no {SAM}", "HF_TOKEN")),
        (404, {"X-Error-Code": "RevisionNotFound"}, (SAM, "has no model.safetensors")),
        (404, {"X-Error-Code": "EntryNotFound"}, (SAM, "has no model.safetensors or pytorch_mod")),
        (418, {}, (SAM, "HTTP 418")),
    ],
)
def test_refusals(small, hub, cache, status, headers, parts):
    hub.fail = lambda _: (status, headers)
    fails(small, *parts)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("status", [429, 500, 503])
def test_overloaded_servers_are_asked_again(small, hub, cache, method, status):
    def thrice(request):
        return (status, {}) if len(hub.asked(method, WEIGHTS)) in (1, 2) else None

    hub.fail = lambda r: thrice(r) if (r.method, r.name) == (method, WEIGHTS) else None
    download(small)
    assert has_weights(small)


@pytest.mark.parametrize(
    ("status", "parts"), [(429, ("no more requests",)), (503, ("HTTP 503", "later"))]
)
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_overloaded_servers_are_given_up_on(small, hub, cache, method, status, parts):
    hub.fail = lambda request: (status, {}) if request.method == method else None
    fails(small, *parts)


def test_an_endpoint_that_is_no_hub(small, hub, cache):
    hub.fail = lambda _: (200, {"Content-Type": "text/html"})
    fails(small, "not a model hub", "HF_ENDPOINT")


def test_nobody_answers(small, cache):
    fails(small, "http://127.0.0.1:9 cannot be reached", "check the network")


def test_full_disk(small, hub, cache, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    fails(small, " MB, but only 0 MB are free", "HF_HOME")
    assert not any(request.method == "GET" for request in hub.requests)


def test_offline(small, hub, cache, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    fails(small, "HF_HUB_OFFLINE is set", SAM)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    download(small)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert has_weights(small)
    download(small)
    load_backbones(small)
    assert not hub.requests


TWO = """
import sys
from clipsam.weights.hub import fetch, look_up
fetch(look_up({repo!r}, ("model.safetensors",)))
"""


def test_two_processes_at_once(hub, cache):
    """With the real environment variables, which are read when the library is imported."""
    environment = {
        **os.environ,
        "HF_HOME": str(cache.parent),
        "HF_ENDPOINT": hub.endpoint,
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }
    environment.pop("HF_HUB_CACHE", None)
    command = [sys.executable, "-c", TWO.format(repo=SAM)]
    both = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [process.wait(timeout=500) for process in both] == [0, 0]
    assert hub_module.find_cached(SAM, WEIGHTS).read_bytes() == hub.files[SAM][WEIGHTS]
    assert not unfinished(cache)
    assert len(sam_gets(hub)) == 1


def test_the_command(small, hub, cache, repositories, monkeypatch, capsys):
    monkeypatch.setitem(PRESETS, "small", small)
    assert main(["download", "small"]) == 0
    assert has_weights(small)
    hub.fail = lambda _: (500, {})
    next(cache.glob("**/model.safetensors")).unlink()
    assert main(["download", "small"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("clipsam: ") and "HTTP 500" in error
    assert main(["download", "small", "--from", str(repositories)]) == 0
    assert has_weights(small)
    assert main(["download", "nothing"]) == 2
    assert main(["download", "tiny"]) == 0


def test_from_a_folder(small, repositories, cache):
    copy_from_folder(small, repositories)
    assert has_weights(small)
    load_backbones(small)
    assert not cache.exists()
    assert not list(cache.parent.glob("**/*.incomplete"))


def test_from_a_folder_with_something_missing(small, repositories, cache, tmp_path):
    folder = tmp_path / "stick"
    with pytest.raises(WeightsError, match="stick must contain someone/small-sam/ with"):
        copy_from_folder(small, folder)
    shutil.copytree(repositories / SAM, folder / "small-sam")
    shutil.copytree(repositories / CLIP, folder / CLIP)
    (folder / CLIP / "merges.txt").unlink()
    with pytest.raises(WeightsError, match=r"small-clip/ with .*merges\.txt"):
        copy_from_folder(small, folder)
    shutil.copy(repositories / CLIP / "merges.txt", folder / CLIP)
    weights = folder / "small-sam" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="damaged or incomplete"):
        copy_from_folder(small, folder)
    assert not has_weights(small)
    assert not list(cache.parent.glob("**/*.safetensors"))


def test_from_a_folder_with_metas_checkpoint(small, repositories, cache, tmp_path):
    sam_files = LocalFiles(repositories / SAM / WEIGHTS)
    torch.save(read_sam(sam_files, small.sam), tmp_path / "sam.pth")
    name = f"sam_vit_s_{file_hash(tmp_path / 'sam.pth', 'sha256')[:6]}.pth"
    source = dataclasses.replace(small.sam_source, checkpoint=name)
    preset = dataclasses.replace(small, sam_source=source)
    (tmp_path / "sam.pth").rename(tmp_path / name)
    shutil.copytree(repositories / CLIP, tmp_path / "small-clip")
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:-1] + b"?")
    with pytest.raises(WeightsError, match="SHA-256 that starts with"):
        copy_from_folder(preset, tmp_path)
    assert not has_weights(preset)
    (tmp_path / name).write_bytes(content)
    copy_from_folder(preset, tmp_path)
    assert locate(source).weights.name == name
    load_backbones(preset)
