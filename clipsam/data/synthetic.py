"""Synthetic scenes: any number of images with exact masks and class names, free of licences.

A class is a surface and a shape ("striped star"). Some pairs are excluded from training, to
measure generalisation to unseen combinations of seen words.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from .samples import BACKGROUND, LabelledImage

SHAPES = ("disc", "square", "triangle", "star", "ring", "cross", "crescent", "heart")
COLOURS = {
    "red": (205, 45, 45),
    "green": (50, 150, 60),
    "blue": (45, 85, 200),
    "yellow": (225, 195, 50),
}
TEXTURES = ("striped", "dotted", "checked", "speckled")
SURFACES = (*COLOURS, *TEXTURES)

CLASS_NAMES = tuple(f"{surface} {shape}" for surface, shape in itertools.product(SURFACES, SHAPES))

UNSEEN = (
    *(f"{surface} {SHAPES[(2 * i + 3) % 8]}" for i, surface in enumerate(SURFACES)),
    "red ring",
    "checked disc",
    "yellow heart",
    "striped crescent",
)
"""Pairs excluded from all training; every shape and every surface occurs in other pairs."""

SEEN = tuple(name for name in CLASS_NAMES if name not in UNSEEN)

Mode = Literal["plain", "camouflage"]


@dataclass(frozen=True)
class SceneData:
    """A seeded data set of ``length`` synthetic scenes.

    Attributes:
        length: number of scenes.
        seed: scenes of different seeds differ; scene i of a seed is always the same.
        pairs: which classes occur: ``seen``, ``unseen`` or ``all``.
        mode: ``camouflage`` gives object and background the same texture, differing only in
            phase or scale.
        size: side of the square image, pixels.
    """

    length: int
    seed: int = 0
    pairs: Literal["seen", "unseen", "all"] = "seen"
    mode: Mode = "plain"
    size: int = 256

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the pairs that may occur; a training set does not contain the others."""
        return {"seen": SEEN, "unseen": UNSEEN, "all": CLASS_NAMES}[self.pairs]

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Names of the scenes."""
        return tuple(map(self._key, range(self.length)))

    def _key(self, index: int) -> str:
        return f"{self.pairs}-{self.mode}-{self.seed}-{index}"

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> LabelledImage:
        if not 0 <= index < self.length:
            raise IndexError(f"scene {index} of {self.length}")
        rng = np.random.default_rng((self.seed, index, self.mode == "camouflage"))
        return render_scene(rng, self.names, self.mode, self.size, self._key(index))


def render_scene(
    rng: np.random.Generator,
    names: tuple[str, ...] = CLASS_NAMES,
    mode: Mode = "plain",
    size: int = 256,
    key: str = "scene",
) -> LabelledImage:
    """Draw one scene of one to six objects, later ones partly over earlier ones.

    Args:
        rng: random generator.
        names: classes that may occur; in camouflage only those of one texture do.
        mode: plain or camouflage.
        size: side of the image, pixels.
        key: name of the scene.
    """
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) + 0.5
    if mode == "camouflage":
        kinds = sorted({name.split()[0] for name in names} & set(TEXTURES))
        shared = _Texture.random(rng, size, str(rng.choice(kinds)))
        allowed = [name for name in names if name.startswith(shared.kind)]
        image = shared.paint(rng, rows, columns)
        count = int(rng.integers(1, 3))
    else:
        allowed = list(names)
        image = _background(rng, rows, columns, size)
        count = int(rng.integers(1, 7))
    classes = np.full((size, size), BACKGROUND, np.int16)
    segments = np.zeros((size, size), np.int32)
    for number in range(1, count + 1):
        name = str(rng.choice(allowed))
        surface, shape = name.split()
        extent = size * rng.uniform(0.12, 0.3 if count > 2 else 0.42)
        centre = _least_crowded(rng, segments, extent)
        inside = shape_mask(shape, rows, columns, centre, extent, rng.uniform(-0.5, 0.5))
        if mode == "camouflage":
            paint = shared.displaced(rng).paint(rng, rows, columns)
        else:
            paint = _surface(rng, surface, rows, columns, size)
        image = np.where(inside[..., None], paint, image)
        classes[inside] = names.index(name)
        segments[inside] = number
    light = 1 + rng.uniform(-0.25, 0.25) * (columns / size - 0.5) + rng.uniform(-0.1, 0.1)
    image = image * light[..., None] + rng.normal(0, rng.uniform(1, 6), image.shape)
    image = np.clip(image, 0, 255).astype(np.uint8)
    return LabelledImage(key, image, classes, segments, names, tells_objects=True)


def _least_crowded(rng: np.random.Generator, segments: np.ndarray, extent: float) -> np.ndarray:
    """Return the one of four random positions that covers the fewest object pixels."""
    size = len(segments)
    places = rng.uniform(0.6 * extent, size - 0.6 * extent, (4, 2))

    def hidden(place: np.ndarray) -> int:
        top, left = np.maximum(place - extent, 0).astype(int)
        bottom, right = (place + extent).astype(int)
        return int(np.count_nonzero(segments[top:bottom, left:right]))

    return min(places, key=hidden)


def shape_mask(
    shape: str,
    rows: np.ndarray,
    columns: np.ndarray,
    centre: np.ndarray,
    extent: float,
    angle: float,
) -> np.ndarray:
    """Return the pixels inside a shape: bool, with the shape of ``rows``.

    Args:
        shape: one of :data:`SHAPES`.
        rows, columns: pixel-centre coordinates.
        centre: (row, column).
        extent: half the side of the square that holds the shape, pixels.
        angle: rotation, radians.
    """
    dy, dx = (rows - centre[0]) / extent, (columns - centre[1]) / extent
    x = dx * np.cos(angle) + dy * np.sin(angle)
    y = dy * np.cos(angle) - dx * np.sin(angle)
    radius = np.hypot(x, y)
    if shape == "disc":
        return radius < 0.9
    if shape == "square":
        return np.maximum(abs(x), abs(y)) < 0.8
    if shape == "triangle":
        return (y < 0.75) & (y > 1.7 * abs(x) - 0.85)
    if shape == "star":
        sector = np.mod(np.arctan2(x, -y), 2 * np.pi / 5) - np.pi / 5
        # Distance to the edge between an outer tip (radius 1) and an inner corner (radius 0.42).
        tip = np.array([np.cos(np.pi / 5), np.sin(np.pi / 5)])
        corner = np.array([0.42, 0.0])
        px, py = radius * np.cos(sector), radius * abs(np.sin(sector))
        cross = (tip[0] - corner[0]) * (py - corner[1]) - (tip[1] - corner[1]) * (px - corner[0])
        return cross > 0
    if shape == "ring":
        return (radius < 0.95) & (radius > 0.52)
    if shape == "cross":
        return ((abs(x) < 0.3) & (abs(y) < 0.95)) | ((abs(y) < 0.3) & (abs(x) < 0.95))
    if shape == "crescent":
        return (radius < 0.95) & (np.hypot(x - 0.45, y) > 0.72)
    if shape == "heart":
        u, v = 1.25 * x, -1.25 * y + 0.1
        return (u**2 + v**2 - 0.8) ** 3 < u**2 * v**3
    raise ValueError(f"unknown shape {shape!r}, expected one of {', '.join(SHAPES)}")


@dataclass(frozen=True)
class _Texture:
    """A two-tone pattern that can be painted anywhere."""

    kind: str
    period: float
    angle: float
    phase: tuple[float, float]
    tones: tuple[np.ndarray, np.ndarray]

    @classmethod
    def random(cls, rng: np.random.Generator, size: int, kind: str) -> _Texture:
        dark, light = rng.uniform(10, 110, 3), rng.uniform(140, 250, 3)
        tones = (dark, light) if rng.random() < 0.5 else (light, dark)
        period = size * rng.uniform(0.045, 0.085)
        phase = tuple(rng.uniform(0, 1, 2))
        return cls(kind, period, rng.uniform(0, np.pi), phase, tones)

    def displaced(self, rng: np.random.Generator) -> _Texture:
        """Return the texture of a camouflaged object: shifted by half a period, or rescaled."""
        if rng.random() < 0.5 and self.kind != "speckled":
            phase = (self.phase[0] + 0.5, self.phase[1] + (0.5 if self.kind == "dotted" else 0.0))
            return _Texture(self.kind, self.period, self.angle, phase, self.tones)
        scale = rng.choice([0.6, 1.6])
        return _Texture(self.kind, self.period * scale, self.angle, self.phase, self.tones)

    def paint(self, rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Paint the texture: float (H, W, 3)."""
        u = (columns * np.cos(self.angle) + rows * np.sin(self.angle)) / self.period + self.phase[0]
        v = (rows * np.cos(self.angle) - columns * np.sin(self.angle)) / self.period + self.phase[1]
        if self.kind == "striped":
            first = np.mod(u, 1) < 0.5
        elif self.kind == "dotted":
            first = np.hypot(np.mod(u, 1) - 0.5, np.mod(v, 1) - 0.5) > 0.3
        elif self.kind == "checked":
            first = (np.floor(2 * u) + np.floor(2 * v)) % 2 == 0
        else:
            grain = max(1, round(self.period / 5))
            coarse = rng.random((rows.shape[0] // grain + 1, rows.shape[1] // grain + 1))
            first = np.kron(coarse, np.ones((grain, grain)))[: rows.shape[0], : rows.shape[1]] < 0.5
        return np.where(first[..., None], self.tones[0], self.tones[1])


def _surface(
    rng: np.random.Generator, surface: str, rows: np.ndarray, columns: np.ndarray, size: int
) -> np.ndarray:
    if surface in COLOURS:
        colour = np.array(COLOURS[surface]) + rng.normal(0, 14, 3)
        return np.broadcast_to(colour, (*rows.shape, 3))
    return _Texture.random(rng, size, surface).paint(rng, rows, columns)


def _background(
    rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray, size: int
) -> np.ndarray:
    """Paint a background from plain to textured, never one of the named surfaces."""
    base = np.full(3, rng.uniform(40, 220)) + rng.normal(0, 22, 3)
    image = np.broadcast_to(base, (size, size, 3)).copy()
    kind = rng.integers(0, 4)
    if kind >= 1:
        slope = rng.normal(0, 45, (2, 3))
        image += (rows / size - 0.5)[..., None] * slope[0]
        image += (columns / size - 0.5)[..., None] * slope[1]
    if kind >= 2:
        cells = int(rng.integers(3, 12))
        field = rng.normal(0, 20, (cells + 1, cells + 1, 3))
        image += _smooth(field, rows / size * cells, columns / size * cells)
    if kind == 3:
        image += rng.normal(0, rng.uniform(6, 16), (size, size, 1))
    return image


def _smooth(field: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Interpolate a coarse field (n + 1, n + 1, C) bilinearly at coordinates 0..n."""
    i = np.minimum(y.astype(int), field.shape[0] - 2)
    j = np.minimum(x.astype(int), field.shape[1] - 2)
    a, b = (y - i)[..., None], (x - j)[..., None]
    top = field[i, j] * (1 - b) + field[i, j + 1] * b
    bottom = field[i + 1, j] * (1 - b) + field[i + 1, j + 1] * b
    return top * (1 - a) + bottom * a
