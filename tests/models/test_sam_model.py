"""Batched decoding against segment-anything's decoder, one pair at a time."""

from __future__ import annotations

import pytest
import torch

from clipsam.models.sam_model import decode_masks

PAIRS = 3
GIVEN = ["points", "box", "dense", "points+box", "points+dense", "box+dense", "all", "nothing"]


@pytest.mark.parametrize("given", GIVEN)
@torch.no_grad()
def test_pairs_equal_single_calls(random_sam, given):
    generator = torch.Generator().manual_seed(3)
    embeddings = torch.randn(PAIRS, 256, 8, 8, generator=generator)
    coordinates = torch.rand(PAIRS, 4, 2, generator=generator) * 128
    labels = torch.tensor([[1, 0, 1, -1], [1, 1, -1, -1], [0, 0, 1, 1]])
    corners = torch.rand(PAIRS, 2, 2, generator=generator) * 128
    boxes = torch.cat((corners.amin(1), corners.amax(1)), dim=1)
    masks = torch.randn(PAIRS, 1, 32, 32, generator=generator)
    points = (coordinates, labels) if "points" in given or given == "all" else None
    boxes = boxes if "box" in given or given == "all" else None
    masks = masks if "dense" in given or given == "all" else None

    logits, scores = decode_masks(
        random_sam.mask_decoder, random_sam.prompt_encoder, embeddings, points, boxes, masks
    )

    assert logits.shape == (PAIRS, 4, 32, 32)
    for i in range(PAIRS):
        one = slice(i, i + 1)
        sparse, dense = random_sam.prompt_encoder(
            points=None if points is None else (coordinates[one], labels[one]),
            boxes=None if boxes is None else boxes[one],
            masks=None if masks is None else masks[one],
        )
        for multimask, kept in ((False, slice(0, 1)), (True, slice(1, 4))):
            expected, expected_scores = random_sam.mask_decoder(
                image_embeddings=embeddings[one],
                image_pe=random_sam.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=multimask,
            )
            torch.testing.assert_close(logits[one, kept], expected, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(scores[one, kept], expected_scores, atol=1e-5, rtol=1e-5)
