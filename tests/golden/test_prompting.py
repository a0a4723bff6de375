"""Similarity maps and seeded points against the authors' own numbers."""

from __future__ import annotations

import torch

from clipsam.prompting import sample_points, similarity_map


def test_similarity_map(golden):
    reference = golden("clip_similarity")
    patches = reference.outputs["similarity"][:, 1:, 0].unflatten(1, (8, 8))
    maps = similarity_map(patches, (96, 80))
    expected = reference.outputs["similarity_map"][..., 0]
    torch.testing.assert_close(maps, expected, atol=1e-5, rtol=0)


def test_reference_points(golden):
    reference = golden("clip_similarity")
    inside = reference.inputs["points_mask"][:, 0] > 0
    generator = torch.Generator().manual_seed(reference.config["seed"])
    count = reference.config["num_points"]
    points = torch.stack([sample_points(m, count, generator, "reference") for m in inside])
    assert torch.equal(points, reference.outputs["points_seed7"])
