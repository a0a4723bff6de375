"""Bundles: written whole, read safely, refused with reasons."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from clipsam.weights.bundle import WeightsError, load_bundle, load_into, save_bundle

STATE = {
    "weight": torch.tensor([[0.5, -2.0], [1e-3, 1000.0]]),
    "bias": torch.tensor([0.25, 0.0]),
}


@pytest.fixture
def folder(tmp_path):
    save_bundle(tmp_path / "a" / "b", {"preset": "tiny", "threshold": 0.8}, STATE)
    return tmp_path / "a" / "b"


def test_there_and_back(folder):
    config, state = load_bundle(folder)
    assert config == {"preset": "tiny", "threshold": 0.8}
    assert state.keys() == STATE.keys()
    for name, tensor in state.items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, STATE[name], rtol=1e-3, atol=0)
    assert not list(folder.glob("*.partial"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").unlink(), r"has no config\.json"),
        (lambda f: (f / "model.safetensors").unlink(), r"has no model\.safetensors"),
        (lambda f: (f / "config.json").write_text("{"), "damaged"),
        (lambda f: (f / "model.safetensors").write_bytes(b"version https://git-lfs"), "damaged"),
        (
            lambda f: (f / "model.safetensors").write_bytes(
                (f / "model.safetensors").read_bytes()[:-3]
            ),
            "damaged",
        ),
    ],
    ids=["no config", "no weights", "config cut off", "a pointer file", "weights cut off"],
)
def test_damaged_bundles(folder, damage, message):
    damage(folder)
    with pytest.raises(WeightsError, match=message):
        load_bundle(folder)


def test_weights_that_are_not_in_the_base_are_stored_in_a_byte_each(tmp_path):
    state = {**STATE, "tuned": torch.ones(2, 64)}
    base = {"tuned": torch.ones(2, 64)}
    save_bundle(tmp_path, {}, state, base)
    loaded = load_bundle(tmp_path, base)[1]
    assert loaded.keys() == state.keys()
    assert torch.equal(loaded["tuned"], state["tuned"])
    assert torch.equal(loaded["bias"], state["bias"])
    error = (loaded["weight"] - state["weight"]).abs().max()
    assert 0 < error <= 1000 / 127
    with pytest.raises(WeightsError, match="tuned as a difference"):
        load_bundle(tmp_path)


def test_load_into_checks_names_and_shapes():
    linear = nn.Linear(2, 2)
    load_into(linear, {"bias": STATE["bias"]}, "here")
    assert torch.equal(linear.bias, STATE["bias"])
    with pytest.raises(WeightsError, match="here contains scale"):
        load_into(linear, {"scale": STATE["bias"]}, "here")
    with pytest.raises(WeightsError, match=r"expected weight of shape \(2, 2\), got \(2,\)"):
        load_into(linear, {"weight": STATE["bias"]}, "here")
