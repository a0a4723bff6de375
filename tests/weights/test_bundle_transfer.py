"""``push`` and ``pull``, against a stand-in hub and between folders."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard, constants

from clipsam.cli import main
from clipsam.encoded_image import EncodedImage
from clipsam.registry import find_method, methods
from clipsam.types import Concept, Prompt
from clipsam.weights import checkpoints
from clipsam.weights.bundle import WeightsError
from clipsam.weights.bundle_transfer import parse_location, pull_bundle, push_bundle
from clipsam.weights.model_card import MethodSummary
from clipsam.weights.presets import PRESETS
from tests.weights.conftest import point_at
from tests.weights.standin_hub import StandinHub

METHOD = "sam-decoder"
BUNDLED = Path(__file__).resolve().parents[2] / "checkpoints" / "tiny" / METHOD
REPO = "someone/my-sam"
FILES = ("README.md", "config.json", "model.safetensors")
METHODS = {
    id: MethodSummary(cls.info.name, cls.info.paper, cls.info.modes, cls.info.summary)
    for id, cls in methods().items()
    if cls.info.needs_training
}


@pytest.fixture
def bundle(tmp_path) -> Path:
    """A bundle of a person's own."""
    if not BUNDLED.is_dir():
        pytest.skip("the tiny bundle is not here")
    return Path(shutil.copytree(BUNDLED, tmp_path / "my-bundle"))


@pytest.fixture
def hub(cache, monkeypatch) -> Iterator[StandinHub]:
    """An empty hub that may be written to."""
    server = StandinHub({})
    point_at(server.endpoint, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache.parent / "token"))
    monkeypatch.setenv("HF_TOKEN", server.token)
    yield server
    server.close()


def change(bundle: Path, **fields: object) -> None:
    """Change fields of a bundle's config."""
    config = json.loads((bundle / "config.json").read_text())
    (bundle / "config.json").write_text(json.dumps({**config, **fields}))


def push_fails(bundle: Path, target: str, *parts: str) -> None:
    """Push in vain; the sentence must hold the parts."""
    with pytest.raises(WeightsError) as caught:
        push_bundle(bundle, target, METHODS)
    message = str(caught.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message


def pull_fails(source: str, out: Path, *parts: str) -> None:
    """Pull in vain; the sentence must hold the parts, and there be nothing new."""
    before = out.exists()
    with pytest.raises(WeightsError) as caught:
        pull_bundle(source, METHODS, out)
    message = str(caught.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message
    assert out.exists() == before
    assert not list(out.parent.glob(f".{out.name}*"))


def assert_same(bundle: Path, other: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        assert (bundle / name).read_bytes() == (other / name).read_bytes()


def test_there_and_back(bundle, hub, tiny, tmp_path):
    (bundle / "log.jsonl").write_text("of the training\n")
    before = sorted(path.name for path in bundle.iterdir())
    assert push_bundle(bundle, REPO, METHODS) == f"{hub.endpoint}/{REPO}"
    assert sorted(path.name for path in bundle.iterdir()) == before
    assert sorted(hub.files[REPO]) == list(FILES)
    assert len(hub.asked("POST", "commit")) == 1
    assert not hub.private
    out = tmp_path / "pulled"
    pulled = pull_bundle(REPO, METHODS, out)
    assert (pulled.folder, pulled.method, pulled.preset) == (out, METHOD, "tiny")
    assert pulled.is_new
    assert sorted(path.name for path in out.iterdir()) == list(FILES)
    assert not any(path.is_symlink() for path in out.iterdir())
    assert_same(bundle, out)
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    prompt = Prompt((Concept(("cat",), points=[[20, 20]], labels=[1]),))
    original, travelled = (
        find_method(METHOD).load(tiny, folder).predict(EncodedImage(image), prompt).logits()
        for folder in (bundle, out)
    )
    assert np.array_equal(original, travelled)


def test_a_later_version_takes_the_place_of_the_earlier(bundle, hub, tmp_path):
    push_bundle(bundle, REPO, METHODS)
    pull_bundle(REPO, METHODS, tmp_path / "first")
    change(bundle, training={"seed": 8})
    push_bundle(bundle, REPO, METHODS)
    assert len([request for request in hub.requests if request.method == "PUT"]) == 1
    pull_bundle(REPO, METHODS, tmp_path / "second")
    assert_same(bundle, tmp_path / "second")
    assert "- seed: 8" in (tmp_path / "second" / "README.md").read_text()


def test_private(bundle, hub, tmp_path):
    push_bundle(bundle, REPO, METHODS, private=True)
    assert hub.private == {REPO}
    with pytest.raises(WeightsError, match="only a repository of the hub can be private"):
        push_bundle(bundle, str(tmp_path / "folder"), METHODS, private=True)
    assert not (tmp_path / "folder").exists()


def test_the_card(bundle, hub):
    push_bundle(bundle, REPO, METHODS)
    content = hub.files[REPO]["README.md"].decode()
    card = ModelCard(content)
    assert card.data.to_dict() == yaml.safe_load(content.split("---")[1])
    assert card.data.library_name == "clipsam"
    assert card.data.pipeline_tag == "image-segmentation"
    assert card.data.license == "apache-2.0"
    assert METHOD in card.data.tags
    assert "base_model" not in card.data.to_dict()
    for part in (
        find_method(METHOD).info.summary,
        "https://arxiv.org/abs/2304.02643",
        f"python -m clipsam pull {REPO} --out my-sam",
        f'--point "dog:120,80,1" --preset tiny --method {METHOD}@my-sam --out results/',
        "are bundled with the project",
        "4.06 M parameters in 2.2 MB: 4.05 M as differences in 4 bits",
        "- split: 512 of scenes, 64 of camouflage",
        "| seed | 20 |",
        "| lr | 0.0004 |",
    ):
        assert part in content
    assert "mIoU" not in content, "nothing was measured"


def test_the_card_of_a_preset_with_published_weights(bundle, hub):
    training = {
        "data": "folder:a|b\nc",
        "validation_miou": {"before": 0.25, "after": 0.5},
        "recipe": {"seed": 3, "steps": None, "data": "a|b"},
    }
    change(bundle, preset="base", method="clip-guided-sam", training=training)
    push_bundle(bundle, REPO, METHODS)
    content = hub.files[REPO]["README.md"].decode()
    sam, clip = PRESETS["base"].sam_source, PRESETS["base"].clip_source
    assert ModelCard(content).data.base_model == [sam.repo, clip.repo]
    for part in (
        f"needs [{sam.repo}](https://huggingface.co/{sam.repo}) ({sam.licence}, {sam.megabytes} MB",
        "`python -m clipsam download base`",
        "before 25.0 %, after 50.0 %",
        "- data: folder:a\\|b c",
        "| steps | – |",
        "| data | a\\|b |",
    ):
        assert part in content
    assert "--point" not in content


@pytest.mark.parametrize(
    ("training", "part"),
    [
        (None, "does not record its training"),
        ({}, "does not record its training"),
        ([1], "does not record its training"),
        ({"imported": "theirs.pth"}, "- imported: theirs.pth\n"),
    ],
)
def test_the_card_of_a_bundle_that_says_little(bundle, hub, training, part):
    change(bundle, training=training)
    push_bundle(bundle, REPO, METHODS)
    assert part in hub.files[REPO]["README.md"].decode()


def test_whose_card_it_is(bundle, hub, tmp_path):
    (bundle / "README.md").write_text("# By `train`\n\n![Loss and IoU](curve.png)\n")
    push_bundle(bundle, REPO, METHODS)
    assert "curve.png" not in hub.files[REPO]["README.md"].decode()
    pull_bundle(REPO, METHODS, tmp_path / "pulled")
    push_bundle(tmp_path / "pulled", "someone/else", METHODS)
    assert "pull someone/else" in hub.files["someone/else"]["README.md"].decode()
    own = "---\nlicense: mit\n---\n# My own words\n"
    (bundle / "README.md").write_text(own)
    push_bundle(bundle, REPO, METHODS)
    assert hub.files[REPO]["README.md"].decode() == own
    (bundle / "README.md").write_text("---\n- no\n- mapping\n---\n")
    push_fails(bundle, REPO, "rejects the upload", "no front matter")


@pytest.mark.parametrize(
    "text", ["name", "a/b?", "-a/b", "a/b.git", "a--b/c", "my bundle", "", "https://hub/a/b"]
)
def test_neither_folder_nor_repository(bundle, hub, tmp_path, text):
    push_fails(bundle, text, f"“{text}” is", "OWNER/NAME")
    pull_fails(text, tmp_path / "out", f"“{text}” is", "OWNER/NAME")
    assert not hub.requests


def test_folder_or_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "there").mkdir(parents=True)
    assert parse_location("owner/name") == "owner/name"
    assert parse_location("owner/there") == Path("owner/there")
    assert parse_location("owner") == Path("owner")
    assert parse_location("./new") == Path("new")
    assert parse_location("a/b/c") == Path("a/b/c")
    assert parse_location("~/a") == Path.home() / "a"


def test_without_a_token(bundle, hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    push_fails(bundle, REPO, "needs a token", "HF_TOKEN")
    assert not hub.requests


def test_with_another_token(bundle, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_yesterday")
    push_fails(bundle, REPO, f"denies write access to {REPO}", "HF_TOKEN", "of a member of someone")
    assert not hub.files


@pytest.mark.parametrize("step", ["create", "preupload", "batch", "commit"])
@pytest.mark.parametrize(
    ("status", "parts"),
    [
        (401, ("denies write access", "HF_TOKEN")),
        (403, ("denies write access", "HF_TOKEN")),
        (418, (f"the upload of {REPO}", "HTTP 418")),
        (429, ("no more requests",)),
        (500, (f"the upload of {REPO}", "HTTP 500", "later")),
        (503, (f"the upload of {REPO}", "HTTP 503", "later")),
    ],
)
def test_refusals(bundle, hub, step, status, parts):
    hub.fail = lambda request: (status, {}) if request.name == step else None
    push_fails(bundle, REPO, *parts)
    assert not hub.files.get(REPO)


def test_who_may_not_make_repositories_but_write_to_this_one(bundle, hub):
    hub.files[REPO] = {}
    hub.fail = lambda request: (403, {}) if request.name == "create" else None
    push_bundle(bundle, REPO, METHODS)
    assert sorted(hub.files[REPO]) == list(FILES)


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_cut_upload(bundle, hub, reset):
    hub.reset = reset
    hub.cut = lambda request: 1000 if request.method == "PUT" else None
    push_fails(bundle, REPO, "cannot be reached", REPO, "check the network")
    assert not hub.files[REPO]
    assert not hub.asked("POST", "commit")
    hub.cut = lambda _: None
    push_bundle(bundle, REPO, METHODS)
    assert sorted(hub.files[REPO]) == list(FILES)


def test_an_overloaded_server_is_asked_again(bundle, hub):
    def puts():
        return [request for request in hub.requests if request.method == "PUT"]

    hub.fail = lambda r: (503, {}) if r.method == "PUT" and len(puts()) < 3 else None
    push_bundle(bundle, REPO, METHODS)
    assert sorted(hub.files[REPO]) == list(FILES)
    assert len(puts()) == 3


def test_what_has_been_sent_is_not_sent_again(bundle, hub):
    hub.fail = lambda request: (500, {}) if request.name == "commit" else None
    push_fails(bundle, REPO, "HTTP 500")
    hub.fail = lambda _: None
    push_bundle(bundle, REPO, METHODS)
    assert len([request for request in hub.requests if request.method == "PUT"]) == 1


def test_a_web_page_in_place_of_a_hub(bundle, hub):
    hub.fail = lambda _: (200, {"Content-Type": "text/html"})
    push_fails(bundle, REPO, "does not answer as a hub of models", "HF_ENDPOINT")


def test_a_server_without_xet(bundle, hub, cache, monkeypatch):
    """Earlier versions of the library ask it for another way, later ones must be told."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    monkeypatch.setenv("HF_HOME", str(cache.parent))
    try:
        push_bundle(bundle, REPO, METHODS)
    except WeightsError as error:
        assert "HF_HUB_DISABLE_XET=1" in str(error)
        assert not hub.files[REPO]
    else:
        assert sorted(hub.files[REPO]) == list(FILES)


def test_nobody_answers(bundle, hub, monkeypatch, tmp_path):
    point_at("http://127.0.0.1:9", monkeypatch)
    push_fails(bundle, REPO, "http://127.0.0.1:9 cannot be reached", "check the network")
    pull_fails(REPO, tmp_path / "out", "http://127.0.0.1:9 cannot be reached")


def test_offline(bundle, hub, monkeypatch, tmp_path):
    push_bundle(bundle, REPO, METHODS)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    push_fails(bundle, REPO, "HF_HUB_OFFLINE is set")
    pull_fails(REPO, tmp_path / "out", "HF_HUB_OFFLINE is set", "is not in")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    pull_bundle(REPO, METHODS, tmp_path / "first")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    pull_bundle(REPO, METHODS, tmp_path / "second")
    assert_same(bundle, tmp_path / "second")
    assert not hub.requests


DAMAGES = {
    "no config": (lambda b: (b / "config.json").unlink(), "has no config.json"),
    "no weights": (lambda b: (b / "model.safetensors").unlink(), "has no model.safetensors"),
    "config cut off": (lambda b: (b / "config.json").write_text('{"method": '), "is damaged"),
    "config of bytes": (lambda b: (b / "config.json").write_bytes(b"\xff\xfe\x00"), "is damaged"),
    "config a list": (
        lambda b: (b / "config.json").write_text("[]"),
        "is not a bundle of a method",
    ),
    "weights cut off": (
        lambda b: (b / "model.safetensors").write_bytes(
            (b / "model.safetensors").read_bytes()[:-3]
        ),
        "is damaged",
    ),
    "weights empty": (lambda b: (b / "model.safetensors").write_bytes(b""), "is damaged"),
    "a web page": (lambda b: (b / "model.safetensors").write_text("<html>" * 9), "is damaged"),
    "another kind": (lambda b: change(b, network=None), "is not a bundle of a method"),
    "unknown method": (lambda b: change(b, method="sam-9"), "the method “sam-9”, expected one of"),
    "no weights of its own": (
        lambda b: change(b, method="sam"),
        "the method “sam”, expected one of",
    ),
    "unknown preset": (lambda b: change(b, preset="../.."), "the preset “../..”, expected one of"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_no_good_bundle(bundle, hub, tmp_path, kind):
    damage, part = DAMAGES[kind]
    push_bundle(bundle, REPO, METHODS)
    damage(bundle)
    hub.files[REPO] = {
        name: (bundle / name).read_bytes()
        for name in ("config.json", "model.safetensors")
        if (bundle / name).is_file()
    }
    hub.requests.clear()
    push_fails(bundle, REPO, part)
    push_fails(bundle, str(tmp_path / "target"), part)
    assert not hub.requests and not (tmp_path / "target").exists()
    pull_fails(str(bundle), tmp_path / "out", part)
    pull_fails(REPO, tmp_path / "out", part)


def test_a_repository_without_a_card(bundle, hub, tmp_path):
    push_bundle(bundle, REPO, METHODS)
    del hub.files[REPO]["README.md"]
    pull_bundle(REPO, METHODS, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == list(FILES[1:])


@pytest.mark.parametrize("part", [0, 100_000, 2_000_000])
def test_goes_on_after_the_connection_was_cut(bundle, hub, tmp_path, part):
    push_bundle(bundle, REPO, METHODS)
    weights = "model.safetensors"
    hub.cut = lambda request: (
        part if request.name == weights and len(hub.asked("GET", weights)) == 1 else None
    )
    pull_bundle(REPO, METHODS, tmp_path / "out")
    assert_same(bundle, tmp_path / "out")
    whole_chunks = part - part % constants.DOWNLOAD_CHUNK_SIZE
    assert [request.start for request in hub.asked("GET", weights)] == [0, whole_chunks]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_wrong_content_is_thrown_away(bundle, hub, tmp_path, name):
    push_bundle(bundle, REPO, METHODS)
    hub.sent[name] = b"?" + hub.files[REPO][name][1:]
    pull_fails(REPO, tmp_path / "out", name, "checksum", "were deleted")
    hub.sent.clear()
    pull_bundle(REPO, METHODS, tmp_path / "out")
    assert_same(bundle, tmp_path / "out")


def test_a_damaged_file_in_the_cache_is_replaced(bundle, hub, cache, tmp_path):
    push_bundle(bundle, REPO, METHODS)
    pull_bundle(REPO, METHODS, tmp_path / "first")
    blob = next(cache.glob("**/model.safetensors")).resolve()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    pull_bundle(REPO, METHODS, tmp_path / "second")
    assert_same(bundle, tmp_path / "second")


def test_a_repository_that_is_not_there(hub, tmp_path):
    pull_fails(REPO, tmp_path / "out", f"has no {REPO}", "HF_TOKEN")
    pull_fails("./nothing", tmp_path / "out", "has no config.json")
    hub.files[REPO] = {"pytorch_model.bin": b""}
    pull_fails(REPO, tmp_path / "out", REPO, "has no config.json")


def test_where_pull_puts_it(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "checkpoint_folders", lambda: (tmp_path / "bundles",))
    place = tmp_path / "bundles" / "tiny" / METHOD
    pulled = pull_bundle(str(bundle), METHODS)
    assert pulled.folder == place and pulled.is_new
    assert not pull_bundle(str(bundle), METHODS).is_new
    change(bundle, training={"seed": 9})
    pull_fails(str(bundle), place, "contains something else", "--out")
    change(bundle, preset="base")
    pulled = pull_bundle(str(bundle), METHODS)
    assert pulled.folder == tmp_path / "bundles" / "base" / METHOD
    pull_fails(str(bundle), place, "contains something else")
    assert json.loads((place / "config.json").read_text())["preset"] == "tiny"


def test_where_pull_puts_nothing(bundle, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    pull_bundle(str(bundle), METHODS, out)
    (tmp_path / "file").write_text("mine")
    pull_fails(str(bundle), tmp_path / "file", "contains something else")
    pull_fails(str(bundle), tmp_path / "file" / "out", "cannot be written")
    assert (tmp_path / "file").read_text() == "mine"


def test_push_to_a_folder(bundle, tmp_path):
    target = tmp_path / "stick" / "sam"
    assert push_bundle(bundle, str(target), METHODS) == str(target)
    assert sorted(path.name for path in target.iterdir()) == list(FILES)
    assert "pull path/to/sam --out sam" in (target / "README.md").read_text()
    change(bundle, training={"seed": 7})
    push_bundle(bundle, str(target), METHODS)
    assert_same(bundle, target)
    assert [path.name for path in target.parent.iterdir()] == ["sam"]


def test_folders_that_are_not_replaced(bundle, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("mine")
    push_fails(bundle, str(other), "is not a bundle")
    push_bundle(bundle, str(tmp_path / "target"), METHODS)
    (tmp_path / "target" / "letter.txt").write_text("mine")
    push_fails(bundle, str(tmp_path / "target"), "also contains other files (letter.txt)")
    (tmp_path / "target" / "letter.txt").unlink()
    change(bundle, preset="base")
    push_fails(bundle, str(tmp_path / "target"), "the preset tiny", "for base")
    change(bundle, preset="tiny", method="sam-lora")
    push_fails(bundle, str(tmp_path / "target"), "the method sam-decoder", "for sam-lora")
    assert (other / "letter.txt").read_text() == "mine"
    assert_same(BUNDLED, tmp_path / "target")


@pytest.mark.parametrize("broken", ["copyfile", "rename"])
def test_a_folder_is_written_whole_or_not_at_all(bundle, tmp_path, monkeypatch, broken):
    target = tmp_path / "stick" / "sam"
    push_bundle(bundle, str(target), METHODS)
    change(bundle, training={"seed": 7})
    rename = Path.rename

    def fail(source: Path, target: Path) -> None:
        if broken == "rename" and not source.name.endswith(".incomplete"):
            rename(source, target)
        else:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*((shutil, "copyfile") if broken == "copyfile" else (Path, "rename")), fail)
    push_fails(bundle, str(target), "cannot be written", "No space left")
    assert_same(BUNDLED, target)
    assert [path.name for path in target.parent.iterdir()] == ["sam"]


def test_the_commands(bundle, hub, tmp_path, monkeypatch, caplog, capsys):
    caplog.set_level("INFO")
    assert main(["push", str(bundle), REPO, "--private"]) == 0
    assert f"{hub.endpoint}/{REPO}" in caplog.text
    out = tmp_path / "out"
    assert main(["pull", REPO, "--out", str(out)]) == 0
    assert f"--preset tiny --method {METHOD}@{out}" in caplog.text
    assert "clipsam download" not in caplog.text
    assert main(["pull", REPO, "--out", str(out)]) == 0
    assert "already up to date" in caplog.text
    source = replace(PRESETS["base"].sam_source, repo="someone/never-published")
    monkeypatch.setitem(PRESETS, "base", replace(PRESETS["base"], sam_source=source))
    change(bundle, preset="base")
    assert main(["pull", str(bundle), "--out", str(tmp_path / "base")]) == 0
    assert "First run: python -m clipsam download base" in caplog.text
    assert main(["push", str(tmp_path), REPO]) == 2
    assert "is not a bundle" in capsys.readouterr().err
