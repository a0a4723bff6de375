"""Files that are not what they should be are refused with a reason, and nothing in them is run."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from clipsam.weights.bundle import WeightsError
from clipsam.weights.files import file_hash, read_state
from clipsam.weights.local_files import LocalFiles
from clipsam.weights.pretrained import read_clip, read_clip_tokenizer, read_sam
from tests.weights.conftest import SMALL, SMALL_CLIP, SMALL_SAM

STATE = {"a": torch.arange(100.0), "b": torch.ones(2, 3)}


def saved(folder: Path, name: str) -> Path:
    path = folder / name
    if path.suffix == ".safetensors":
        save_file(STATE, path)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=name != "old.bin")
    return path


@pytest.mark.parametrize("name", ["new.safetensors", "new.pth", "old.bin"])
def test_there_and_back(tmp_path, name):
    read = read_state(saved(tmp_path, name))
    assert read.keys() == STATE.keys()
    assert all(torch.equal(read[key], STATE[key]) for key in STATE)


@pytest.mark.parametrize("name", ["new.safetensors", "new.pth", "old.bin"])
@pytest.mark.parametrize("part", [3, 0.1, 0.5, 0.99])
def test_cut_off(tmp_path, name, part):
    path = saved(tmp_path, name)
    content = path.read_bytes()
    path.write_bytes(content[: part if part == 3 else int(part * len(content))])
    with pytest.raises(
        WeightsError, match=r"is a damaged or incomplete (PyTorch checkpoint|safetensors file)"
    ):
        read_state(path)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><title>Error</title>", "is a web page"),
        (b"<html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "is a git-lfs pointer"),
    ],
)
@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_other_kinds(tmp_path, name, content, found):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=rf"{found}.*{len(content)} bytes\), expected"):
        read_state(tmp_path / name)


def test_one_kind_under_the_name_of_the_other(tmp_path):
    wrong = saved(tmp_path, "a.pth").rename(tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=r"is a PyTorch checkpoint \(.*\), expected safetensors"):
        read_state(wrong)
    wrong = saved(tmp_path, "b.safetensors").rename(tmp_path / "b.pth")
    with pytest.raises(WeightsError, match=r"looks like safetensors \(.*\), expected a PyTorch"):
        read_state(wrong)
    with pytest.raises(WeightsError, match="cannot be read"):
        read_state(tmp_path / "nothing.pth")


class Malice:
    """Asks for a file to be made when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("save", [torch.save, lambda x, p: p.write_bytes(pickle.dumps(x, 2))])
def test_code_in_a_checkpoint_is_not_run(tmp_path, save):
    path, trace = tmp_path / "a.pth", tmp_path / "trace"
    save({"a": Malice(trace)}, path)
    with pytest.raises(
        WeightsError, match=r"asks for code to be run.*, expected tensors only|damaged"
    ):
        read_state(path)
    assert not trace.exists()


def test_more_than_tensors(tmp_path):
    torch.save({"state": STATE, "epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="must contain named tensors only"):
        read_state(tmp_path / "a.pth")


def test_hashes_by_hand(tmp_path):
    """The values that `sha256sum` and `git hash-object` give."""
    path = tmp_path / "hello"
    path.write_bytes(b"Hello, World!")
    assert file_hash(path, "git") == "b45ef6fec89518d314f546fd6c3025367b721684"
    assert file_hash(path, "sha256").startswith("dffd6021bb2bd5b0af676290809ec3a5")


def published(repositories: Path, **changed: Path) -> LocalFiles:
    folder = repositories / SMALL.clip_source.repo
    extras = {name: folder / name for name in SMALL.clip_source.extras}
    return LocalFiles(folder / "model.safetensors", {**extras, **changed})


def test_another_sam(repositories):
    files = LocalFiles(repositories / SMALL.sam_source.repo / "model.safetensors")
    with pytest.raises(WeightsError, match=r"expected image_encoder\..* of shape \(.*\), got \("):
        read_sam(files, replace(SMALL_SAM, image_size=128, window_size=3))
    with pytest.raises(WeightsError, match=r"lacks image_encoder\.blocks\.3\."):
        read_sam(files, replace(SMALL_SAM, depth=4))
    with pytest.raises(WeightsError, match=r"contains vision_encoder\.layers\.2\..* does not fit"):
        read_sam(files, replace(SMALL_SAM, depth=2))
    with pytest.raises(WeightsError, match="does not fit"):
        read_sam(published(repositories), SMALL_SAM)


def test_another_clip(repositories, tmp_path):
    files = published(repositories)
    with pytest.raises(WeightsError, match=r"expected vision_config\.num_attention_heads 4, got 2"):
        read_clip(files, replace(SMALL_CLIP, vision_heads=4))
    with pytest.raises(WeightsError, match=r"expected .*, got "):
        read_clip(files, replace(SMALL_CLIP, projection_dim=8))
    config = tmp_path / "config.json"
    config.write_text('{"text_config": {"hidden_act": "gelu", "num_attention_heads": 2}}')
    with pytest.raises(WeightsError, match=r"expected text_config\.hidden_act quick_gelu, got gel"):
        read_clip(published(repositories, **{"config.json": config}), SMALL_CLIP)
    config.write_text("<html>")
    with pytest.raises(WeightsError, match="is not a configuration of CLIP"):
        read_clip(published(repositories, **{"config.json": config}), SMALL_CLIP)


def test_another_vocabulary(repositories, tmp_path):
    with pytest.raises(WeightsError, match=r"expected 600 tokens, the last two"):
        read_clip_tokenizer(published(repositories), replace(SMALL_CLIP, vocab_size=600))
    (tmp_path / "vocab.json").write_text("<html>")
    damaged = published(repositories, **{"vocab.json": tmp_path / "vocab.json"})
    with pytest.raises(WeightsError, match="are not a vocabulary"):
        read_clip_tokenizer(damaged, SMALL_CLIP)
