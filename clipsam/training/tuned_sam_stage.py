"""Training of a method (CLIP-Guided SAM, section 3.4; the others in the same way).

A sample is an image and classes present in it; the loss is BCE + Dice + IoU on SAM's single mask.
SAM is prompted as it will be in use: with points from CLIP's map or with clicks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.samples import SegmentationData
from ..evaluation.runner import MANUAL, MethodRun
from ..geometry import SquareTransform, normalize
from ..methods.tuned_sam import TunedSamPredictor
from ..models.clip import normalize_tokens, similarity_grid
from ..models.image_encoder import embed_patches, run_plain_blocks
from ..models.sam_model import decode_masks
from ..prompting import PromptSettings
from ..sam_prompting import map_mask, map_points
from .calibration import calibrate_clip
from .loop import Batch
from .losses import combined_loss
from .prompted_samples import PromptedSamples
from .recipe import TunedSamRecipe


class TunedSamStage:
    """Trains the network of a predictor on :class:`PromptedSamples`."""

    def __init__(
        self,
        predictor: TunedSamPredictor,
        data: SegmentationData,
        recipe: TunedSamRecipe,
        mode: str | None,
    ) -> None:
        """Prepare the stage.

        Args:
            predictor: holds the network to train; it takes over how prompts are made, for its
                validation and its bundle.
            data: what to train on.
            recipe: learning rates, losses and prompts.
            mode: the only one to train for; ``None`` trains for all, in equal shares.
        """
        self.predictor, self.data, self.recipe = predictor, data, recipe
        self.name, self.config = predictor.info.id, predictor.config
        self.model = self.module = predictor.model
        self.preset = predictor.backbones.preset
        threshold = recipe.point_threshold
        if threshold is None:
            threshold = predictor.calibration.point_threshold
        self.prompts = predictor.prompt_settings = PromptSettings(
            recipe.num_points, recipe.sampling, threshold, recipe.dense_logit
        )
        self.model.image_encoder.checkpoint_activations = recipe.checkpoint_activations
        self.text = predictor.text([(name,) for name in data.names])
        modes = (mode,) if mode else predictor.info.modes
        self.manual_share = modes.count(MANUAL) / len(modes)
        self.runs = tuple(
            MethodRun("it", m, recipe.num_points if m == MANUAL else 0) for m in modes
        )

    def samples(self, pairs: tuple[tuple[int, int], ...]) -> PromptedSamples:
        """See :class:`MethodStage`."""
        recipe = self.recipe
        return PromptedSamples(
            self.data,
            pairs,
            self.preset,
            seed=recipe.seed,
            classes_per_image=recipe.classes_per_image,
            clicks=(min(recipe.fewest_clicks, recipe.num_points), recipe.num_points),
            manual_share=self.manual_share,
            augmentation=recipe.augmentation,
            target_side=recipe.target_scale * self.preset.sam.mask_side,
        )

    def finish(self, trained_on: SegmentationData) -> None:
        """See :class:`MethodStage`: a CLIP that was tuned along has other similarities."""
        predictor, vision = self.predictor, self.model.vision
        if vision is None or self.config.clip_blocks == 0:
            return
        measured = calibrate_clip([trained_on], vision, predictor.text, self.preset)
        # The network has learnt to read prompts made at its threshold, which stays.
        predictor.calibration = replace(measured, point_threshold=self.prompts.point_threshold)

    def parameter_groups(self) -> list[dict]:
        """SAM's side with weight decay, CLIP's attention slower and without."""
        vision = [] if self.model.vision is None else list(self.model.vision.parameters())
        theirs = [p for p in vision if p.requires_grad]
        clip = {id(p) for p in vision}
        ours = [p for p in self.model.parameters() if p.requires_grad and id(p) not in clip]
        recipe = self.recipe
        groups = [{"params": ours, "lr": recipe.lr, "weight_decay": recipe.weight_decay}]
        if theirs:
            groups.append({"params": theirs, "lr": recipe.clip_lr, "weight_decay": 0.0})
        return groups

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """BCE + Dice + IoU over the classes of a batch, and the IoU of the masks."""
        model, config, preset = self.model, self.config, self.preset
        count, group = batch["classes"].shape
        owners = torch.arange(count, device=batch["classes"].device).repeat_interleave(group)
        text = self.text[batch["classes"].flatten()]
        transforms = [
            SquareTransform((int(h), int(w)), preset.sam.image_size, preset.fit)
            for h, w in batch["content"].tolist()
        ]
        tokens = similarity = dense = None
        sam_input, clip_input = self._stem_inputs(batch)
        if config.clip is not None:
            tokens = self._tokens(clip_input)[owners]
            similarity = similarity_grid(tokens, text).detach().float()
        if config.dense_prompt and similarity is not None:
            dense = self._dense(similarity, transforms, group)
        points, labels = self._points(batch, similarity, transforms)
        embeddings = self._embed(sam_input, tokens, text, transforms, owners)
        logits, _ = decode_masks(
            model.mask_decoder, model.prompt_encoder, embeddings, (points, labels), dense=dense
        )
        targets = batch["targets"].flatten(0, 1)
        valid = batch["valid"][owners]
        logits = F.interpolate(
            logits[:, :1].float(), targets.shape[-2:], mode="bilinear", align_corners=False
        )
        loss = combined_loss(logits, targets, valid, self.recipe.loss_weights)
        with torch.no_grad():
            predicted, real = (logits > 0) & (valid > 0), (targets > 0.5) & (valid > 0)
            union = (predicted | real).flatten(1).sum(1).clamp(min=1)
            iou = ((predicted & real).flatten(1).sum(1) / union).mean().item()
        return loss, {"iou": iou}

    def _stem_inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the inputs of SAM's and CLIP's first layers; a shared trunk runs once."""
        preset = self.preset
        sam = normalize(batch["sam"], preset.sam_mean, preset.sam_std)
        if preset.has_trunk:
            features = self.model.image_encoder.patch_embed.proj.see(sam)
            return features, features
        if preset.clip_from_sam_input:
            side = preset.clip.surgery_size
            return sam, F.interpolate(sam, (side, side), mode="bilinear")
        sam = sam * _content_mask(batch["content"], sam.shape[-1])
        return sam, normalize(batch["clip"], preset.clip_mean, preset.clip_std)

    def _tokens(self, clip_input: Tensor) -> Tensor:
        """CLIP's normalised tokens (B, 1 + N, T), with gradients where its attention is tuned."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.clip_blocks != 0):
            if self.model.vision is None:
                raise ValueError(f"{self.name} does not read CLIP's image features")
            tokens = self.model.vision(clip_input).float()
            return normalize_tokens(tokens, self.preset.feature_norm)

    def _dense(
        self, similarity: Tensor, transforms: Sequence[SquareTransform], group: int
    ) -> Tensor:
        side = self.preset.sam.mask_side
        maps = similarity.unflatten(0, (-1, group))
        return torch.cat(
            [
                map_mask(own, transform, self.prompts, side)
                for own, transform in zip(maps, transforms, strict=True)
            ]
        )

    def _embed(
        self,
        sam_input: Tensor,
        tokens: Tensor | None,
        text: Tensor,
        transforms: Sequence[SquareTransform],
        owners: Tensor,
    ) -> Tensor:
        """Image embeddings (B · G, 256, h, w); what all classes of an image share is run once."""
        encoder, adapters = self.model.image_encoder, self.config.adapters
        with torch.no_grad():  # before the first adapter there is nothing to train
            patches = embed_patches(encoder, sam_input)
            prefix = run_plain_blocks(encoder, patches, 0, encoder.first_adapted)
        if adapters is None or not adapters.sees_class:
            return encoder.run_adapted(prefix)[owners]
        grids = [transform.cell_positions(prefix.shape[1]) for transform in transforms]
        grid = torch.cat(grids).to(prefix.device)[owners]
        return encoder.run_adapted(prefix[owners], self.model.condition(tokens, text, grid))

    def _points(
        self, batch: Batch, similarity: Tensor | None, transforms: Sequence[SquareTransform]
    ) -> tuple[Tensor, Tensor]:
        """Points (B · G, K, 2) in pixels of SAM's input and labels (B · G, K), -1 for none."""
        points = batch["clicks"].flatten(0, 1).clone()
        labels = batch["click_labels"].flatten(0, 1).clone()
        manual, draws = batch["manual"].flatten(), batch["draws"].flatten().tolist()
        group = batch["classes"].shape[1]
        for row in (~manual).nonzero()[:, 0].tolist():
            if similarity is None:
                raise ValueError(f"{self.name} has no map to draw points from")
            transform = transforms[row // group]
            found = map_points(similarity[row, None], transform, self.prompts, draws[row])
            # A map without a point leaves the dense prompt alone to say where to look.
            labels[row] = -1
            labels[row, : len(found)] = 1
            points[row, : len(found)] = torch.from_numpy(transform.coordinates(found)).to(points)
        return points, labels


def _content_mask(content: Tensor, side: int) -> Tensor:
    """1 where the square shows the image, 0 in the padding: (B, 1, side, side)."""
    index = torch.arange(side, device=content.device)
    rows, columns = index < content[:, :1], index < content[:, 1:]
    return (rows[:, None, :, None] & columns[:, None, None]).float()
