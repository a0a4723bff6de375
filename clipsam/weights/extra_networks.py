"""Published networks that methods need in addition to SAM and CLIP, read by transformers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from transformers import (
    BertTokenizer,
    CLIPSegForImageSegmentation,
    CLIPTokenizer,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    ImageProcessingMixin,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    ViTImageProcessor,
)

from ..models.clipseg import ClipSeg
from ..models.grounding_dino import GroundingDino
from ..models.owlv2 import Owlv2
from ..models.sam3_model import Sam3, TextOnceSam3Model
from .bundle import WeightsError
from .files import read_state
from .local_files import LocalFiles
from .pretrained import read_bpe_tokenizer, read_sam2, read_tokenizer_json
from .published import (
    CLIPSEG,
    GROUNDING_DINO,
    OWLV2,
    SAM2_BASE_PLUS,
    SAM2_LARGE,
    SAM2_SMALL,
    SAM2_TINY,
    SAM3,
    SAM3_LITETEXT,
    PublishedWeights,
)

Model = TypeVar("Model", bound=PreTrainedModel)
Processor = TypeVar("Processor", bound=ImageProcessingMixin)


def read_network(published: PublishedWeights, files: LocalFiles) -> nn.Module:
    """Read a published network from its files, frozen, on the CPU.

    Raises:
        WeightsError: a file is damaged, or another network's.
    """
    return READERS[published.repo](files).eval().requires_grad_(False)


def read_model(files: LocalFiles, kind: type[Model]) -> Model:
    """Read a transformers model with all its weights from a file.

    Args:
        files: weights, and ``config.json``.
        kind: the class.

    Raises:
        WeightsError: a file is damaged, or another network's.
    """
    path = files.extras["config.json"]
    return _build_model(files, kind, read_json(path), read_state(files.weights))


def _build_model(
    files: LocalFiles, kind: type[Model], content: Mapping, state: Mapping[str, Tensor]
) -> Model:
    """Build a model from the content of its files, or from a part of it."""
    path = files.extras["config.json"]
    # Counters, which older files hold and not every release of transformers overlooks.
    state = {name: state[name] for name in state if not name.endswith(".position_ids")}
    model, report = kind.from_pretrained(
        None,
        config=_as_config(path, content, kind.config_class),
        state_dict=state,
        dtype=torch.float32,  # in which everything is computed, however it was stored
        ignore_mismatched_sizes=True,  # they are reported instead
        output_loading_info=True,
    )
    for key, problem in (
        ("missing_keys", "lacks"),
        ("unexpected_keys", "contains parameters unknown to {kind}:"),
        ("mismatched_keys", "contains parameters whose shapes differ from {path}:"),
    ):
        if names := sorted(str(name) for name in report[key]):
            text = problem.format(kind=kind.__name__, path=path.name)
            raise WeightsError(f"{files.weights} {text} {names[0]} (of {len(names)})")
    return model


def read_json(path: Path) -> dict:
    """Read a published JSON configuration.

    Raises:
        WeightsError: it is missing or not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read as JSON ({error})") from None
    if not isinstance(content, dict):
        raise WeightsError(f"{path} must be a JSON object, got {type(content).__name__}")
    return content


def _as_config(path: Path, content: Mapping, kind: type[PreTrainedConfig]) -> PreTrainedConfig:
    """Convert JSON content to a configuration.

    Raises:
        WeightsError: the content of ``path`` does not describe such a network.
    """
    if content.get("model_type") != kind.model_type:
        raise WeightsError(
            f"{path}: expected model type {kind.model_type}, got {content.get('model_type')}"
        )
    try:
        return kind.from_dict(dict(content))
    except Exception as error:  # transformers checks configurations with classes of its own
        raise WeightsError(f"{path} does not describe a {kind.model_type} ({error})") from None


def read_clipseg(files: LocalFiles) -> ClipSeg:
    """Read CLIPSeg from its published files.

    Raises:
        WeightsError: one of them is damaged, or another network's.
    """
    model = read_model(files, CLIPSegForImageSegmentation)
    path = files.extras["preprocessor_config.json"]
    processor = _image_processor(path, ViTImageProcessor)
    wide = np.zeros((2, 5, 3), np.uint8)
    batch = processor(wide, input_data_format="channels_last", return_tensors="pt")
    height, width = batch["pixel_values"].shape[-2:]
    if height != width:
        raise WeightsError(f"{path}: expected resizing to squares, got {processor.size}")
    return ClipSeg(model, _bpe_tokenizer(files, model), processor)


def read_sam3(files: LocalFiles) -> Sam3:
    """Read SAM 3 without its video parts.

    According to transformers' conversion script, the published configuration and weights are those
    of a ``Sam3VideoModel``, whose detector is the ``Sam3Model``; those of a ``Sam3Model`` alone are
    accepted too. The repository is gated, so its files could not be checked.

    Raises:
        WeightsError: a file is damaged, or another network's.
    """
    content = read_json(files.extras["config.json"])
    if content.get("model_type") == "sam3_video":
        content = content.get("detector_config") or {}
    state = read_state(files.weights)
    if any(name.startswith(_DETECTOR) for name in state):
        state = {
            name.removeprefix(_DETECTOR): tensor
            for name, tensor in state.items()
            if name.startswith(_DETECTOR)
        }
    model = _build_model(files, TextOnceSam3Model, content, state)
    return Sam3(model, _bpe_tokenizer(files, model))


def read_sam3_litetext(files: LocalFiles) -> Sam3:
    """Read SAM3-LiteText from its published files.

    Its padding is read as published, since its text tower sees it.

    Raises:
        WeightsError: a file is damaged, or another network's, or transformers is too old.
    """
    try:
        from ..models.sam3_litetext import TextOnceSam3LiteTextModel
    except ImportError:
        raise WeightsError(
            f"transformers {transformers.__version__} has no SAM3-LiteText; install a newer one"
        ) from None
    model = read_model(files, TextOnceSam3LiteTextModel)
    path = files.extras["tokenizer.json"]
    tokenizer = read_tokenizer_json(path, model.config.text_config.vocab_size)
    path = files.extras["tokenizer_config.json"]
    padding = read_json(path).get("pad_token")
    if isinstance(padding, dict):  # as older releases of transformers save a token
        padding = padding.get("content")
    if not isinstance(padding, str) or padding not in tokenizer.get_vocab():
        raise WeightsError(f"{path}: expected a pad_token of the vocabulary, got {padding}")
    tokenizer.pad_token = padding
    return Sam3(model, tokenizer)


def read_grounding_dino(files: LocalFiles) -> GroundingDino:
    """Read Grounding DINO from its published files.

    Raises:
        WeightsError: one of them is damaged, or another network's.
    """
    model = read_model(files, GroundingDinoForObjectDetection)
    tokenizer = _bert_tokenizer(files.extras["vocab.txt"], model.config.text_config.vocab_size)
    path = files.extras["preprocessor_config.json"]
    return GroundingDino(model, tokenizer, _image_processor(path, GroundingDinoImageProcessor))


def read_owlv2(files: LocalFiles) -> Owlv2:
    """Read OWLv2 from its published files.

    Raises:
        WeightsError: one of them is damaged, or another network's.
    """
    model = read_model(files, Owlv2ForObjectDetection)
    tokenizer = _bpe_tokenizer(files, model)
    tokenizer.pad_token = _OWLV2_PADDING
    path = files.extras["preprocessor_config.json"]
    processor = _image_processor(path, Owlv2ImageProcessor)
    side = model.config.vision_config.image_size
    size = read_json(path).get("size")
    if size != {"height": side, "width": side}:
        raise WeightsError(f"{path}: expected images of {side} × {side} pixels, got {size}")
    return Owlv2(model, tokenizer, processor)


def _image_processor(path: Path, kind: type[Processor]) -> Processor:
    """Build the image processor described by a ``preprocessor_config.json``.

    Raises:
        WeightsError: it is damaged, or another network's.
    """
    content = read_json(path)
    # Older releases of transformers call the same "FeatureExtractor", some "Fast".
    found = str(content.get("image_processor_type", content.get("feature_extractor_type")))
    if found.replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast") != kind.__name__:
        raise WeightsError(f"{path} should be of a {kind.__name__}, is of a {found}")
    try:
        processor = kind.from_dict(content)
        # What makes no sense is often noticed only when it is used.
        processor(np.zeros((2, 2, 3), np.uint8), input_data_format="channels_last")
    except Exception as error:  # transformers checks it with classes of its own
        raise WeightsError(f"{path} does not describe an image processor ({error})") from None
    return processor


def _bert_tokenizer(path: Path, size: int) -> BertTokenizer:
    """Build uncased BERT's tokenizer from its published vocabulary, one token per line.

    Raises:
        WeightsError: it is damaged, or has not the ``size`` tokens that the text tower knows.
    """
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read as text ({error})") from None
    vocabulary = {token: index for index, token in enumerate(lines)}
    if len(lines) != size or len(vocabulary) != size:
        raise WeightsError(
            f"{path}: expected {size:,} different tokens, one per line, got {len(vocabulary):,} in "
            f"{len(lines):,} lines"
        )
    for token, index in _BERT_TOKENS.items():
        if vocabulary.get(token) != index:
            raise WeightsError(
                f"{path}: expected token {token} with id {index}, got {vocabulary.get(token)}"
            )
    return BertTokenizer(vocab=vocabulary)


def _bpe_tokenizer(files: LocalFiles, model: PreTrainedModel) -> CLIPTokenizer:
    """Build the tokenizer of a network with CLIP's text tower."""
    size = model.config.text_config.vocab_size
    return read_bpe_tokenizer(files.extras["vocab.json"], files.extras["merges.txt"], size)


_OWLV2_PADDING = "!"
"""Padding of OWLv2's texts: CLIP's token 0."""

_BERT_TOKENS = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029}
"""Ids of special tokens in uncased BERT; transformers' Grounding DINO splits its text by them."""

_DETECTOR = "detector_model."
"""Prefix of SAM 3's weights in its video model."""

READERS: dict[str, Callable[[LocalFiles], nn.Module]] = {
    CLIPSEG.repo: read_clipseg,
    GROUNDING_DINO.repo: read_grounding_dino,
    OWLV2.repo: read_owlv2,
    SAM3.repo: read_sam3,
    SAM3_LITETEXT.repo: read_sam3_litetext,
    **{sam2.repo: read_sam2 for sam2 in (SAM2_TINY, SAM2_SMALL, SAM2_BASE_PLUS, SAM2_LARGE)},
}
"""Reader of each repository's files."""
