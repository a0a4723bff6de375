"""The Pseudo Prompt Generator, against hand-made maps and a plain loop over cells."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clipsam.models.esc_net.prompts import PseudoPrompts, first_argmax, generate_prompts

SIDE = 24


def by_hand(values: np.ndarray, count: int, alpha: float) -> list[set[tuple[int, int]]]:
    """The regions of one map as sets of (x, y), one cell at a time; float64."""
    standard = (values - values.mean()) / (values.std() + 1e-6)
    density = np.exp(standard) / np.exp(standard).sum()
    height, width = values.shape
    inside = [
        (x, y)
        for y in range(height)
        for x in range(width)
        if density[y, x] * values.size >= alpha or density[y, x] == density.max()
    ]
    centres = [max(inside, key=lambda cell: density[cell[1], cell[0]])]
    while len(centres) < count:

        def score(cell: tuple[int, int]) -> int:
            nearest = min((cell[0] - x) ** 2 + (cell[1] - y) ** 2 for x, y in centres)
            return nearest * 1024 + (values.size - 1 - (cell[1] * width + cell[0]))

        centres.append(max(inside, key=score))
    for step in range(11):
        regions: list[set[tuple[int, int]]] = [set() for _ in centres]
        for x, y in inside:
            distances = [(x - a) ** 2 + (y - b) ** 2 for a, b in centres]
            regions[int(np.argmin(np.float32(distances)))].add((x, y))
        if step < 10:
            centres = [
                tuple(np.float32(np.mean(list(cells), axis=0))) if cells else centre
                for cells, centre in zip(regions, centres, strict=True)
            ]
    return regions


def cells(region: torch.Tensor) -> set[tuple[int, int]]:
    return {(int(x), int(y)) for y, x in region.nonzero()}


def blobs(*corners: tuple[int, int], side: int = 4) -> torch.Tensor:
    """A map that is 1 in squares at (x, y), with a slope so that no two cells are equal."""
    values = torch.linspace(0, 0.01, SIDE * SIDE).view(SIDE, SIDE).clone()
    for x, y in corners:
        values[y : y + side, x : x + side] += 1
    return values


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_it_is_k_means(seed, alpha):
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.normal(size=(1, 1, 5, 5)))
    values = torch.nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bicubic")[0, 0]
    told = generate_prompts(values, 5, alpha)
    expected = by_hand(values.numpy(), 5, alpha)
    assert [cells(region) for region in told.regions] == expected
    assert told.valid.tolist() == [bool(region) for region in expected]
    for region, point, box in zip(expected, told.points.tolist(), told.boxes.tolist(), strict=True):
        assert tuple(point) == max(region, key=lambda cell: values[cell[1], cell[0]])
        xs, ys = zip(*region, strict=True)
        assert box == [min(xs), min(ys), max(xs), max(ys)]


def test_two_blobs_get_points_in_both():
    told = generate_prompts(blobs((2, 3), (17, 15)))
    assert told.valid.all()
    first = (told.points < 12).all(-1)
    assert 0 < first.sum() < 5
    assert cells(told.regions.any(0)) == {
        (x + i, y + j) for x, y in ((2, 3), (17, 15)) for i in range(4) for j in range(4)
    }
    # No region reaches over the gap.
    for box in told.boxes:
        assert (box[2:] - box[:2] < 4).all()


@pytest.mark.parametrize("value", [0.0, 0.3, -7.7])
def test_a_constant_map_is_foreground_everywhere(value):
    told = generate_prompts(torch.full((SIDE, SIDE), value))
    assert told.valid.all()
    assert (told.regions.sum(0) == 1).all()
    assert told.points.unique(dim=0).shape == (5, 2)


def test_with_one_cell_the_other_clusters_are_empty():
    values = torch.zeros(SIDE, SIDE)
    values[20, 7] = 1
    told = generate_prompts(values)
    assert told.valid.tolist() == [True] + [False] * 4
    assert told.points.tolist() == [[7, 20]] + [[0, 0]] * 4
    assert told.boxes.tolist() == [[7, 20, 7, 20]] + [[0, 0, 0, 0]] * 4
    assert cells(told.regions[0]) == {(7, 20)}
    assert not told.regions[1:].any()


def test_with_fewer_cells_than_clusters_each_cell_is_one():
    wanted = {(3, 4): 1.0, (4, 4): 0.9, (20, 1): 0.8}
    values = torch.zeros(SIDE, SIDE)
    for (x, y), value in wanted.items():
        values[y, x] = value
    told = generate_prompts(values)
    assert told.valid.tolist() == [True, True, True, False, False]
    # The best first, then the farthest from it.
    assert told.points[:3].tolist() == [[3, 4], [20, 1], [4, 4]]


def test_the_best_cell_is_foreground_at_any_level():
    values = torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    told = generate_prompts(values, alpha=1e6)
    assert told.regions.sum() == 1
    x, y = told.points[0]
    assert values[y, x] == values.max()


def test_an_absolute_level_without_standardising():
    values = 3 * torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    probability = values.double().flatten().softmax(0).view(SIDE, SIDE)
    told = generate_prompts(values, alpha=0.004, standardise=False)
    assert cells(told.regions.any(0)) == cells(probability >= 0.004)


def test_scale_and_offset_do_not_matter_when_standardised():
    values = torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    first, second = generate_prompts(values), generate_prompts(4 * values + 2)
    assert first.regions.equal(second.regions)


def test_each_map_is_treated_on_its_own():
    """However many maps there are, and in what precision the network around runs."""
    maps = torch.randn(3, 7, 16, 16, generator=torch.Generator().manual_seed(3))
    maps[1, 2] = 0.5
    maps[2, 4] = torch.eye(16)
    together = generate_prompts(maps)
    with torch.autocast("cpu", torch.bfloat16):
        lowered = generate_prompts(maps)
    for i in range(3):
        for j in range(7):
            alone = generate_prompts(maps[i, j])
            for name in ("points", "boxes", "valid", "regions"):
                assert getattr(together, name)[i, j].equal(getattr(alone, name))
                assert getattr(lowered, name)[i, j].equal(getattr(alone, name))
    parts = [generate_prompts(maps[:, :4]), generate_prompts(maps[:, 4:])]
    assert PseudoPrompts.cat(parts, dim=1).regions.equal(together.regions)


def test_ties_go_to_the_first():
    values = torch.tensor([[0.0, 2.0, 2.0], [1.0, 1.0, 1.0], [3.0, 0.0, 3.0]])
    assert first_argmax(values, -1).tolist() == [1, 0, 0]
    assert first_argmax(values, -2).tolist() == [2, 0, 2]
