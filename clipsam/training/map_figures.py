"""What the bundled CLIP's own maps and words are worth, before any SAM."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import rankdata
from torch import Tensor

from ..data.readers import NamedData
from ..data.samples import VOID, SegmentationData
from ..encoded_image import EncodedImage, clip_input
from ..models.clip import encode_text, similarity_grid
from ..weights.backbones import Backbones
from .synonyms import SYNONYMS

POOLED_CELLS = 8
"""Cells whose mean product says how much of a name an image shows: the best ones."""

FROZEN = "frozen"
"""What a scene calls the features of the bundled CLIP as it is."""


@torch.no_grad()
def map_auc(backbones: Backbones, data: SegmentationData) -> float:
    """Mean over images and present classes of the area under the ROC curve of raw maps.

    Maps are enlarged to the image; unlabelled pixels do not count, nor does a class that covers
    all of the labelled ones.
    """
    areas = []
    for index in range(len(data)):
        sample = data[index]
        present = sample.present()
        if not present:
            continue
        tokens = EncodedImage(sample.image).clip_tokens(backbones, backbones.vision, FROZEN)
        text = backbones.text([(sample.names[value],) for value in present])
        maps = similarity_grid(tokens.expand(len(text), -1, -1), text)[:, None]
        maps = F.interpolate(maps, sample.classes.shape, mode="bilinear", align_corners=False)
        valid = sample.classes != VOID
        for values, one in zip(maps[:, 0].numpy(), present, strict=True):
            area = roc_auc(values[valid], sample.classes[valid] == one)
            if area is not None:
                areas.append(area)
    return float(np.mean(areas))


def roc_auc(scores: np.ndarray, truth: np.ndarray) -> float | None:
    """Area under the ROC curve of scores (N,) for truth bool (N,); ``None`` if all are one class.

    It is the probability that a true one scores higher than a false one (Mann–Whitney's U).
    """
    positive = int(truth.sum())
    negative = truth.size - positive
    if not positive or not negative:
        return None
    ranks = rankdata(scores)[truth].sum()
    return float((ranks - positive * (positive + 1) / 2) / (positive * negative))


@torch.no_grad()
def name_accuracy(
    backbones: Backbones, data: NamedData, names: Sequence[str]
) -> tuple[float, float]:
    """Share of photographs whose name is the likeliest of all, and one of the likeliest five.

    A name's score is the mean product of its best cells with its text, see :data:`POOLED_CELLS`:
    not a cosine, for a cell's length says how sure it is.

    Args:
        backbones: whose CLIP.
        data: photographs with a name each, which is one of ``names``.
        names: that compete; the same name twice counts once.
    """
    names = list(dict.fromkeys(names))
    text = backbones.text([(name,) for name in names])
    stem = backbones.vision.vision_model.embeddings.patch_embedding
    places = []
    for index, label in enumerate(data.labels):
        encoded = EncodedImage(data[index].image)
        pixels = clip_input(encoded.image, backbones.preset).to(backbones.device)
        tokens = backbones.vision(encoded.stem_input(stem, pixels))
        products = torch.einsum("nd,kd->kn", tokens[0, 1:], text)
        scores = products.topk(POOLED_CELLS, dim=1).values.mean(1)
        right = scores[names.index(data.names[label])]
        places.append(int((scores > right).sum()))
    ranks = np.array(places)
    return float((ranks < 1).mean()), float((ranks < 5).mean())


@torch.no_grad()
def synonyms_found(backbones: Backbones) -> int:
    """Of the hand-written synonyms, how many lie nearest to the right one of the names."""
    names = sorted(set(SYNONYMS.values()))
    words = list(SYNONYMS)

    def encode(texts: list[str]) -> Tensor:
        return F.normalize(encode_text(backbones.clip, backbones.text.tokenizer, texts), dim=-1)

    nearest = (encode(words) @ encode(names).T).argmax(1).tolist()
    return sum(names[i] == SYNONYMS[word] for i, word in zip(nearest, words, strict=True))
