"""Training of ESC-Net: every pixel of an image, for all classes asked at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.samples import VOID, SegmentationData
from ..evaluation.runner import MethodRun
from ..geometry import normalize
from ..methods.esc_net import EscNetPredictor
from ..models.esc_net import ClipFeatures, encode_classes
from .label_map_samples import NO_CLASS, LabelMapSamples
from .loop import Batch
from .losses import bce_loss, dice_loss
from .recipe import EscNetRecipe


class EscNetStage:
    """Trains the network of a predictor on :class:`LabelMapSamples`."""

    def __init__(
        self,
        predictor: EscNetPredictor,
        data: SegmentationData,
        recipe: EscNetRecipe,
        mode: str | None,
    ) -> None:
        """Prepare the stage.

        Args:
            predictor: holds the network to train.
            data: what to train on.
            recipe: learning rates and loss.
            mode: in which it is validated; all are trained alike.
        """
        self.predictor, self.data, self.recipe = predictor, data, recipe
        self.name = predictor.info.id
        self.model = self.module = predictor.model
        self.runs: tuple[MethodRun, ...] = (MethodRun("it", mode or predictor.info.modes[0]),)

    def samples(self, pairs: tuple[tuple[int, int], ...]) -> LabelMapSamples:
        """See :class:`MethodStage`."""
        return LabelMapSamples(
            self.data,
            sorted({image for image, _ in pairs}),
            self.predictor.config.image_size,
            seed=self.recipe.seed,
            classes_per_image=self.recipe.classes_per_image,
            augmentation=self.recipe.augmentation,
        )

    def parameter_groups(self) -> list[dict]:
        """CLIP and SAM slower than the rest; norms without weight decay."""
        recipe = self.recipe
        return list(
            self.model.parameter_groups(recipe.lr, recipe.pretrained_lr, recipe.weight_decay)
        )

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Compute the loss of all classes, averaged over images, and the IoU of those present."""
        model, preset = self.model, self.predictor.backbones.preset
        features = model.encode_image(normalize(batch["clip"], preset.clip_mean, preset.clip_std))
        asked = batch["classes"].unique()
        asked = asked[asked != NO_CLASS]
        names = [self.data.names[index] for index in asked.tolist()]
        tokenizer = self.predictor.backbones.text.tokenizer
        text = encode_classes(model.clip, tokenizer, names, model.config.template)
        losses, ious = [], []
        # Image by image: each is asked for classes of its own, which compete in the network.
        for index, (classes, labels) in enumerate(
            zip(batch["classes"], batch["labels"], strict=True)
        ):
            dense, first, second = (
                tensor[index : index + 1] for tensor in (features.dense, *features.skips)
            )
            own = text[torch.searchsorted(asked, classes[classes != NO_CLASS])]
            own = with_noise(own, self.recipe.text_noise)
            logits = model(ClipFeatures(dense, (first, second)), own).logits.float()
            logits = F.interpolate(logits, labels.shape, mode="bilinear", align_corners=False)
            losses.append(label_map_loss(logits[0], labels, self.recipe.loss, self.recipe.dice))
            ious.append(_mean_iou(logits[0].detach(), labels))
        return torch.stack(losses).mean(), {"iou": torch.stack(ious).mean().item()}

    def finish(self, trained_on: SegmentationData) -> None:
        """See :class:`MethodStage`; nothing else depends on the weights."""


def with_noise(text: Tensor, largest: float) -> Tensor:
    """Turn each text feature into a random direction, as if the class had a stranger name.

    Args:
        text: unit-norm (N, D).
        largest: length of the vector that is added, drawn evenly from 0 to this for each class.

    Returns:
        unit-norm (N, D); its cosine with ``text`` is about 1 / √(1 + length²).
    """
    if not largest:
        return text
    lengths = largest * torch.rand(len(text), 1, device=text.device)
    return F.normalize(text + lengths * F.normalize(torch.randn_like(text), dim=-1), dim=-1)


def label_map_loss(logits: Tensor, labels: Tensor, kind: str, dice: float = 0.0) -> Tensor:
    """Loss of one image.

    Args:
        logits: (G, H, W).
        labels: int64 (H, W), see :class:`LabelMapSamples`.
        kind: ``bce``: every class in every pixel that is known; ``ce``: the softmax over the
            classes, in pixels of one of them.
        dice: weight of Dice, the mean over the classes that the image shows.
    """
    places = torch.arange(len(logits), device=logits.device)[:, None, None]
    targets, valid = (labels == places).to(logits), (labels != VOID).to(logits)
    if kind == "ce":
        counted = labels >= 0
        chosen = torch.where(counted, labels, 0)
        entropy = F.cross_entropy(logits[None], chosen[None], reduction="none")[0]
        loss = (entropy * counted).sum() / counted.sum().clamp(min=1)
    else:
        loss = bce_loss(logits[None], targets[None], valid[None, None])
    present = targets.flatten(1).any(1)
    if dice and present.any():
        loss = loss + dice * dice_loss(logits[present], targets[present], valid[None])
    return loss


def _mean_iou(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean IoU of the classes that an image shows, at logit 0."""
    places = torch.arange(len(logits), device=logits.device)[:, None, None]
    predicted, real = (logits > 0) & (labels != VOID), labels == places
    hits = (predicted & real).flatten(1).sum(1)
    union = (predicted | real).flatten(1).sum(1)
    present = real.flatten(1).any(1)
    return (hits / union.clamp(min=1))[present].sum() / present.sum().clamp(min=1)
